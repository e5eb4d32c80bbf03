"""Training on several nodes, in the container of the registry, started by srun as any user would.

One job serves both checks of this file: PyTorch takes long to import under software emulation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hpcstate.check.jobs import srun
from hpcstate.check.suite import CheckFailed, RecordProperty
from hpcstate.node.ssh import Live
from tests.suites.containers import in_container, two_nodes
from tests.suites.slurm import reports

CONTAINER = "pytorch-cpu-mpi"
SECONDS = 240
PARAMETERS = (2.0, -1.0, 0.5, 3.0)
"""What the line has that the ranks learn."""


@pytest.mark.needs(nodes=2, containers=(CONTAINER,))
def test_all_reduce(trained: list[dict[str, Any]], record_property: RecordProperty) -> None:
    """PyTorch in containers on two nodes adds up a tensor over gloo"""
    demand_sum(trained)
    record_property(
        "observed", f"torch {trained[0]['torch']}: {len(trained)} ranks, sum {trained[0]['sum']:.0f}"
    )


@pytest.mark.needs(nodes=2, containers=(CONTAINER,))
def test_training(trained: list[dict[str, Any]], record_property: RecordProperty) -> None:
    """A model trained by DistributedDataParallel on two nodes learns, and is the same on every rank"""
    demand_learning(trained)
    losses = ", ".join(f"{rank['first_loss']:.3g} to {rank['last_loss']:.2g}" for rank in trained)
    record_property("observed", f"loss of each rank: {losses}; parameters agree")


@pytest.fixture(scope="session")
def trained(live: Live) -> list[dict[str, Any]]:
    """What each rank of the job reported, by rank of Slurm."""
    program = Path(__file__).with_name("_training.py").read_text()
    text = srun(
        live,
        (*two_nodes(live), "--ntasks-per-node=1", "--cpus-per-task=1", "--mem=900M"),
        in_container(CONTAINER, "python3", "-c", program, "gloo"),
        seconds=SECONDS,
    )
    return sorted(reports(text), key=lambda report: int(report["slurm_rank"]))


def demand_sum(ranks: Sequence[dict[str, Any]]) -> None:
    """Raises CheckFailed unless every rank has the sum of all ranks' numbers (1 and up)."""
    wanted = float(sum(range(1, len(ranks) + 1)))
    wrong = [rank for rank in ranks if rank.get("sum") != wanted or rank.get("size") != len(ranks)]
    if wrong or len(ranks) < 2:
        raise CheckFailed(
            f"every rank of a world of {max(2, len(ranks))} has the sum {wanted:.0f}",
            "; ".join(f"{rank['host']}: size {rank.get('size')}, sum {rank.get('sum')}" for rank in wrong)
            or f"{len(ranks)} ranks",
            "nodes reach each other at MASTER_ADDR? the firewall lets the cluster's subnet in (nftables)",
        )


def demand_learning(ranks: Sequence[dict[str, Any]]) -> None:
    """Raises CheckFailed unless each rank's loss fell to a hundredth, and all have the one right model."""
    models = {tuple(rank.get("parameters", ())) for rank in ranks}
    fell = all(rank.get("last_loss", 1.0) < 0.01 * rank.get("first_loss", 0.0) for rank in ranks)
    learnt = all(
        len(model) == len(PARAMETERS)
        and all(abs(found - true) < 0.1 for found, true in zip(model, PARAMETERS, strict=True))
        for model in models
    )
    if not ranks or len(models) != 1 or not fell or not learnt:
        raise CheckFailed(
            f"each rank's loss falls to a hundredth, and all have the parameters {PARAMETERS}",
            "; ".join(
                f"{rank['host']}: loss {rank.get('first_loss')} to {rank.get('last_loss')}, "
                f"{rank.get('parameters')}"
                for rank in ranks
            )
            or "no rank reported",
            "ranks that disagree do not exchange gradients: look at container-integration.all_reduce first",
        )
