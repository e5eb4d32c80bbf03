"""What is wrong with a node's NVIDIA GPUs, decided by its facts. Pure, but for :func:`read_host`.

An error is for a GPU, or a node, that must get no jobs; a warning for one that works and wants a look; a
note for what only concerned a job. Simulated GPUs have no health.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from hpcstate.gpu import links
from hpcstate.gpu.steps import DRAINED_REBOOT, DRAINED_RESET, POWER, REPLACE
from hpcstate.gpu.xids import (
    LINKED,
    RECOVERY,
    TELLS_RECOVERY,
    Severity,
    judged,
    known_xids,
    recovery,
    took_back,
)
from hpcstate.probe import gpu as gpu_probe
from hpcstate.probe import nvidia_smi, nvidia_topology
from hpcstate.probe import xid as xid_probe
from hpcstate.probe.gpu import Gpus
from hpcstate.probe.nvidia_smi import NvidiaSmi
from hpcstate.probe.nvidia_smi_xml import NvidiaGpu
from hpcstate.probe.nvidia_topology import NvidiaTopology
from hpcstate.probe.xid import FailureKind, GpuFailure, KernelLog, SwitchError, Xid

_UNKNOWN_WISH = "Xid 154 of this GPU says more; the documents of this driver say what is to be done"

_OfGpu = Iterator[tuple[Severity, str, str]]


def of_gpu(gpu: NvidiaGpu) -> _OfGpu:
    """Severity, what is wrong, and the next step; ``{index}`` in a step stands for nvidia-smi's index."""
    yield from _broken(gpu)
    if gpu["name"].endswith(_INTEGRATED):
        yield (
            "note",
            "it is a part of a Jetson's processor, on no bus: nvidia-smi tells nothing of it",
            _JETSON,
        )
    yield from _memory(gpu)
    yield from links.of_fabric(gpu["fabric"])
    yield from _modes(gpu)
    yield from _held(gpu)


_INTEGRATED = "(nvgpu)"
_JETSON = (
    "tegrastats shows its load and heat; it is no device that a guest could get, and has no /dev/nvidiaN"
)


def _broken(gpu: NvidiaGpu) -> _OfGpu:
    reasons = set(gpu["unreadable"].values())
    for reason in sorted(reasons):
        dead = reason.startswith(("GPU is lost", "GPU requires reset", "ERR!"))
        where = ", ".join(sorted(name for name, text in gpu["unreadable"].items() if text == reason))
        step = POWER if reason.startswith("GPU is lost") else DRAINED_RESET
        yield "error" if dead else "warning", f"it cannot be read: {reason} (in {where})", step
    if gpu["recovery_action"] and (wish := recovery(gpu["recovery_action"])) != "None":
        step = RECOVERY.get(wish, _UNKNOWN_WISH).format(one=" -i {index}")
        yield "error", f"the driver asks for: {gpu['recovery_action']}", step


def _memory(gpu: NvidiaGpu) -> _OfGpu:
    if gpu["remapped_rows_failed"]:
        yield "error", "a bad row of its memory could not be remapped", REPLACE
    if gpu["unrepairable_memory"]:
        # What Xid 157 tells from the driver's side; DCGM's health check fails for it.
        yield "error", "a part of its memory is bad and cannot be repaired", REPLACE
    for part in gpu["repair_pending"]:
        # Xid 156 in NVIDIA's catalog: RESET_GPU.
        what = {"channel": "a channel of its memory", "tpc": "one of its processing clusters (TPC)"}[part]
        yield "error", f"{what} waits to be repaired by a reset", DRAINED_RESET
    if gpu["sram_threshold_exceeded"]:
        yield (
            "error",
            "too many uncorrectable errors of its SRAM",
            "run NVIDIA's field diagnostic; replace the GPU",
        )
    if gpu["retired_pages_pending"]:
        # nvidia-smi(1): such pages "can still be allocated, and may cause further reliability issues".
        yield "error", "retired pages of its memory are still in use", DRAINED_RESET
    if gpu["remapped_rows_pending"]:
        # NVIDIA, Error Recovery and Response Flags: new workloads can be launched even with the flag set.
        yield "warning", "bad rows of its memory wait to be remapped by a reset", DRAINED_RESET
    if gpu["ecc_uncorrected_volatile"]:
        yield (
            "warning",
            f"{gpu['ecc_uncorrected_volatile']} uncorrectable memory errors since the driver was loaded",
            "jobs of that time may have died of them; the Xids and the pending rows say what is to be done",
        )


