"""The verdicts of the suite container-integration, on reports as ranks send them, and on wrong ones."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from hpcstate import paths
from hpcstate.check import CheckFailed

training = importlib.import_module("tests.suites.container-integration.training")
mpi = importlib.import_module("tests.suites.container-integration.mpi")

HOSTS = ["compute-01", "compute-02"]
Report = dict[str, Any]


def rank(number: int) -> Report:
    """What a rank of the training reports on a sound cluster."""
    environment = {"MASTER_ADDR": "compute-01", "MASTER_PORT": "20016", "WORLD_SIZE": "2"}
    environment |= {"RANK": str(number), "LOCAL_RANK": "0", "NODE_RANK": str(number)}
    return {
        "host": HOSTS[number],
        "slurm_rank": str(number),
        "environment": environment,
        "rank": number,
        "size": 2,
        "sum": 3.0,
        "first_loss": 14.2,
        "last_loss": 0.004,
        "parameters": [1.98, -0.99, 0.51, 2.97],
    }


def world(number: int) -> Report:
    """What a rank of the MPI program reports on a sound cluster."""
    return {
        "rank": number,
        "size": 4,
        "host": HOSTS[number // 2],
        "sums": [10.0],
        "numbers": mpi.NUMBERS,
        "container": "mpi-minimal.sif",
    }


def judge_training(ranks: list[Report]) -> None:
    training.demand_environment(ranks, HOSTS)
    training.demand_sum(ranks)
    training.demand_learning(ranks)


def test_a_sound_cluster_passes() -> None:
    judge_training([rank(0), rank(1)])
    mpi.demand_one_world([world(number) for number in range(4)], HOSTS)


@pytest.mark.parametrize(
    ("judge", "change"),
    [
        ("demand_environment", {"MASTER_ADDR": ""}),
        ("demand_environment", {"MASTER_ADDR": "compute-02"}),
        ("demand_environment", {"MASTER_PORT": ""}),
        ("demand_environment", {"MASTER_PORT": "20017"}),
        ("demand_environment", {"RANK": "0"}),
        ("demand_environment", {"WORLD_SIZE": "1"}),
        ("demand_environment", {"NODE_RANK": "0"}),
        ("demand_environment", {"LOCAL_RANK": "1"}),
        ("demand_sum", {"sum": 2.0}),
        ("demand_sum", {"size": 1}),
        ("demand_learning", {"last_loss": 3.0}),
        ("demand_learning", {"last_loss": float("nan")}),
        ("demand_learning", {"parameters": [1.98, -0.99, 0.51, 2.96]}),
        ("demand_learning", {"parameters": []}),
    ],
)
def test_one_rank_that_is_wrong_is_red(judge: str, change: dict[str, Any]) -> None:
    wrong = deepcopy(rank(1))
    for key, value in change.items():
        (wrong["environment"] if key in wrong["environment"] else wrong)[key] = value
    demand: Callable[..., None] = getattr(training, judge)
    with pytest.raises(CheckFailed) as red:
        demand([rank(0), wrong], HOSTS) if judge == "demand_environment" else demand([rank(0), wrong])
    assert "compute-02" in red.value.observed


def test_both_ranks_wrong_alike_is_red() -> None:
    ranks = [rank(0) | {"parameters": [0.0] * 4}, rank(1) | {"parameters": [0.0] * 4}]
    with pytest.raises(CheckFailed):
        training.demand_learning(ranks)


@pytest.mark.parametrize("ranks", [[], [rank(0)]])
def test_missing_ranks_are_red(ranks: list[Report]) -> None:
    with pytest.raises(CheckFailed):
        training.demand_environment(ranks, HOSTS)
    with pytest.raises(CheckFailed):
        training.demand_sum(ranks)
    with pytest.raises(CheckFailed):
        mpi.demand_one_world(ranks, HOSTS) if not ranks else training.demand_sum(ranks)


@pytest.mark.parametrize(
    "change",
    [{"size": 1}, {"sums": [9.0]}, {"sums": [9.0, 10.0]}, {"numbers": 1}, {"container": ""}, {"host": "x"}],
)
def test_another_world_is_red(change: Report) -> None:
    ranks = [world(number) for number in range(3)] + [world(3) | change]
    with pytest.raises(CheckFailed):
        mpi.demand_one_world(ranks, HOSTS)


def test_the_fault_takes_one_line_out_of_the_wrapper() -> None:
    text = (paths.TEMPLATES / "apptainer" / "container-exec").read_text()
    assert len(text.splitlines()) - len(training.without_distributed(text).splitlines()) == 1
