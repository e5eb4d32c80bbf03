"""MPI programs over several nodes, started by srun over PMIx.

Without PMIx, Open MPI 5 starts each task as a world of its own, and a program that does not look at the size
of its world seems to work: so the size is looked at, and the hosts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcstate.check.jobs import pair, srun, together
from hpcstate.check.suite import CheckFailed, RecordProperty, fault
from hpcstate.model import Node
from hpcstate.node.ssh import Live
from tests.suites.breaking import SLURM_CONF, Edit, edited, set_key
from tests.suites.slurm import reports

MEMORY = "--mem=400M"
BYTES = 1_000_000


@pytest.mark.needs(nodes=2)
def test_two_nodes(live: Live, record_property: RecordProperty) -> None:
    """An MPI program on two nodes is one world: rank count, sum and hosts are right"""
    nodes = pair(live)
    ranks = _run(live, nodes)
    count = _ranks_per_node(nodes) * 2
    wanted = (count, sum(range(count)), BYTES)
    seen = {(rank["size"], rank["sum"], rank["bytes"]) for rank in ranks}
    hosts = sorted({rank["host"] for rank in ranks})
    numbers = sorted(rank["rank"] for rank in ranks)
    if seen != {wanted} or numbers != list(range(count)) or hosts != sorted(node.name for node in nodes):
        raise CheckFailed(
            f"{count} ranks of one world of {count} on two nodes, sum {wanted[1]}",
            "; ".join(
                f"rank {rank['rank']} of {rank['size']} on {rank['host']}, sum {rank['sum']}"
                for rank in ranks
            )
            or "no rank reported",
            "a world of size 1 means that MPI started without PMIx: MpiDefault=pmix in slurm.conf",
        )
    record_property(
        "observed", f"rank count {count}, sum {wanted[1]}, hosts {' '.join(hosts)}, {ranks[0]['library']}"
    )


@pytest.mark.needs(nodes=2)
def test_environment(live: Live, record_property: RecordProperty) -> None:
    """Tasks are told their job, their rank and the namespace by Slurm and PMIx alike"""
    nodes = pair(live)
    script = (
        'echo "{\\"job\\": \\"$SLURM_JOB_ID\\", \\"slurm_rank\\": \\"$SLURM_PROCID\\", '
        '\\"slurm_size\\": \\"$SLURM_NTASKS\\", \\"pmix_rank\\": \\"$PMIX_RANK\\", '
        '\\"pmix_namespace\\": \\"$PMIX_NAMESPACE\\"}"'
    )
    tasks = reports(srun(live, _arguments(live, nodes), ["sh", "-c", script]))
    count = _ranks_per_node(nodes) * 2
    ranks = sorted(task["slurm_rank"] for task in tasks)
    jobs = {task["job"] for task in tasks}
    spaces = {task["pmix_namespace"] for task in tasks}
    right = (
        ranks == [str(rank) for rank in range(count)]
        and all(task["pmix_rank"] == task["slurm_rank"] for task in tasks)
        and {task["slurm_size"] for task in tasks} == {str(count)}
        and len(jobs) == len(spaces) == 1
        and "" not in jobs | spaces
    )
    if not right:
        raise CheckFailed(
            f"ranks 0 to {count - 1} alike in SLURM_PROCID and PMIX_RANK, one job, one PMIx namespace",
            "; ".join(
                f"SLURM_PROCID={task['slurm_rank']} PMIX_RANK={task['pmix_rank']} SLURM_NTASKS="
                f"{task['slurm_size']} SLURM_JOB_ID={task['job']} PMIX_NAMESPACE={task['pmix_namespace']}"
                for task in tasks
            ),
            "MpiDefault=pmix in slurm.conf gives tasks their PMIX_ variables",
        )
    record_property("observed", f"job {jobs.pop()}, namespace {spaces.pop()}, ranks {' '.join(ranks)}")


def _ranks_per_node(nodes: list[Node]) -> int:
    return min(2, *(node.cpu_cores for node in nodes))


def _arguments(live: Live, nodes: list[Node]) -> tuple[str, ...]:
    place = together(live, nodes)[0]
    return (*place, f"--ntasks-per-node={_ranks_per_node(nodes)}", "--cpus-per-task=1", MEMORY)


def _run(live: Live, nodes: list[Node]) -> list[dict[str, Any]]:
    text = srun(
        live,
        _arguments(live, nodes),
        ["python3", "-c", Path(__file__).with_name("_allreduce.py").read_text()],
        seconds=60,
    )
    return sorted(reports(text), key=lambda report: (report["rank"], report["host"]))


@fault(
    "MpiDefault is none where srun runs",
    "mpi.two_nodes",
    "mpi.environment",
    "container-integration.mpi",
    "container-integration.mpi_4",
)
def without_pmix(live: Live) -> Iterator[None]:
    # srun takes MpiDefault from the slurm.conf of the machine on which it runs.
    controller = live.cluster.controller.name
    with edited(live, [Edit(controller, SLURM_CONF, set_key("MpiDefault", "none"))]):
        yield
