"""What follows from a cluster's acceleration for one node."""

from __future__ import annotations

import pytest

from hpcstate.model import Acceleration, CpuTopology

DECLARED = CpuTopology(sockets=1, cores=2, threads=2)


@pytest.mark.parametrize(
    ("declared", "cpu_cores", "topology"),
    [
        (DECLARED, 4, DECLARED),
        (DECLARED, 2, CpuTopology(1, 2, 1)),
        (DECLARED, 8, CpuTopology(1, 8, 1)),
        (None, 4, CpuTopology(1, 4, 1)),
    ],
)
def test_the_declared_topology_counts_where_it_makes_the_cpus(
    declared: CpuTopology | None, cpu_cores: int, topology: CpuTopology
) -> None:
    found = Acceleration(cpu_topology=declared).topology_of(cpu_cores)
    assert (found, found.cpus) == (topology, cpu_cores)
