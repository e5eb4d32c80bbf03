"""The environment of torch.distributed in containers: where the ranks meet, and which one each of them is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hpcstate.check.jobs import pair, srun
from hpcstate.check.suite import CheckFailed, RecordProperty, fault
from hpcstate.node.ssh import Live
from tests.suites.breaking import Edit, edited
from tests.suites.containers import WRAPPER, in_container, two_nodes
from tests.suites.slurm import reports

CONTAINER = "mpi-minimal"
TASKS = 2
"""Ranks on each node: with one, a LOCAL_RANK that is always 0 would pass."""


@pytest.mark.needs(nodes=2, cpus=TASKS, containers=(CONTAINER,))
def test_environment(live: Live, record_property: RecordProperty) -> None:
    """Every rank in a container is told where torch.distributed meets, its rank and the size of the world"""
    program = Path(__file__).with_name("_environment.py").read_text()
    text = srun(
        live,
        (*two_nodes(live), f"--ntasks-per-node={TASKS}", "--cpus-per-task=1", "--mem=600M"),
        in_container(CONTAINER, "python3", "-c", program),
        seconds=60,
    )
    ranks = sorted(reports(text), key=lambda report: int(report["slurm_rank"]))
    demand_environment(ranks, [node.name for node in pair(live)])
    first = ranks[0]["environment"]
    record_property("observed", f"{len(ranks)} ranks meet at {first['MASTER_ADDR']}:{first['MASTER_PORT']}")


def demand_environment(ranks: Sequence[dict[str, Any]], hosts: Sequence[str]) -> None:
    """Raises CheckFailed unless each rank has its place in one world that meets on the first of ``hosts``."""
    size = TASKS * len(hosts)
    wanted = [
        {
            "WORLD_SIZE": str(size),
            "RANK": str(rank),
            "LOCAL_RANK": str(rank % TASKS),
            "NODE_RANK": str(rank // TASKS),
        }
        for rank in range(size)
    ]
    found = [{name: report["environment"].get(name, "") for name in wanted[0]} for report in ranks]
    places = [report["host"] for report in ranks] == [hosts[rank // TASKS] for rank in range(size)]
    meetings = {
        (report["environment"]["MASTER_ADDR"], report["environment"]["MASTER_PORT"]) for report in ranks
    }
    first = {address for address, port in meetings if port.isdigit()}
    if found != wanted or not places or len(meetings) != 1 or first != {hosts[0]}:
        raise CheckFailed(
            f"WORLD_SIZE {size}, RANK 0 to {size - 1}, LOCAL_RANK 0 to {TASKS - 1} on each node, and one "
            f"MASTER_ADDR:MASTER_PORT on {hosts[0]}",
            "; ".join(f"{report['host']}: {_shown(report['environment'])}" for report in ranks)
            or "no rank reported",
            f"{WRAPPER} sets them from Slurm's variables; is it the one of this version on every node?",
        )


def _shown(environment: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in environment.items())


def without_distributed(text: str) -> str:
    """The wrapper without the line that sets torch.distributed's environment."""
    return "\n".join(line for line in text.split("\n") if line != "distributed")


@fault(
    "container-exec does not set the environment of torch.distributed",
    "container-integration.environment",
    "container-integration.all_reduce",
    "container-integration.training",
    needs_nodes=2,
)
def no_environment(live: Live) -> Iterator[None]:
    with edited(live, [Edit(node.name, WRAPPER, without_distributed) for node in pair(live)]):
        yield


def only_one_rank_of_a_node(text: str) -> str:
    """The wrapper giving each rank the place of the first one on its node."""
    return text.replace("SLURM_LOCALID:-0", "UNSET:-0")


@fault(
    "container-exec gives all ranks of a node the same place",
    "container-integration.environment",
    needs_nodes=2,
)
def one_place(live: Live) -> Iterator[None]:
    with edited(live, [Edit(node.name, WRAPPER, only_one_rank_of_a_node) for node in pair(live)]):
        yield
