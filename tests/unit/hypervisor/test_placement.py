"""Which CPUs of the host a node is pinned to, and how it is split into NUMA nodes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from hpcstate.errors import HpcstateError
from hpcstate.hypervisor.placement import Placement, host_cells, near_gpus, placements
from hpcstate.model import Acceleration, Cluster, CpuTopology, PassthroughDevice
from hpcstate.model.cells import GuestCell, guest_cells
from hpcstate.probe import cpus
from hpcstate.probe.cpus import HostCell
from hpcstate.run import local
from tests.unit.slurm_clusters import cluster, node

CAPABILITIES = """
<capabilities><host><topology><cells num='3'>
  <cell id='0'><memory unit='KiB'>33554432</memory><cpus num='4'>
    <cpu id='0' socket_id='0' core_id='0' siblings='0,4'/>
    <cpu id='1' socket_id='0' core_id='1' siblings='1,5'/>
    <cpu id='4' socket_id='0' core_id='0' siblings='0,4'/>
    <cpu id='5' socket_id='0' core_id='1' siblings='1,5'/>
  </cpus></cell>
  <cell id='1'><cpus num='3'>
    <cpu id='2' socket_id='1' core_id='0' siblings='2-3'/>
    <cpu id='3' socket_id='1' core_id='0' siblings='2-3'/>
    <cpu id='6'/>
  </cpus></cell>
  <cell id='2'><memory unit='KiB'>4096</memory></cell>
