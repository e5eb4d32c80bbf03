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
    losses = ", ".join(f"{one['first_loss']:.3g} to {one['last_loss']:.2g}" for one in trained)
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
    wrong = [one for one in ranks if one.get("sum") != wanted or one.get("size") != len(ranks)]
    if wrong or len(ranks) < 2:
        raise CheckFailed(
            f"every rank of a world of {max(2, len(ranks))} has the sum {wanted:.0f}",
            "; ".join(f"{one['host']}: size {one.get('size')}, sum {one.get('sum')}" for one in wrong)
            or f"{len(ranks)} ranks",
            "nodes reach each other at MASTER_ADDR? the firewall lets the cluster's subnet in (nftables)",
        )


def demand_learning(ranks: Sequence[dict[str, Any]]) -> None:
    """Raises CheckFailed unless each rank's loss fell to a hundredth, and all have the one right model."""
    models = {tuple(one.get("parameters", ())) for one in ranks}
    fell = all(one.get("last_loss", 1.0) < 0.01 * one.get("first_loss", 0.0) for one in ranks)
    learnt = all(
        len(model) == len(PARAMETERS)
        and all(abs(found - true) < 0.1 for found, true in zip(model, PARAMETERS, strict=True))
        for model in models
    )
    if not ranks or len(models) != 1 or not fell or not learnt:
        raise CheckFailed(
            f"each rank's loss falls to a hundredth, and all have the parameters {PARAMETERS}",
            "; ".join(
                f"{one['host']}: loss {one.get('first_loss')} to {one.get('last_loss')}, "
                f"{one.get('parameters')}"
                for one in ranks
            )
            or "no rank reported",
            "ranks that disagree do not exchange gradients: look at container-integration.all_reduce first",
        )
