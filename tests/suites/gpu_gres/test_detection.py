"""The GPUs that a node has are those that its driver, its device files, slurmd and slurmctld count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from hpcstate.check.suite import CheckFailed, RecordProperty, fault, real_gpus
from hpcstate.model import Node
from hpcstate.node.ssh import Live
from hpcstate.slurm.gres import GPU_MAJOR, assign, declared_gres
from tests.suites.breaking import last_gpu_node, moved
from tests.suites.job_view import gpu_nodes
from tests.suites.node_state import NodeState, gres_files, slurmd_gpus
from tests.suites.slurm import ControllerView, gres_counts

_CHARACTER = "character special file"


@pytest.mark.needs(gpus=1)
def test_hardware(live: Live, node_states: dict[str, NodeState], record_property: RecordProperty) -> None:
    """Each node has the GPUs that the file declares: on its bus and by its driver, or marked as simulated"""
    pairs = [(node, node_states[node.name]) for node in gpu_nodes(live)]
    findings = [finding for node, state in pairs for finding in hardware_findings(node, state)]
    if findings:
        raise CheckFailed(
            "as many GPUs as declared",
            "; ".join(findings),
            "lspci -nn, ls /dev/nvidia* and dmesg on the node; a deploy makes simulated GPUs anew",
        )
    record_property("observed", "; ".join(_counted(node, state) for node, state in pairs))


def hardware_findings(node: Node, state: NodeState) -> list[str]:
    """What of a node's GPUs is not as declared, one sentence each."""
    findings = []
    bus = state.gpus["bus"]
    if len(bus) != real_gpus(node):
        findings.append(f"{node.name} has {len(bus)} NVIDIA GPUs on its bus, declared are {real_gpus(node)}")
    if real_gpus(node) and not state.gpus["driver"]:
        findings.append(f"{node.name}: NVIDIA's driver is not loaded")
    assignment = assign(node.name, declared_gres(node), state.gpus)
    findings += [text for text in (assignment.problem.partition("\n")[0], assignment.note) if text]
    return findings


def _counted(node: Node, state: NodeState) -> str:
    simulated = sum(device["simulated"] for device in state.gpus["devices"])
    driver = f" by driver {state.gpus['driver']}" if state.gpus["driver"] else ""
    parts = [f"{len(state.gpus['bus'])} on the bus{driver}"]
    if simulated:
        parts.append(f"{simulated} SIMULATED")
    return f"{node.name}: {', '.join(parts)}, {len(node.gres_types)} declared"


@pytest.mark.needs(gpus=1)
def test_devices(live: Live, node_states: dict[str, NodeState], record_property: RecordProperty) -> None:
    """Each device file of a node's GRES is there, is a character device, and has a number of its own"""
    states = [node_states[node.name] for node in gpu_nodes(live)]
    findings = [finding for state in states for finding in device_findings(state)]
    if findings:
        raise CheckFailed(
            f"character devices, {GPU_MAJOR}:N for /dev/nvidiaN",
            "; ".join(findings),
            "nvidia-modprobe -u -c N makes a real GPU's file; a deploy makes those of simulated GPUs",
        )
    record_property("observed", "; ".join(f"{state.name}: {_numbers(state)}" for state in states))


def device_findings(state: NodeState) -> list[str]:
    """What is wrong with the device files of a node's GRES, one sentence each."""
    files = _files(state)
    findings = [] if files else [f"{state.name}: gres.conf names no device file"]
    there = {path: state.devices[path] for path in files if path in state.devices}
    for path in files:
        if path not in there:
            findings.append(f"{state.name} has no {path}")
        elif there[path].kind != _CHARACTER:
            findings.append(f"{state.name}: {path} is a {there[path].kind}")
        elif (number := path.removeprefix("/dev/nvidia")).isdigit() and (
            (there[path].major, there[path].minor) != (GPU_MAJOR, int(number))
        ):
            findings.append(f"{state.name}: {path} is {there[path].major}:{there[path].minor}")
    taken = Counter((device.major, device.minor) for device in there.values() if device.kind == _CHARACTER)
    findings += [f"{state.name}: {n} files are {a}:{b}" for (a, b), n in taken.items() if n > 1]
    return findings


def _files(state: NodeState) -> tuple[str, ...]:
    """The device files that gres.conf names; where AutoDetect finds them, those of the driver."""
    conf = state.contents.get("gres.conf", "")
    named = gres_files(conf)
    if named or "autodetect=" not in conf.lower():
        return named
    return tuple(device["file"] for device in state.gpus["devices"])


