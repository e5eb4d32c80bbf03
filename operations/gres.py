"""Generic resources of a node, checked against what it declares."""

from __future__ import annotations

from collections.abc import Generator

from pyinfra.api.command import PyinfraCommand
from pyinfra.context import host

from facts.gpu import GpuDevices, NvidiaSmi, NvidiaTopology, XidMessages
from facts.slurm import SlurmNodes
from hpcstate.gpu.findings import GpuHost, unusable
from hpcstate.node.managed import Managed
from hpcstate.probe.gpu import Gpus
from hpcstate.slurm.gres import Assignment, DeclaredGres, assign
from operations.util.arguments import operation
from operations.util.commands import stop_host
from operations.util.drain import drain_command, is_drained


def observed(node: str, declared: DeclaredGres) -> Assignment:
    """The GPUs of this host assigned to those that ``node`` declares; the host is not asked when it has none.

    For the body of an operation: what the host has is only known when the operation is executed.
    """
    if not declared:
        return Assignment(node)
    gpus = host.get_fact(GpuDevices)
    return assign(node, declared, gpus, _unusable(node, gpus))


def _unusable(node: str, gpus: Gpus) -> dict[str, str]:
    """The GPUs of this host that health calls unusable; nothing is asked where NVIDIA's driver has none."""
    if not gpus["driver"] or not gpus["devices"]:
        return {}
    seen = GpuHost(gpus, host.get_fact(NvidiaSmi), host.get_fact(NvidiaTopology), host.get_fact(XidMessages))
    return unusable(node, seen)


def refuse(assignment: Assignment) -> Generator[PyinfraCommand, None, None]:
    """Stops the host for the problem of ``assignment``. Where a GPU is there and unusable, and its node takes
    jobs, the node is drained first: what Slurm was told before would go on giving the GPU out.
    """
    if assignment.unusable:
        known = host.get_fact(SlurmNodes).get(assignment.node)
        if known is not None and not is_drained(known):
            yield drain_command(assignment.node, assignment.unusable)
    yield stop_host(assignment.problem)


MANAGED = (
    Managed(
        "gres",
        "the GPUs that the cluster file declares",
        "/dev/nvidia*, PCI",
        "what is on the bus and what has a device node",
        "stops",
    ),
    Managed(
        "gres.health",
        "GPUs that health calls unusable get no jobs",
        "the driver, nvidia-smi, the kernel's log",
        "the findings of `hpcstate inventory gpus`; the node is drained",
        "stops",
        "an NVIDIA GPU",
    ),
)


@operation()
def require(node: str, declared: DeclaredGres) -> Generator[PyinfraCommand, None, None]:
    """Stops the host when it has fewer GPUs than ``node`` declares, others, or some that must get no jobs;
    nothing is papered over."""
    assignment = observed(node, declared)
    if assignment.problem:
        yield from refuse(assignment)
        return
    if assignment.note:
        host.log(assignment.note)
    host.noop(f"{node} has its {declared.count} declared GPUs")