_SLOWED = {
    "power_brake": ("an external power brake slows it down", "look at the power supply of its machine"),
    "thermal": ("heat slows it down", "look at the cooling of its machine"),
    "hardware": ("its hardware slows it down: heat, or too little power", "look at power and cooling"),
}
_LICENCE_STEP = (
    "systemctl status nvidia-gridd: it needs a token (/etc/nvidia/ClientConfigToken) and the right time"
)


def _held(gpu: NvidiaGpu) -> _OfGpu:
    """What keeps a GPU that works from its speed."""
    for reason in gpu["slowed_by"]:
        yield "warning", *_SLOWED[reason]
    if gpu["licence"] == "Unlicensed (Restricted)":
        # NVIDIA AI Enterprise, vGPU for Compute Licensing: after 20 minutes "reduced to an idle level".
        yield "error", "this virtual GPU has no licence, and is slowed down to nothing", _LICENCE_STEP
    elif gpu["licence"].startswith("Unlicensed"):
        yield (
            "warning",
            "this virtual GPU has no licence yet: it is slowed down after 20 minutes",
            _LICENCE_STEP,
        )


def _modes(gpu: NvidiaGpu) -> _OfGpu:
    for name, current, pending in (
        ("MIG mode", gpu["mig_mode"], gpu["mig_mode_pending"]),
        ("ECC mode", gpu["ecc_mode"], gpu["ecc_mode_pending"]),
    ):
        if current != pending and current and pending:
            yield "warning", f"{name} is {current}, and {pending} after the next reset", DRAINED_RESET
    if gpu["mig_mode"] == "Enabled" and not gpu["mig_devices"]:
        # NVIDIA MIG user guide, Creating GPU Instances: without them no CUDA program can run on the GPU.
        yield (
            "error",
            "MIG is on without a MIG device: no program can use it",
            "create them, or nvidia-smi -i {index} -mig 0",
        )
    if gpu["compute_mode"] == "Prohibited":
        yield (
            "error",
            "its compute mode is Prohibited: no program can use it",
            "nvidia-smi -i {index} -c DEFAULT",
        )
    if gpu["persistence_mode"] == "Disabled":
        yield (
            "warning",
            "persistence mode is off: between jobs the driver forgets settings and ECC counts, and each job "
            "waits for it to start",
            "systemctl enable --now nvidia-persistenced",
        )


_SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
_EXIT_CODES: dict[int, tuple[Severity, str, str]] = {
    4: ("warning", "this user may not ask it", "read the node as root"),
    6: (
        "error",
        "it finds no GPU",
        "look at the kernel log (dmesg | grep NVRM): the driver could not start one",
    ),
    8: ("error", "a GPU's power cables are not attached", "power off and check them"),
    9: ("error", "the driver does not answer it", "modprobe nvidia; dmesg | grep NVRM tells why it fails"),
    10: ("error", "the kernel has trouble with a GPU's interrupts", DRAINED_REBOOT),
    12: ("error", "NVML's library is missing", "install the driver's libraries in the version of the module"),
    13: ("error", "NVML's library is too old for it", "install both in the version of the kernel module"),
    14: ("warning", "a GPU's infoROM is corrupted", "its ECC and serial data are not kept: ask the vendor"),
    15: ("error", "a GPU has fallen off the bus", POWER),
}
"""nvidia-smi(1) 550.163.01, RETURN VALUE."""

_VERSION_MISMATCH = 18
"""NVML_ERROR_LIB_RM_VERSION_MISMATCH (nvml.h): nvidia-smi exits with it, its manual does not list it."""


@dataclass(frozen=True)
class GpuHost:
    """What the facts say of the GPUs of one node."""

    gpus: Gpus
    smi: NvidiaSmi
    topology: NvidiaTopology
    log: KernelLog

    def label(self, address: str) -> str:
        """``GPU 0 (0000:01:00.0)`` with nvidia-smi's index, or the address alone where it has none."""
        index = next((str(gpu["index"]) for gpu in self.smi["gpus"] if gpu["address"] == address), "")
        return f"GPU {index} ({address})" if index else f"GPU {address}"


