"""MPI in containers: ranks on two nodes are one world over Slurm's PMIx, also with large messages.

Large ones, because those between two ranks of a node go another way than small ones: they hang when the
container's Open MPI tries to read the other rank's memory across user namespaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hpcstate.check.jobs import pair, srun
from hpcstate.check.suite import CheckFailed, RecordProperty
from hpcstate.node.ssh import Live
from tests.suites.containers import in_container, two_nodes
from tests.suites.slurm import reports

CONTAINER = "mpi-minimal"
WITH_OPEN_MPI_4 = "pytorch-cpu-mpi"
NUMBERS = 1 << 20


@pytest.mark.needs(nodes=2, cpus=2, containers=(CONTAINER,))
def test_mpi(live: Live, record_property: RecordProperty) -> None:
    """4 ranks in containers on two nodes are one world, and pass 8 MiB to each other"""
    record_property("observed", one_world(live, CONTAINER))


@pytest.mark.needs(nodes=2, cpus=2, containers=(WITH_OPEN_MPI_4,))
def test_mpi_4(live: Live, record_property: RecordProperty) -> None:
    """The same with Open MPI 4, whose large messages hang unless container-exec prevents it"""
    record_property("observed", one_world(live, WITH_OPEN_MPI_4))


def one_world(live: Live, container: str) -> str:
    """A job of 4 ranks in ``container``. Raises CheckFailed, also when it does not end in time."""
    program = Path(__file__).with_name("_ranks.py").read_text()
    text = srun(
        live,
        (*two_nodes(live), "--ntasks-per-node=2", "--cpus-per-task=1", "--mem=600M"),
        in_container(container, "python3", "-c", program),
        seconds=120,
    )
    ranks = sorted(reports(text), key=lambda report: (report["rank"], report["host"]))
    demand_one_world(ranks, [node.name for node in pair(live)])
    return f"{len(ranks)} ranks on {len(pair(live))} nodes, {ranks[0]['library']} of {ranks[0]['container']}"


def demand_one_world(ranks: Sequence[dict[str, Any]], hosts: Sequence[str]) -> None:
    """Raises CheckFailed unless two ranks on each of ``hosts``, all in a container, have one sum of all."""
    count = 2 * len(hosts)
    total = float(sum(range(1, count + 1)))
    right = (
        [rank["rank"] for rank in ranks] == list(range(count))
        and {rank["size"] for rank in ranks} == {count}
        and sorted(rank["host"] for rank in ranks) == sorted([*hosts, *hosts])
        and all(rank["sums"] == [total] and rank["numbers"] == NUMBERS for rank in ranks)
        and all(rank["container"] for rank in ranks)
    )
    if not right:
        raise CheckFailed(
            f"ranks 0 to {count - 1} of one world of {count}, in a container, with the sum {total:.0f}",
            "; ".join(
                f"rank {rank['rank']} of {rank['size']} on {rank['host']} in {rank['container'] or 'none'}: "
                f"{rank['numbers']} numbers, sums {rank['sums'][:3]}"
                for rank in ranks
            )
            or "no rank reported",
            "a world of size 1 means that MPI started without PMIx: MpiDefault=pmix in slurm.conf",
        )
