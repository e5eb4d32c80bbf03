"""Which CPUs of the host a node is pinned to, and how it is split into NUMA nodes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from hpcstate.cpu_placement import GuestCell, HostCell, Placement, guest_cells, host_cells, placements
from hpcstate.model import Acceleration, Cluster, CpuTopology
from tests.unit.slurm_clusters import cluster, node

CAPABILITIES = """
<capabilities><host><topology><cells num='3'>
  <cell id='0'><cpus num='4'>
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
    assert host_cells(CAPABILITIES) == (HostCell(0, ((0, 4), (1, 5))), HostCell(1, ((2, 3), (6,))))


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
    one = replace(node(1, cpu_cores=cpu_cores), memory_mb=memory_mb)
    cells: tuple[GuestCell, ...] = guest_cells(acceleration, one)
    assert [(cell.cpus, cell.memory_mb) for cell in cells] == expected
    assert all(before.vcpus.stop == after.vcpus.start for before, after in pairwise(cells))