@dataclass(frozen=True)
class Finding:
    """``what`` is wrong with the GPU at ``address`` of ``node``, or with the node when that is empty, and the
    next ``step``. ``where`` names both for people.
    """

    severity: Severity
    node: str
    address: str
    where: str
    what: str
    step: str


def read_host(ask: Callable[[str], str]) -> GpuHost:
    """The node whose shell ``ask`` runs a command in as root, and returns what it prints."""
    return GpuHost(
        gpus=gpu_probe.parse(ask(gpu_probe.command())),
        smi=nvidia_smi.parse(ask(nvidia_smi.command())),
        topology=nvidia_topology.parse(ask(nvidia_topology.command())),
        log=xid_probe.parse(ask(xid_probe.command())),
    )


def findings(node: str, host: GpuHost) -> tuple[Finding, ...]:
    """Everything to be said of ``node``, errors first. Nothing of a node without an NVIDIA GPU."""
    gpus = host.gpus
    if not gpus["driver"] and not gpus["bus"]:
        return ()
    found: list[Finding] = []

    def add(severity: Severity, address: str, what: str, step: str) -> None:
        where = f"{node}, {host.label(address)}" if address else node
        found.append(Finding(severity, node, address, where, what, step))

    for rule in (_driver, _missing, _failures, _gpus, links.of_topology, links.of_width, _xids, _switches):
        for severity, address, what, step in rule(host):
            add(severity, address, what, step)
    return tuple(sorted(found, key=lambda finding: _SEVERITIES.index(finding.severity)))


_Said = Iterator[tuple[Severity, str, str, str]]


def _driver(host: GpuHost) -> _Said:
    """The kernel module, its libraries and nvidia-smi as a whole."""
    driver, smi = host.gpus["driver"], host.smi
    library = smi["library_version"]
    if not driver:
        if host.log["failures"]:
            return  # why it was not loaded: _failures
        count = len(host.gpus["bus"])
        yield (
            "error",
            "",
            f"{count} NVIDIA GPU{'s' * (count > 1)} on the bus, and the kernel module is not loaded",
            "deploy the driver (deploys/nvidia.py), or modprobe nvidia; dmesg | grep NVRM tells why it fails",
        )
        return
    if smi["code"] == _VERSION_MISMATCH or (library and not _same(library, driver)):
        yield (
            "error",
            "",
            f"the kernel module is {driver}, the driver's libraries are {library or 'of another version'}: "
            "no program can use a GPU",
            f"{DRAINED_REBOOT}: that loads the module of the installed version",
        )
        return
    if smi["state"] == "absent":
        yield (
            "warning",
            "",
            "nvidia-smi is not installed: the GPUs' health is not known",
            "install nvidia-smi",
        )
    elif smi["state"] == "timeout":
        yield (
            "error",
            "",
            f"nvidia-smi does not end within {nvidia_smi.LIMIT} s: a GPU or the driver hangs",
            f"{DRAINED_REBOOT}; dmesg | grep NVRM shows which GPU",
        )
    for lost in smi["lost"]:
        step = POWER if lost["reason"].startswith("GPU is lost") else DRAINED_REBOOT
        yield "error", lost["address"], f"nvidia-smi cannot open it: {lost['reason']}", step
    if smi["state"] == "failed" and not smi["lost"]:
        code, said = smi["code"], smi["message"].partition("\n")[0] or "nothing"
        severity, meaning, step = _EXIT_CODES.get(
            code, ("error", "it failed", "run nvidia-smi there by hand")
        )
        yield severity, "", f"nvidia-smi ended with {code}: {meaning} (it said: {said})", step


