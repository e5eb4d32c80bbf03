"""What a check is, how it runs, and how suites are found."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hpcstate.check import (
    Check,
    CheckFailed,
    CheckResult,
    CheckSkipped,
    Needs,
    Outcome,
    check,
    exit_code,
    load_suites,
    run_check,
    run_checks,
)
from hpcstate.errors import HpcstateError
from hpcstate.live import Live, UnreachableError
from tests.unit.fake_live import FakeLive, a_node


def live() -> Live:
    return FakeLive(lambda node, script: "")


def raising(error: Exception) -> Check:
    @check("suite.raising", "Raises")
    def one(live: Live) -> str:
        raise error

    return one


def test_a_passed_check_says_what_it_saw() -> None:
    @check("suite.fine", "All is fine")
    def fine(live: Live) -> str:
        return "rank count 4"

    result = run_check(fine, live())
    assert (result.name, result.title, result.outcome) == ("suite.fine", "All is fine", "passed")
    assert result.observed == "rank count 4"


def test_a_failed_check_has_what_was_expected_and_a_next_step() -> None:
    result = run_check(raising(CheckFailed("one world", "two worlds", "MpiDefault")), live())
    assert result.outcome == "failed"
    assert (result.expected, result.observed, result.hint) == ("one world", "two worlds", "MpiDefault")


@pytest.mark.parametrize(
    ("error", "outcome", "words"),
    [
        (CheckSkipped("the cluster is busy"), "skipped", "the cluster is busy"),
        (HpcstateError("broken", where="compute-01", hint="look"), "error", "compute-01: broken"),
        (ValueError("Expecting value"), "error", "could not be read: ValueError: Expecting value"),
        (KeyError("nodes"), "error", "KeyError"),
    ],
)
def test_what_is_no_finding_is_not_reported_as_one(error: Exception, outcome: str, words: str) -> None:
    result = run_check(raising(error), live())
    assert result.outcome == outcome
    assert words in result.reason


def test_a_dead_node_is_a_failure_with_its_name() -> None:
    dead = UnreachableError("compute-02", "192.168.150.12 does not answer on SSH: timeout", hint="status")
    result = run_check(raising(dead), live())
    assert result.outcome == "failed"
    assert result.expected == "compute-02 answers"
    assert "192.168.150.12" in result.observed


@pytest.mark.parametrize(
    ("needs", "missing"),
    [
        (Needs(), ""),
        (Needs(nodes=2, gpus=1, cpus=2), ""),
        (Needs(nodes=3), "needs 3 compute nodes, the cluster has 2"),
        (Needs(gpus=2), "needs a compute node with 2 GPUs, the cluster file declares none"),
        (Needs(cpus=8), "needs a compute node with 8 CPUs, the cluster file declares none"),
    ],
)
def test_needs(needs: Needs, missing: str) -> None:
    assert needs.missing([a_node("compute-01", 11, gpus=0), a_node("compute-02", 12, gpus=1)]) == missing


def test_a_check_that_lacks_what_it_needs_is_skipped_and_not_run() -> None:
    @check("suite.big", "Many nodes", needs_nodes=9)
    def big(live: Live) -> str:
        raise AssertionError("it ran")

    assert run_check(big, live()).outcome == "skipped"


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([], 0),
        (["passed", "skipped"], 0),
        (["passed", "failed", "error"], 1),
        (["passed", "error"], 2),
    ],
)
def test_exit_codes(outcomes: list[Outcome], code: int) -> None:
    assert exit_code(CheckResult("s.c", "", outcome, 0.1) for outcome in outcomes) == code


def test_results_are_reported_as_they_come() -> None:
    seen: list[str] = []
    results = run_checks([raising(CheckSkipped("x"))] * 2, live(), lambda result: seen.append(result.outcome))
    assert seen == ["skipped", "skipped"] == [result.outcome for result in results]


def test_the_suites_of_the_project() -> None:
    suites = load_suites()
    names = [one.name for one in suites.checks]
    assert names[0] == "nodes.registered"
    assert len(names) == len(set(names))
    assert {one.suite for one in suites.checks} >= {"nodes", "mpi", "gpu", "limits"}
    assert {fault.check.name for fault in suites.faults} == set(names)


def test_select() -> None:
    suites = load_suites()
    assert {one.suite for one in suites.select(suite="gpu")} == {"gpu"}
    assert [one.name for one in suites.select(name="mpi.two_nodes")] == ["mpi.two_nodes"]
    assert suites.select() == suites.checks


@pytest.mark.parametrize(
    ("suite", "name", "known"),
    [
        ("gpus", "", "nodes, gpu, limits, mpi"),
        ("", "mpi.two", "mpi.two_nodes"),
        ("gpu", "mpi.two_nodes", "gpu."),
    ],
)
def test_select_tells_what_there_is(suite: str, name: str, known: str) -> None:
    with pytest.raises(HpcstateError, match="there is no check") as raised:
        load_suites().select(suite, name)
    assert known in raised.value.hint


HEAD = "from hpcstate.check import check, fault\n"
FINE = "@check('{0}.one', 'T')\ndef one(live):\n    return ''\n"
FAULT = "@fault(one, 'F')\ndef broken(live):\n    yield\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + FINE, "no fault for {0}.one"),
        (HEAD + "@check('other.one', 'T')\ndef one(live):\n    return ''\n" + FAULT, "'other.one'"),
        (
            HEAD + FINE + FAULT + "two = type(one)('{0}.one', 'T', one.needs, one.function)\n",
            "'{0}.one' is taken",
        ),
    ],
    ids=["no fault", "another suite", "taken"],
)
def test_a_suite_that_proves_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, text: str, message: str
) -> None:
    # A name of its own, because importlib keeps modules by name.
    suite = f"made{abs(hash(request.node.name))}"
    folder = tmp_path / "tests" / "suites" / suite
    folder.mkdir(parents=True)
    (folder / "made.py").write_text(text.format(suite))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(HpcstateError, match=message.format(suite)):
        load_suites(tmp_path)


def test_no_suites_is_an_error_and_not_a_success(tmp_path: Path) -> None:
    with pytest.raises(HpcstateError, match="there are no suites"):
        load_suites(tmp_path)
