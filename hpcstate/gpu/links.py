"""What is wrong with the links between a node's GPUs: the fabric of NVSwitches, and NVLink. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from hpcstate.gpu.steps import DRAINED_RESET
from hpcstate.gpu.xids import Severity
from hpcstate.probe.nvidia_smi import NvidiaSmi
from hpcstate.probe.nvidia_smi_xml import Fabric
from hpcstate.probe.nvidia_topology import NvidiaTopology

_FABRIC_STEP = (
    "systemctl status nvidia-fabricmanager; its version must be the driver's, and it needs all NVSwitches: "
    "one GPU alone in a guest works without them by `options nvidia NVreg_NvLinkDisable=1` in modprobe.d"
)
SWITCH_RESET = (
    "drain the node, end all its GPU programs, and reset GPUs and NVSwitches together (nvidia-smi -r), or "
    "reboot; if it comes again, ask the vendor with nvidia-bug-report.sh"
)
SWITCH_WATCH = "nothing at once; if it grows, ask the vendor with nvidia-bug-report.sh"
_LEAST_OTHERS = 3
"""A bridge links two GPUs, and leaves others beside them on purpose; three and more that all reach each other
are a fabric."""

_HEALTH: Mapping[str, tuple[Mapping[str, Severity], str]] = {
    "summary": ({"Unhealthy": "error", "Limited Capacity": "warning"}, "the NVLink fabric is {}"),
    "bandwidth": ({"Degraded": "warning"}, "the bandwidth of its NVLinks is degraded"),
    "route_unhealthy": ({"True": "error"}, "a route of the NVLink fabric is unhealthy"),
    "route_recovery_in_progress": ({"True": "error"}, "a route of the NVLink fabric is being recovered"),
    "access_timeout_recovery": ({"True": "error"}, "the NVLink fabric recovers from a timeout"),
}
"""NVML, Fabric definitions (nvmlGpuFabricInfo): the words of each element that say something; DCGM's health
check fails for those that are errors here."""


def of_fabric(fabric: Fabric) -> Iterator[tuple[Severity, str, str]]:
    """Severity, what is wrong, and the next step, of a GPU's place in the fabric.

    Until its registration is ``Completed`` with ``Success``, each CUDA program fails with error 802 (system
    not yet initialized; NVIDIA, Fabric Manager User Guide, NVSwitch and NVLink Initialization).
    """
    state, status = fabric["state"], fabric["status"]
    if state in ("Not Started", "In Progress"):
        what = f"its place in the NVLink fabric is {state.lower()}: CUDA programs fail with error 802"
        yield "error", what, _FABRIC_STEP
    elif state and status and status != "Success":
        what = f"it was refused by the NVLink fabric ({status}): CUDA programs fail with error 802"
        yield "error", what, _FABRIC_STEP
    told = False
    for name, (words, what) in _HEALTH.items():
        said = fabric["health"].get(name, "")
        if said in words and not (told and words[said] == "error"):
            told = told or words[said] == "error"
            yield words[said], what.format(said.lower()), DRAINED_RESET
    wrong = fabric["health"].get("incorrect_configuration", "")
    if wrong not in ("", "None", "False"):
        yield "error", f"the NVLink fabric is configured wrongly: {wrong}", _FABRIC_STEP


_WIDTH_STEP = (
    "lspci -vv -s {address} shows LnkCap and LnkSta; power the host off and reseat the card, its riser and "
    "cables; or its slot has no more lanes: the board's manual says"
)


def of_width(host: _Host) -> Iterator[tuple[Severity, str, str, str]]:
    """The GPUs whose PCIe link is narrower than that of others of their model: nothing fails, all is slower
    (NVIDIA/NVSentinel#890). What all have alike is how the machine was built.
    """
    widths = {gpu["address"]: (gpu["name"], gpu["link_width"] or 0) for gpu in host.smi["gpus"]}
    for address, (name, width) in widths.items():
        most = max(other for model, other in widths.values() if model == name)
        if 0 < width < most:
            what = f"its PCIe link has {width} lanes, and that of others of its model here {most}"
            yield "warning", address, what, _WIDTH_STEP.format(address=address)


class _Host(Protocol):
    @property
    def smi(self) -> NvidiaSmi: ...
    @property
    def topology(self) -> NvidiaTopology: ...


def of_topology(host: _Host) -> Iterator[tuple[Severity, str, str, str]]:
    """The GPUs that are off NVLink, or have fewer links, where all others of their model are linked.

    NVIDIA's Health Validation (nvlink_active) calls a GPU with inactive links critical. GPUs in MIG mode
    have no NVLink to others.
    """
    gpus = {gpu["index"]: gpu for gpu in host.smi["gpus"] if gpu["mig_mode"] != "Enabled"}
    rows = {row["index"]: row["links"] for row in host.topology["gpus"] if row["index"] in gpus}
    for model in {gpu["name"] for gpu in gpus.values()}:
        alike = [index for index in rows if gpus[index]["name"] == model]
        widths = {
            index: {other: int(link[2:]) for other, link in rows[index].items() if link.startswith("NV")}
            for index in alike
        }
        reached = {index: set(widths[index]) & set(alike) for index in alike}
        # The largest set in which each reaches all others; where there is a fabric, the rest reaches nothing.
        joined = max((reached[index] | {index} for index in alike), key=len, default=set())
        outside = [index for index in alike if index not in joined]
        whole = all(reached[index] | {index} == joined for index in joined)
        if not whole or len(joined) < _LEAST_OTHERS or len(outside) >= len(joined):
            continue
        for index in outside:
            if not reached[index]:
                other = next(iter(rows[index].values()), "nothing")
                yield (
                    "error",
                    gpus[index]["address"],
                    f"it is off NVLink ({other} to the others, which reach each other by NVLink)",
                    f"{DRAINED_RESET.format(index=index)}; nvidia-smi nvlink -s -i {index} shows its links",
                )
        most = max(width for index in joined for width in widths[index].values())
        step = "nvidia-smi nvlink -s -i {index} shows which are down; " + DRAINED_RESET
        for index in sorted(joined):
            if (widest := max(widths[index].values())) < most:
                what = f"it has {widest} NVLinks where the others have {most}"
                yield "warning", gpus[index]["address"], what, step.format(index=index)