def _missing(host: GpuHost) -> _Said:
    """GPUs that one source has and another has not."""
    gpus = host.gpus
    if not gpus["driver"]:
        return
    for nodeless in gpus["nodeless"]:
        number = nodeless["file"].removeprefix("/dev/nvidia")
        yield (
            "error",
            nodeless["address"],
            f"its device file {nodeless['file']} is missing",
            f"nvidia-modprobe -c {number} (as nvidia-persistenced does at boot)",
        )
    known = {device["address"] for device in (*gpus["devices"], *gpus["nodeless"])} | set(gpus["excluded"])
    for address in gpus["excluded"]:
        yield (
            "warning",
            address,
            "the driver was told to leave it out",
            "if it is to be used: take it out of NVreg_ExcludedGpus in /etc/modprobe.d, and reboot",
        )
    failures = host.log["failures"]
    why = next((failure["text"] for failure in reversed(failures) if _is_nameless(failure)), "")
    for address in gpus["bus"]:
        if address not in known:
            yield (
                "error",
                address,
                f"it is on the bus, and the driver has not started it{why and f': {why}'}",
                "dmesg | grep NVRM tells why; lspci -k shows whether another driver has it (vfio-pci)",
            )
    told = {gpu["address"] for gpu in host.smi["gpus"]}
    told |= {failure["address"] for failure in failures if failure["kind"] == "init"}
    for device in gpus["devices"]:
        if host.smi["state"] == "ok" and device["address"] not in told:
            yield (
                "error",
                device["address"],
                "the driver has it, and nvidia-smi does not list it",
                DRAINED_REBOOT,
            )


def _is_nameless(failure: GpuFailure) -> bool:
    """Whether the module did not say which GPU it could not start: one that it has not is meant."""
    return not failure["address"] and failure["kind"] in ("init", "bar")


_REFUSED: dict[FailureKind, tuple[str, str]] = {
    "open_module": (
        "the driver refuses it: it needs NVIDIA's open kernel modules",
        "install them instead of the proprietary ones (Debian: nvidia-open-kernel-dkms) and reboot",
    ),
    "closed_module": (
        "the driver refuses it: NVIDIA's open kernel modules do not know a GPU as old",
        "install the proprietary ones (deploy without --data nvidia_modules=open) and reboot",
    ),
    "other_release": (
        "this release of the driver does not know it",
        "its message names the release that does: an older one for an old GPU (Debian 13 has 550 alone)",
    ),
    "power": ("its power cables are not attached", "power off and check them"),
    "bar": (
        "the node's firmware gave its memory no address (BAR), so that the driver does not start it",
        "a node has too few address bits for such a GPU: cpu_model: host-passthrough under "
        "hardware.acceleration, then stop and start the node (hpcstate validate adds up); on a machine of "
        "its own: Above 4G Decoding in the firmware",
    ),
}
"""Why the driver does not start a GPU, and what ends it."""

_SOME = "a GPU's "
"""Whose it is where the module did not say which GPU it means."""


def _failures(host: GpuHost) -> _Said:
    """What the kernel module logged besides Xids."""
    log = host.log
    if log["log"] == "unreadable" and host.gpus["driver"]:
        yield "warning", "", "the kernel log cannot be read: Xids are not known", "read the node as root"
    last: dict[tuple[str, str], GpuFailure] = {
        (failure["address"], failure["kind"]): failure for failure in log["failures"]
    }
    explained = {at for at, kind in last if kind in _REFUSED and (at or not host.gpus["driver"])}
    off_the_bus = {xid["address"] for xid in log["xids"] if xid["number"] == 79}
    # nvidia-smi has each GPU started that it reads.
    works = {
        gpu["address"] for gpu in host.smi["gpus"] if host.smi["state"] == "ok" and not gpu["unreadable"]
    }
    for (address, kind), failure in last.items():
        when = _time(failure["time"])
        if _is_nameless(failure) and host.gpus["driver"]:
            continue  # _missing
        if kind == "init" and {address, ""} & explained:
            continue
        if kind == "off_the_bus" and address not in off_the_bus:
            yield "error", address, f"it has fallen off the bus ({when})", known_xids()[79].step
        elif kind == "init" and address in works:
            what = f"the driver could not start it ({when}), and has it now: {failure['text']}"
            yield (
                "warning",
                address,
                what,
                "if it comes again: look at power, slot and riser, or ask the vendor",
            )
        elif kind == "init":
            what = f"the driver could not start {'it' if address else 'a GPU'} ({when}): {failure['text']}"
            yield "error", address, what, DRAINED_REBOOT
        elif kind in _REFUSED:
            what, step = _REFUSED[kind]
            yield "error", address, f"{what if address else what.replace('its ', _SOME)} ({when})", step
        elif kind == "nvlink":
            yield "error", "", f"NVLink did not find the other ends of its links ({when})", DRAINED_REBOOT
    mismatch = log["mismatch"]
    if mismatch and _same(mismatch["module"], host.gpus["driver"] or mismatch["module"]):
        yield (
            "note",
            "",
            f"a program came with the driver's libraries of {mismatch['client']}, the kernel module is "
            f"{mismatch['module']} ({_time(mismatch['time'])})",
            "a container brought its own libraries, or they were replaced under the running driver",
        )


