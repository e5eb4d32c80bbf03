"""The verdicts of the suite container-integration, on reports as ranks send them, and on wrong ones."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from hpcstate import paths
from hpcstate.check.suite import CheckFailed

environment = importlib.import_module("tests.suites.container_integration.test_environment")
training = importlib.import_module("tests.suites.container_integration.test_training")
mpi = importlib.import_module("tests.suites.container_integration.test_mpi")

HOSTS = ["compute-01", "compute-02"]
Report = dict[str, Any]


def rank(number: int) -> Report:
    """What a rank of the training reports on a sound cluster."""
    return {
        "host": HOSTS[number],
        "slurm_rank": str(number),
        "rank": number,
        "size": 2,
        "sum": 3.0,
        "first_loss": 14.2,
        "last_loss": 0.004,
        "parameters": [1.98, -0.99, 0.51, 2.97],
    }


def told(number: int) -> Report:
    """What a rank is told on a sound cluster, two ranks on each node."""
    names = {"MASTER_ADDR": "compute-01", "MASTER_PORT": "20016", "WORLD_SIZE": "4", "RANK": str(number)}
    names |= {"LOCAL_RANK": str(number % 2), "NODE_RANK": str(number // 2)}
    return {"host": HOSTS[number // 2], "slurm_rank": str(number), "environment": names}


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
    training.demand_sum(ranks)
    training.demand_learning(ranks)


def test_a_sound_cluster_passes() -> None:
    judge_training([rank(0), rank(1)])
    environment.demand_environment([told(number) for number in range(4)], HOSTS)
    mpi.demand_one_world([world(number) for number in range(4)], HOSTS)


@pytest.mark.parametrize(
    ("judge", "change"),
    [
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
        wrong[key] = value
    demand: Callable[..., None] = getattr(training, judge)
    with pytest.raises(CheckFailed) as red:
        demand([rank(0), wrong])
    assert "compute-02" in red.value.observed


@pytest.mark.parametrize(
    "change",
    [
        {"MASTER_ADDR": ""},
        {"MASTER_ADDR": "compute-02"},
        {"MASTER_PORT": ""},
        {"MASTER_PORT": "20017"},
        {"RANK": "0"},
        {"WORLD_SIZE": "2"},
        {"NODE_RANK": "0"},
        {"LOCAL_RANK": "0"},
    ],
)
def test_one_rank_that_is_told_another_place_is_red(change: dict[str, str]) -> None:
    ranks = [told(number) for number in range(4)]
    ranks[3]["environment"] |= change
    with pytest.raises(CheckFailed) as red:
        environment.demand_environment(ranks, HOSTS)
    (name,) = change
    assert f"{name}={change[name]}" in red.value.observed


def test_a_rank_on_another_node_than_it_is_told_is_red() -> None:
    ranks = [told(number) for number in range(4)]
    ranks[1]["host"], ranks[2]["host"] = ranks[2]["host"], ranks[1]["host"]
    with pytest.raises(CheckFailed):
        environment.demand_environment(ranks, HOSTS)


def test_both_ranks_wrong_alike_is_red() -> None:
    ranks = [rank(0) | {"parameters": [0.0] * 4}, rank(1) | {"parameters": [0.0] * 4}]
    with pytest.raises(CheckFailed):
        training.demand_learning(ranks)


@pytest.mark.parametrize("ranks", [[], [rank(0)]])
def test_missing_ranks_are_red(ranks: list[Report]) -> None:
    with pytest.raises(CheckFailed):
        environment.demand_environment(ranks and [told(0)], HOSTS)
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


@pytest.mark.parametrize("change", [environment.without_distributed, environment.only_one_rank_of_a_node])
def test_a_fault_changes_one_line_of_the_wrapper(change: Callable[[str], str]) -> None:
    before = (paths.TEMPLATES / "apptainer" / "container-exec").read_text().split("\n")
    after = set(change("\n".join(before)).split("\n"))
    assert len([line for line in before if line not in after]) == 1
