"""The NUMA cells of a node, which it is given when it has huge pages or is pinned."""

from __future__ import annotations

from dataclasses import dataclass

from hpcstate.model.hardware import Acceleration
from hpcstate.model.node import Node


@dataclass(frozen=True)
class GuestCell:
    """A NUMA node of a guest: its virtual CPUs, which are consecutive, and its memory in MiB."""

    id: int
    vcpus: range
    memory_mb: int

    @property
    def cpus(self) -> str:
        """The virtual CPUs as libvirt writes them (``0-3``)."""
        return f"{self.vcpus[0]}-{self.vcpus[-1]}" if len(self.vcpus) > 1 else str(self.vcpus[0])


def guest_cells(acceleration: Acceleration, node: Node) -> tuple[GuestCell, ...]:
    """The cells of ``node``: none when none are asked for, or when they cannot each have a core and a page.

    Cores and pages stay whole. QEMU refuses a cell whose memory is no multiple of its huge pages.
    """
    count = acceleration.numa_nodes
    threads = acceleration.topology_of(node.cpu_cores).threads
    cores = _shares(node.cpu_cores // threads, count)
    pages = _shares(node.memory_mb // acceleration.page_mb, count)
    if not count or not cores[-1] or not pages[-1]:
        return ()
    first = [sum(cores[:number]) * threads for number in range(count + 1)]
    return tuple(
        GuestCell(number, range(first[number], first[number + 1]), pages[number] * acceleration.page_mb)
        for number in range(count)
    )


def _shares(whole: int, count: int) -> list[int]:
    """``whole`` in ``count`` parts that differ by one at most, the larger ones first."""
    return [whole // count + (number < whole % count) for number in range(count)]