def _gpus(host: GpuHost) -> _Said:
    for gpu in host.smi["gpus"]:
        for severity, what, step in of_gpu(gpu):
            yield severity, gpu["address"], what, step.format(index=gpu["index"])


def _xids(host: GpuHost) -> _Said:
    grouped: dict[tuple[str, int, Severity], list[Xid]] = {}
    # What the driver does not ask for any more was mended, by a reset: the log keeps it until the next boot.
    tells = int(host.smi["driver_version"].partition(".")[0] or 0) >= TELLS_RECOVERY
    settled = {
        gpu["address"]
        for gpu in host.smi["gpus"]
        if tells and recovery(gpu["recovery_action"]) == "None" and not gpu["unreadable"]
    }
    for xid in host.log["xids"]:
        severity = judged(xid["number"], xid["text"]).severity
        # What the driver wishes now is what it said last.
        key = severity if xid["number"] != 154 else "error"
        grouped.setdefault((xid["address"], xid["number"], key), []).append(xid)
    for (address, number, _), several in grouped.items():
        last = several[-1]
        known = judged(number, last["text"])
        if number == 154 and took_back(last["text"]):
            continue  # the driver took back what it had asked for
        if number in LINKED and known.severity == "error" and address in settled:
            known = replace(
                known, severity="warning", step="it is over: the driver asks for nothing any more"
            )
        count = sum(xid["times"] for xid in several)
        times = f"{count} times, last " if count > 1 else ""
        process = f", {last['process']}" if last["process"] else ""
        text = f" [{last['text']}]" if last["text"] else ""
        what = f"Xid {number} ({times}{_time(last['time'])}{process}): {known.meaning}{text}"
        yield known.severity, address, what, known.step


def _switches(host: GpuHost) -> _Said:
    """The errors of NVSwitches: they are the node's, whose GPUs all speak through them."""
    grouped: dict[tuple[str, int, bool], list[SwitchError]] = {}
    for error in host.log["switches"]:
        grouped.setdefault((error["address"], error["number"], error["fatal"]), []).append(error)
    for (address, number, fatal), several in grouped.items():
        last = several[-1]
        count = sum(error["times"] for error in several)
        times = f"{count} times, last " if count > 1 else ""
        kind = "fatal" if fatal else "not fatal"
        what = f"NVSwitch {address}: SXid {number}, {kind} ({times}{_time(last['time'])}) [{last['text']}]"
        yield ("error" if fatal else "warning"), "", what, links.SWITCH_RESET if fatal else links.SWITCH_WATCH


def _same(version: str, other: str) -> bool:
    """Whether two versions agree as far as both go: nvidia-smi's complaint lacks the last part (550.144)."""
    pairs = list(zip(version.split("."), other.split("."), strict=False))
    return "unknown" in (version, other) or all(mine == theirs for mine, theirs in pairs)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%MZ")


def unusable(node: str, host: GpuHost) -> dict[str, str]:
    """The GPUs of ``node`` that must get no jobs, by address, each with the first reason and its step.

    An error of the whole node is one of each GPU that the driver has.
    """
    found = [finding for finding in findings(node, host) if finding.severity == "error"]
    reasons: dict[str, str] = {}
    for device in host.gpus["devices"]:
        own = [finding for finding in found if finding.address in (device["address"], "")]
        own.sort(key=lambda finding: not finding.address)
        if own and not device["simulated"]:
            reasons[device["address"]] = f"{own[0].what}\n{own[0].step}"
    return reasons


def worst(found: Sequence[Finding], address: str) -> Severity | None:
    """The worst severity of the GPU at ``address``; what concerns the whole node counts for each GPU."""
    return next((finding.severity for finding in found if finding.address in (address, "")), None)
