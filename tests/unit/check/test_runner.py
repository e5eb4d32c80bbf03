"""What a check is, how it runs, and how suites are found."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcstate.check.observation import observation
from hpcstate.check.runner import (
    Check,
    CheckFailed,
    CheckResult,
    CheckSkipped,
    Needs,
    Outcome,
    Suites,
    check,
    exit_code,
    fault,
    load_suites,
    run_check,
    run_checks,
)
from hpcstate.errors import HpcstateError
from hpcstate.node.ssh import Live, UnreachableError
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
        (Needs(gpus=1, real_gpus=1), "needs a compute node with 1 real GPU, the cluster file has none"),
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


def looking(answers: Iterator[str]) -> tuple[Check, Check]:
    """Two checks that look at the same thing, which is another at each look."""

    @observation
    def seen(live: Live) -> str:
        answer = next(answers)
        if answer == "broken":
            raise CheckFailed("whole", answer)
        return answer

    return check("suite.one", "One")(seen), check("suite.two", "Two")(seen)


def test_checks_of_a_run_share_what_they_look_at_and_the_next_run_looks_again() -> None:
    one, two = looking(iter(["first", "second"]))
    there = live()
    for expected in ("first", "second"):
        results = run_checks([one, two], there, lambda _: None)
        assert [result.observed for result in results] == [expected, expected]


def test_a_failure_is_shared_as_well() -> None:
    results = run_checks(looking(iter(["broken", "mended"])), live(), lambda _: None)
    assert [(result.outcome, result.observed) for result in results] == [("failed", "broken")] * 2


def test_a_check_by_itself_looks_anew() -> None:
    one, two = looking(iter(["first", "second", "third"]))
    there = live()
    assert [run_check(one, there).observed for _ in range(2)] == ["first", "second"]
    assert run_check(two, there).observed == "third"


def test_an_interrupted_run_leaves_nothing_known() -> None:
    one, _ = looking(iter(["first", "second"]))
    there = live()

    def interrupted(result: CheckResult) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_checks([one], there, interrupted)
    assert run_check(one, there).observed == "second"


def test_what_a_fault_proves_is_what_its_nodes_can_show() -> None:
    def broken(live: Live) -> Iterator[None]:
        yield

    one = check("suite.one", "One")(lambda live: "")
    two = check("suite.two", "Two", needs_nodes=2)(lambda live: "")
    gpu = fault("a GPU is broken", "suite.one", "suite.two", needs_gpus=1)(broken)
    suites = Suites((one, two), (gpu,))
    with_gpu, without = a_node("compute-01", 11, gpus=1), a_node("compute-02", 12, gpus=0)
    assert suites.proven_by(gpu, [with_gpu]) == (one,)
    assert suites.proven_by(gpu, [with_gpu, without]) == (one, two)
    assert suites.proven_by(gpu, [without, without]) == ()
    assert suites.faults_of(two) == (gpu,)


def test_the_suites_of_the_project() -> None:
    suites = load_suites()
    names = [one.name for one in suites.checks]
    assert names[0] == "nodes.registered"
    assert len(names) == len(set(names))
    assert {one.suite for one in suites.checks} >= {"nodes", "mpi", "gpu-gres", "cgroup-isolation"}
    assert {name for fault in suites.faults for name in fault.checks} == set(names)
    descriptions = [fault.description for fault in suites.faults]
    assert len(descriptions) == len(set(descriptions))


def test_select() -> None:
    suites = load_suites()
    assert {one.suite for one in suites.select(suite="gpu-gres")} == {"gpu-gres"}
    assert [one.name for one in suites.select(name="mpi.two_nodes")] == ["mpi.two_nodes"]
    assert suites.select() == suites.checks


@pytest.mark.parametrize(
    ("suite", "name", "known"),
    [
        ("gpus", "", "nodes, cgroup-isolation, "),
        ("", "mpi.two", "mpi.two_nodes"),
        ("gpu-gres", "mpi.two_nodes", "gpu-gres."),
    ],
)
def test_select_tells_what_there_is(suite: str, name: str, known: str) -> None:
    with pytest.raises(HpcstateError, match="there is no check") as raised:
        load_suites().select(suite, name)
    assert known in raised.value.hint


HEAD = "from hpcstate.check.runner import check, fault\n"
FINE = "@check('{0}.one', 'T')\ndef one(live):\n    return ''\n"
FAULT = "@fault('F', '{0}.one')\ndef broken(live):\n    yield\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + FINE, "no fault for {0}.one"),
        (HEAD + "@check('other.one', 'T')\ndef one(live):\n    return ''\n" + FAULT, "'other.one'"),
        (
            HEAD + FINE + FAULT + "two = type(one)('{0}.one', 'T', one.needs, one.function)\n",
            "'{0}.one' is taken",
        ),
        (HEAD + FINE + FAULT.replace("one", "other"), "no check: {0}.other"),
    ],
    ids=["no fault", "another suite", "taken", "a fault of nothing"],
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
