"""Generic resources of a node, checked against what it declares."""

from __future__ import annotations

from collections.abc import Generator

from pyinfra.api.command import PyinfraCommand
from pyinfra.context import host

from facts.gpu import GpuDevices
from hpcstate.node.managed import Managed
from hpcstate.slurm.gres import Assignment, DeclaredGres, assign
from operations.util.arguments import operation
from operations.util.commands import stop_host


def observed(node: str, declared: DeclaredGres) -> Assignment:
    """The GPUs of this host assigned to those that ``node`` declares; the host is not asked when it has none.

    For the body of an operation: what the host has is only known when the operation is executed.
    """
    if not declared:
        return Assignment(node)
    return assign(node, declared, host.get_fact(GpuDevices))


MANAGED = (
    Managed(
        "gres",
        "the GPUs that the cluster file declares",
        "/dev/nvidia*, PCI",
        "what is on the bus and what has a device node",
        "stops",
    ),
)


@operation()
def require(node: str, declared: DeclaredGres) -> Generator[PyinfraCommand, None, None]:
    """Stops the host when it has fewer GPUs than ``node`` declares, or others; nothing is papered over."""
    assignment = observed(node, declared)
    if assignment.problem:
        yield stop_host(assignment.problem)
        return
    if assignment.note:
        host.log(assignment.note)
    host.noop(f"{node} has its {declared.count} declared GPUs")