</cells></topology></host></capabilities>
"""
PINNED = Acceleration(cpu_pinning=True)
FOUR_CORES = (HostCell(0, ((0,), (1,), (2,), (3,))),)
TWO_CELLS = (HostCell(0, ((0, 4), (1, 5))), HostCell(1, ((2, 6), (3, 7))))


def lab(acceleration: Acceleration, *cpu_cores: int) -> Cluster:
    """A cluster whose controller has the first number of CPUs, and its compute nodes the others."""
    whole = cluster(*(node(number, cpu_cores=cpus) for number, cpus in enumerate(cpu_cores[1:], 1)))
    head = replace(whole.controller, cpu_cores=cpu_cores[0])
    return replace(whole, nodes=(head, *whole.workers), acceleration=acceleration)


def test_the_cells_of_the_host_come_from_libvirts_capabilities() -> None:
    assert host_cells(CAPABILITIES) == (HostCell(0, ((0, 4), (1, 5)), 32768), HostCell(1, ((2, 3), (6,))))


def test_a_host_that_says_nothing_of_its_topology_has_no_cells() -> None:
    assert host_cells("<capabilities><host><cpu/></host></capabilities>") == ()


@pytest.mark.parametrize(
    ("host", "cpu_cores", "expected"),
    [
        # The first core of the host goes last, compute nodes come before the controller.
        (FOUR_CORES, (1, 2, 1), {"compute-01": (1, 2), "compute-02": (3,), "controller": (0,)}),
        # Too few are left for the second node: not for the third.
        (FOUR_CORES, (1, 2, 3), {"compute-01": (1, 2), "controller": (3,)}),
        (FOUR_CORES, (1, 5), {"controller": (1,)}),
        # Whole cores: nobody else gets the second thread of a core.
        (TWO_CELLS, (1, 1, 1), {"compute-01": (1,), "compute-02": (0,), "controller": (2,)}),
        (TWO_CELLS, (2, 3), {"compute-01": (1, 5, 0), "controller": (2, 6)}),
        # One NUMA node where it fits, else several.
        (TWO_CELLS, (2, 6), {"compute-01": (1, 5, 0, 4, 2, 6), "controller": (3, 7)}),
        (TWO_CELLS, (2, 2, 4), {"compute-01": (1, 5), "compute-02": (2, 6, 3, 7), "controller": (0, 4)}),
        ((), (1, 1), {}),
    ],
)
def test_nodes_get_cores_of_their_own(
    host: tuple[HostCell, ...], cpu_cores: tuple[int, ...], expected: dict[str, tuple[int, ...]]
) -> None:
    found = placements(lab(PINNED, *cpu_cores), host)
    assert {name: placement.cpus for name, placement in found.items()} == expected


def test_memory_is_preferred_where_the_cores_are() -> None:
    found = placements(lab(PINNED, 2, 2, 4), TWO_CELLS)
    assert {name: placement.memory for name, placement in found.items()} == {
        "compute-01": (0,),
        "compute-02": (1,),
        "controller": (0,),
    }
    assert placements(lab(PINNED, 2, 6), TWO_CELLS)["compute-01"].memory == (None,)
    assert placements(lab(PINNED, 2, 2), FOUR_CORES)["compute-01"].memory == (None,)


GPU, AUDIO = PassthroughDevice("0000:41:00.0", "gpu"), PassthroughDevice("0000:41:00.1", "audio")
CARD = PassthroughDevice("0000:01:00.0", "network")
NUMA_NODES = {GPU.pci_address: 1, AUDIO.pci_address: 1, CARD.pci_address: 0}


def giving(whole: Cluster, name: str, *devices: PassthroughDevice) -> Cluster:
    """The cluster with ``devices`` for the node called ``name``."""
    nodes = (replace(other, passthrough=devices) if other.name == name else other for other in whole.nodes)
    return replace(whole, nodes=tuple(nodes))


@pytest.mark.parametrize(
    ("devices", "numa_nodes", "expected"),
    [
        ((), NUMA_NODES, None),
        ((GPU, AUDIO), NUMA_NODES, 1),
        ((GPU, AUDIO, CARD), {GPU.pci_address: 1, AUDIO.pci_address: 0, CARD.pci_address: 0}, 1),
        ((CARD,), NUMA_NODES, 0),
        ((GPU,), {GPU.pci_address: -1}, None),
        ((GPU,), {}, None),
        ((GPU, replace(GPU, pci_address="0000:42:00.0")), {GPU.pci_address: 1, "0000:42:00.0": 0}, 0),
    ],
)
def test_a_node_is_near_most_of_its_gpus(
    devices: tuple[PassthroughDevice, ...], numa_nodes: dict[str, int], expected: int | None
) -> None:
    assert near_gpus(replace(node(1), passthrough=devices), numa_nodes) == expected


def test_a_node_with_a_gpu_gets_the_cores_and_the_memory_near_it() -> None:
    found = placements(giving(lab(PINNED, 2, 2), "compute-01", GPU, AUDIO), TWO_CELLS, NUMA_NODES)
    assert found["compute-01"] == Placement((2, 6), (1,))
    assert found["controller"] == Placement((1, 5), (0,))


def test_nodes_with_gpus_choose_before_the_others() -> None:
    whole = giving(lab(PINNED, 1, 4, 4), "compute-02", GPU)
    assert placements(whole, TWO_CELLS, NUMA_NODES)["compute-02"].cpus == (2, 6, 3, 7)
    assert placements(whole, TWO_CELLS, NUMA_NODES)["compute-01"].cpus == (1, 5, 0, 4)
    # Two at one GPU's NUMA node: the second gets the other's cores, and its memory where they are.
    both = giving(whole, "compute-01", GPU)
    assert placements(both, TWO_CELLS, NUMA_NODES)["compute-02"] == Placement((1, 5, 0, 4), (0,))


def test_cores_of_several_numa_nodes_have_their_memory_near_the_gpu() -> None:
    found = placements(giving(lab(PINNED, 2, 6), "compute-01", GPU), TWO_CELLS, NUMA_NODES)
    assert found["compute-01"] == Placement((2, 6, 3, 7, 1, 5), (1,))


def test_a_guest_with_cells_begins_near_its_gpu() -> None:
    whole = giving(lab(replace(PINNED, numa_nodes=2), 2, 4), "compute-01", GPU)
    assert placements(whole, TWO_CELLS, NUMA_NODES)["compute-01"] == Placement((2, 6, 1, 5), (1, 0))


def test_memory_that_does_not_fit_is_asked_for_nowhere() -> None:
    memory_mb = node(1).memory_mb
    small = tuple(replace(cell, memory_mb=memory_mb * 3 // 2) for cell in TWO_CELLS)
    found = placements(lab(PINNED, 1, 1, 1), small)
    # Both fit one NUMA node with their cores, one of them with its memory.
    assert [found[name].memory for name in ("compute-01", "compute-02")] == [(0,), (None,)]


def test_each_cell_of_a_guest_begins_at_another_of_the_host() -> None:
    found = placements(lab(replace(PINNED, numa_nodes=2), 2, 4), TWO_CELLS)
    assert found["compute-01"] == Placement((1, 5, 2, 6), (0, 1))


def test_without_the_wish_nothing_is_pinned() -> None:
    assert placements(lab(Acceleration(), 1, 1), FOUR_CORES) == {}


@pytest.mark.parametrize(
    ("acceleration", "cpu_cores", "memory_mb", "expected"),
    [
        (Acceleration(), 4, 4096, []),
        (Acceleration(numa_nodes=1), 4, 4096, [("0-3", 4096)]),
        (Acceleration(numa_nodes=2), 4, 4097, [("0-1", 2049), ("2-3", 2048)]),
        (Acceleration(numa_nodes=2), 3, 4096, [("0-1", 2048), ("2", 2048)]),
        (Acceleration(numa_nodes=4), 3, 4096, []),
        # Cores stay whole: two of two threads make two cells, not four.
        (Acceleration(numa_nodes=4, cpu_topology=CpuTopology(1, 2, 2)), 4, 4096, []),
        (
            Acceleration(numa_nodes=2, cpu_topology=CpuTopology(1, 3, 2)),
            6,
            4096,
            [("0-3", 2048), ("4-5", 2048)],
        ),
        (
            Acceleration(numa_nodes=2, enable_hugepages=True, hugepage_size="1G"),
            2,
            3072,
            [("0", 2048), ("1", 1024)],
        ),
        (Acceleration(numa_nodes=2, memory_backing="hugepages", hugepage_size="1G"), 2, 1024, []),
    ],
)
def test_a_node_is_split_into_whole_cores_and_pages(
    acceleration: Acceleration, cpu_cores: int, memory_mb: int, expected: list[tuple[str, int]]
) -> None:
    guest = replace(node(1, cpu_cores=cpu_cores), memory_mb=memory_mb)
    cells: tuple[GuestCell, ...] = guest_cells(acceleration, guest)
    assert [(cell.cpus, cell.memory_mb) for cell in cells] == expected
    assert all(before.vcpus.stop == after.vcpus.start for before, after in pairwise(cells))


SYSFS = """\
/sys/devices/system/cpu/cpu0/topology/thread_siblings_list:0,4
/sys/devices/system/cpu/cpu1/topology/thread_siblings_list:1,5
/sys/devices/system/cpu/cpu2/topology/thread_siblings_list:2-3
/sys/devices/system/cpu/cpu3/topology/thread_siblings_list:2-3
/sys/devices/system/cpu/cpu4/topology/thread_siblings_list:0,4
/sys/devices/system/cpu/cpu5/topology/thread_siblings_list:1,5
"""
NUMA = """\
/sys/devices/system/node/node0/cpulist:0-1,4-5
/sys/devices/system/node/node1/cpulist:2-3
/sys/devices/system/node/node2/cpulist:
Node 0 MemTotal:       16000000 kB
Node 1 MemTotal:        8000000 kB
"""


def test_the_cells_of_this_host_come_from_sysfs() -> None:
    assert cpus.parse(SYSFS + NUMA) == (
        HostCell(0, ((0, 4), (1, 5)), 15625),
        HostCell(1, ((2, 3),), 7812),
    )
    assert cpus.parse(SYSFS) == (HostCell(0, ((0, 4), (1, 5), (2, 3))),)
    assert cpus.parse("") == ()
    with pytest.raises(HpcstateError, match="nothing about processors"):
        cpus.parse("grep: no such file")


def test_sysfs_is_read_wherever_it_is(tmp_path: Path) -> None:
    root = tmp_path / "a 'quoted' sysfs"
    for line in (SYSFS + NUMA.split("Node")[0]).splitlines():
        name, _, content = line.partition(":")
        file = root / name.removeprefix("/sys/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n")
    (root / "devices/system/node/node1/meminfo").write_text(
        "Node 1 MemTotal: 8000000 kB\nNode 1 MemFree: 1 kB\n"
    )
    assert cpus.parse(local(cpus.command(str(root)))) == (
        HostCell(0, ((0, 4), (1, 5))),
        HostCell(1, ((2, 3),), 7812),
    )
    assert cpus.parse(local(cpus.command(str(tmp_path / "none")))) == ()
