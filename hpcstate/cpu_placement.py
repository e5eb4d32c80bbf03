"""NUMA cells of a node, and the host CPUs that its virtual ones are pinned to. Pure.

Pinning is decided for a whole cluster: every node gets cores of the host that no other node of it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from hpcstate.model import Acceleration, Cluster, Node

Core = tuple[int, ...]
"""The CPUs (threads) of one core of the host, by number."""


@dataclass(frozen=True)
class HostCell:
    """A NUMA node of the host with its cores."""

    id: int
    cores: tuple[Core, ...]


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


@dataclass(frozen=True)
class Placement:
    """Where a node sits on the host. ``cpus`` has the CPU of the host for each virtual one.

    ``memory`` has the host's NUMA node for the memory of each cell of the guest (of the whole guest when it
    has no cells): None where cores of several were needed, or the host has only one.
    """

    cpus: tuple[int, ...]
    memory: tuple[int | None, ...]


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


def host_cells(capabilities: str) -> tuple[HostCell, ...]:
    """The NUMA nodes and cores of the host, from libvirt's capabilities (formatcaps)."""
    cells = []
    for cell in ElementTree.fromstring(capabilities).iterfind("host/topology/cells/cell"):
        cores = {
            tuple(_numbers(cpu.get("siblings") or cpu.attrib["id"])) for cpu in cell.iterfind("cpus/cpu")
        }
        if cores:
            cells.append(HostCell(int(cell.attrib["id"]), tuple(sorted(cores))))
    return tuple(cells)


def _numbers(text: str) -> list[int]:
    """The numbers of a list like ``0,4-6`` (libvirt's format of CPU sets)."""
    ends = [part.partition("-") for part in text.split(",")]
    return [number for low, _, high in ends for number in range(int(low), int(high or low) + 1)]


def placements(cluster: Cluster, host: Sequence[HostCell]) -> dict[str, Placement]:
    """The placement of each node that can be pinned, by name; empty where pinning is not asked for.

    Workers come before the head, each in the order of the file. Nodes get whole cores, so that no two of
    them share one; the host's first core, which serves most interrupts, goes last. A node for which too few
    cores are left is not pinned. The same cluster on the same host has the same placement each time.
    """
    if not cluster.acceleration.cpu_pinning or not host:
        return {}
    first = host[0]
    free = {
        cell.id: list(cell.cores)
        for cell in (HostCell(first.id, first.cores[1:] + first.cores[:1]), *host[1:])
    }
    found = {}
    for node in (*cluster.workers, cluster.controller):
        trial = {cell: list(cores) for cell, cores in free.items()}
        if placement := _place(cluster.acceleration, node, trial):
            free = trial
            found[node.name] = placement
    return found


def _place(acceleration: Acceleration, node: Node, free: dict[int, list[Core]]) -> Placement | None:
    """Take cores for ``node`` out of ``free``; None when there are too few."""
    cells = guest_cells(acceleration, node)
    cpus: list[int] = []
    memory: list[int | None] = []
    for number, vcpus in enumerate([len(cell.vcpus) for cell in cells] or [node.cpu_cores]):
        # Each cell of the guest begins at another one of the host: that is what it asks for cells for.
        order = [*free][number % len(free) :] + [*free][: number % len(free)]
        whole = next((cell for cell in order if sum(map(len, free[cell])) >= vcpus), None)
        taken: list[int] = []
        for cell in order if whole is None else [whole]:
            while free[cell] and len(taken) < vcpus:
                taken += free[cell].pop(0)
        if len(taken) < vcpus:
            return None
        cpus += taken[:vcpus]
        memory.append(whole if len(free) > 1 else None)
    return Placement(tuple(cpus), tuple(memory))