def _numbers(state: NodeState) -> str:
    numbers = ((path, state.devices[path]) for path in _files(state))
    return ", ".join(f"{path} {device.major}:{device.minor}" for path, device in numbers)


@pytest.mark.needs(gpus=1)
def test_slurmd(live: Live, node_states: dict[str, NodeState], record_property: RecordProperty) -> None:
    """slurmd itself finds the declared GPUs on its node"""
    # With AutoDetect, slurmd has names of its own for the types; it is their number that has to be right.
    seen = {node.name: slurmd_gpus(node_states[node.name].slurmd) for node in gpu_nodes(live)}
    bad = [
        node
        for node in gpu_nodes(live)
        if sum(seen[node.name].values()) != len(node.gres_types)
        or (seen[node.name] != Counter(node.gres_types) and node.gres_settings.autodetect == "off")
    ]
    if bad:
        raise CheckFailed(
            "; ".join(f"{node.name}: {_types(Counter(node.gres_types))}" for node in bad),
            "; ".join(
                f"{node.name}: {_types(seen[node.name]) or _last(node_states[node.name])}" for node in bad
            ),
            "`slurmd -G` on the node reads gres.conf as slurmd does, and says what it thinks of it",
        )
    record_property(
        "observed", "slurmd -G: " + "; ".join(f"{name} {_types(counts)}" for name, counts in seen.items())
    )


def _types(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} of type {kind}" for kind, count in counts.items())


def _last(state: NodeState) -> str:
    return (state.slurmd.splitlines() or ["nothing was printed"])[-1]


@pytest.mark.needs(gpus=1)
def test_shown(
    live: Live, nodes: tuple[Node, ...], controller_view: ControllerView, record_property: RecordProperty
) -> None:
    """sinfo and scontrol show the declared GPUs of every node"""
    keeps_tres = "gres/gpu" in controller_view.config.get("AccountingStorageTRES", "").split(",")
    findings = []
    for node in nodes:
        declared = gres_counts(node.gres)
        registered = controller_view.nodes.get(node.name)
        sources = {
            "sinfo %G": gres_counts(controller_view.gres.get(node.name, "")),
            "scontrol Gres": gres_counts(registered["gres"] if registered else ""),
        }
        findings += [
            f"{node.name}: {source} {_gres(counts)}, declared {_gres(declared)}"
            for source, counts in sources.items()
            if counts != declared
        ]
        # slurmctld goes on showing what slurm.conf says of a node that has reported less (INVALID_REG).
        if registered and "INVALID_REG" in registered["states"]:
            findings.append(f"{node.name} has reported less: {registered['reason']}")
        tres = dict(
            part.partition("=")[::2] for part in controller_view.cfg_tres.get(node.name, "").split(",")
        )
        if keeps_tres and int(tres.get("gres/gpu", "0")) != len(node.gres_types):
            findings.append(f"{node.name}: CfgTRES gres/gpu={tres.get('gres/gpu', '0')}")
    if findings:
        raise CheckFailed(
            "the GRES of the cluster file",
            "; ".join(findings),
            "`scontrol show node` tells the reason of a drain; journalctl -u slurmd on the node",
        )
    without = "" if keeps_tres else "; CfgTRES counts no GPUs, as AccountingStorageTRES does not name them"
    record_property(
        "observed",
        "; ".join(f"{node.name} {controller_view.gres[node.name]}" for node in gpu_nodes(live)) + without,
    )


def _gres(counts: dict[str, int]) -> str:
    return ",".join(f"{name}:{count}" for name, count in counts.items()) or "none"


@fault(
    "a device file is missing on a node",
    "gpu-gres.own_device",
    "gpu-gres.hardware",
    "gpu-gres.devices",
    "gpu-gres.per_node",
    needs_gpus=1,
)
def device_missing(live: Live) -> Iterator[None]:
    with moved(live, last_gpu_node(live).name, "/dev/nvidia0"):
        yield


@fault(
    "two device files of a node are one device",
    "gpu-gres.different",
    "gpu-gres.devices",
    "gpu-gres.per_task",
    needs_gpus=2,
)
def same_device(live: Live) -> Iterator[None]:
    node = gpu_nodes(live, 2)[-1]
    with moved(live, node.name, "/dev/nvidia1"):
        live.run(node.name, "mknod -m 666 /dev/nvidia1 c 195 0", user="root")
        yield


@fault("an ordinary file stands in the place of a device file", "gpu-gres.devices", needs_gpus=1)
def no_device(live: Live) -> Iterator[None]:
    node = last_gpu_node(live)
    with moved(live, node.name, "/dev/nvidia0"):
        live.run(node.name, "install -m 666 /dev/null /dev/nvidia0", user="root")
        yield
