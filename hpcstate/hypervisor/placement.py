"""NUMA cells of a node, and the host CPUs that its virtual ones are pinned to. Pure.

Pinning is decided for a whole cluster: every node gets cores of the host that no other node of it has, near
its GPUs where it has some. The guest is not told which of its own cells is near its GPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from hpcstate.hostlist import numbers
from hpcstate.model import Acceleration, Cluster, Node
from hpcstate.model.cells import GuestCell, guest_cells
from hpcstate.probe.cpus import Core, HostCell


@dataclass(frozen=True)
class Placement:
    """Where a node sits on the host. ``cpus`` has the CPU of the host for each virtual one.

    ``memory`` has the host's NUMA node for the memory of each cell of the guest (of the whole guest when it
    has no cells): that of its cores, or of its GPUs where cores of several were needed. None where neither
    is known, where it does not have enough memory left, or where the host has only one.
    """

    cpus: tuple[int, ...]
    memory: tuple[int | None, ...]


def host_cells(capabilities: str) -> tuple[HostCell, ...]:
    """The NUMA nodes, cores and memory of the host, from libvirt's capabilities (formatcaps)."""
    cells = []
    for cell in ElementTree.fromstring(capabilities).iterfind("host/topology/cells/cell"):
        cores = {tuple(numbers(cpu.get("siblings") or cpu.attrib["id"])) for cpu in cell.iterfind("cpus/cpu")}
        memory = cell.find("memory[@unit='KiB']")
        if cores:
            memory_mb = 0 if memory is None else int(memory.text or "0") // 1024
            cells.append(HostCell(int(cell.attrib["id"]), tuple(sorted(cores)), memory_mb))
    return tuple(cells)


def near_gpus(node: Node, numa_nodes: Mapping[str, int]) -> int | None:
    """The host's NUMA node that most passed-through GPUs of ``node`` are at (without GPUs, most devices).

    ``numa_nodes`` has that of each device by PCI address, -1 where the host does not know it. None without
    devices, or when nothing is known.
    """
    devices = [device for device in node.passthrough if device.device_type == "gpu"] or node.passthrough
    cells = Counter(numa_nodes.get(device.pci_address, -1) for device in devices)
    del cells[-1]
    return max(cells, key=lambda cell: (cells[cell], -cell), default=None)


def placements(
    cluster: Cluster, host: Sequence[HostCell], numa_nodes: Mapping[str, int] | None = None
) -> dict[str, Placement]:
    """The placement of each node that can be pinned, by name; empty where pinning is not asked for.

    ``numa_nodes`` are those of the host's PCI devices (see :func:`near_gpus`): nodes with one near come first
    and begin there. Then the other workers, the head, and login nodes, each in the order of the
    file. Nodes get whole cores, so that no two of them share one; the host's first core, which serves most
    interrupts, goes last. A node for which too few cores are left is not pinned. The same cluster on the same
    host has the same placement each time.
    """
    if not cluster.acceleration.cpu_pinning or not host:
        return {}
    first = host[0]
    free = _Free(
        {
            cell.id: list(cell.cores)
            for cell in (HostCell(first.id, first.cores[1:] + first.cores[:1]), *host[1:])
        },
        {cell.id: cell.memory_mb for cell in host if cell.memory_mb},
    )
    near = {node.name: near_gpus(node, numa_nodes or {}) for node in cluster.nodes}
    found = {}
    workers = sorted(cluster.workers, key=lambda node: near[node.name] is None)
    rest = (node for node in cluster.others if node not in workers)
    for node in (*workers, cluster.controller, *rest):
        trial = free.copy()
        if placement := _place(cluster.acceleration, node, trial, near[node.name]):
            free = trial
            found[node.name] = placement
    return found


@dataclass
class _Free:
    """What no node has yet, by NUMA node of the host: cores, and MiB of memory where that is known."""

    cores: dict[int, list[Core]]
    memory_mb: dict[int, int]

    def copy(self) -> _Free:
        return _Free({cell: list(cores) for cell, cores in self.cores.items()}, dict(self.memory_mb))

    def order(self, start: int | None, number: int) -> list[int]:
        """The host's NUMA nodes, from ``start`` on (the first when None), for cell ``number`` of a guest."""
        cells = [*self.cores]
        shift = ((cells.index(start) if start in cells else 0) + number) % len(cells)
        return cells[shift:] + cells[:shift]

    def take_memory(self, cell: int | None, memory_mb: int) -> int | None:
        """``cell`` where it has as much left, which is gone then; None where not."""
        if cell is None or len(self.cores) < 2 or self.memory_mb.get(cell, memory_mb) < memory_mb:
            return None
        if cell in self.memory_mb:
            self.memory_mb[cell] -= memory_mb
        return cell


def _place(acceleration: Acceleration, node: Node, free: _Free, near: int | None) -> Placement | None:
    """Take cores and memory for ``node`` out of ``free``; None when there are too few cores."""
    cells = guest_cells(acceleration, node) or (GuestCell(0, range(node.cpu_cores), node.memory_mb),)
    cpus: list[int] = []
    memory: list[int | None] = []
    for number, guest in enumerate(cells):
        # Each cell of the guest begins at another one of the host: that is what it asks for cells for.
        order = free.order(near, number)
        vcpus = len(guest.vcpus)
        whole = next((cell for cell in order if sum(map(len, free.cores[cell])) >= vcpus), None)
        taken: list[int] = []
        for cell in order if whole is None else [whole]:
            while free.cores[cell] and len(taken) < vcpus:
                taken += free.cores[cell].pop(0)
        if len(taken) < vcpus:
            return None
        cpus += taken[:vcpus]
        close = order[0] if near in free.cores else None
        memory.append(free.take_memory(close if whole is None else whole, guest.memory_mb))
    return Placement(tuple(cpus), tuple(memory))
