"""What a check is, how pytest runs it, and how suites are found. Each suite here is files of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from hpcstate.check.plugin import result_of
from hpcstate.check.runner import exit_code, fitting, load_suites, run_check, run_checks
from hpcstate.check.suite import Check, CheckResult, Fault, Needs, Outcome, Suites, fault
from hpcstate.errors import HpcstateError
from hpcstate.node.ssh import Live, UnreachableError
from hpcstate.paths import ROOT
from tests.unit.fake_live import TWO, FakeLive, a_node

CHECK = Check("suite.one", "All is well", Needs(), Path("test_one.py"))
HEAD = """import pytest
from hpcstate.check.suite import CheckFailed, fault
"""

Made = Callable[[str], Suites]
"""Suites of somebody's own with the text of one file, whose checks are called ``<suite>.what``."""


def live() -> Live:
    return FakeLive(lambda node, script: "")


@pytest.fixture
def made(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Made]:
    """Makes suites of a file; a name of its own for each, because Python keeps modules by name."""
    before = set(sys.modules)

    def make(text: str) -> Suites:
        folder = tmp_path / f"suite_{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / "test_made.py").write_text(HEAD + text)
        suites = load_suites(more=[folder])
        return Suites(
            tuple(check for check in suites.checks if check.file.is_relative_to(tmp_path)), suites.faults
        )

    yield make
    for name in set(sys.modules) - before:
        if name.endswith("test_made"):
            del sys.modules[name]


def test_a_passed_check_says_what_it_saw(made: Made) -> None:
    (check,) = made(
        "def test_fine(record_property):\n"
        "    '''All is fine\n\n    More of it.'''\n"
        "    record_property('observed', 'rank count 4')\n"
    ).checks
    result = run_check(check, live())
    assert (result.name, result.title, result.outcome) == ("suite-0.fine", "All is fine", "passed")
    assert result.observed == "rank count 4"


def test_a_failed_check_has_what_was_expected_and_a_next_step(made: Made) -> None:
    text = "def test_one():\n    '''T'''\n    raise CheckFailed('one world', 'two worlds', 'MpiDefault')\n"
    result = run_check(made(text).checks[0], live())
    assert result.outcome == "failed"
    assert (result.expected, result.observed, result.hint) == ("one world", "two worlds", "MpiDefault")


def test_a_check_of_somebody_may_just_assert(made: Made) -> None:
    text = "def test_one(nodes):\n    '''Three nodes'''\n    assert len(nodes) == 3\n"
    result = run_check(made(text).checks[0], live())
    assert (result.outcome, result.expected) == ("failed", "Three nodes")
    assert "assert 2 == 3" in result.observed


def test_the_fixtures(made: Made) -> None:
    text = (
        "def test_one(cluster, controller, nodes, live, jobs, record_property):\n"
        "    '''T'''\n"
        "    names = [node.name for node in nodes]\n"
        "    seen = f'{cluster.name} {controller.name} {names} {live.cluster is cluster}'\n"
        "    record_property('observed', seen)\n"
        "    assert callable(jobs)\n"
    )
    result = run_check(made(text).checks[0], live())
    assert result.observed == "test controller ['compute-01', 'compute-02'] True"


@pytest.mark.parametrize(
    ("error", "outcome", "words"),
    [
        (HpcstateError("broken", where="compute-01", hint="look"), "error", "compute-01: broken"),
        (ValueError("Expecting value"), "error", "could not be read: ValueError: Expecting value"),
        (KeyError("nodes"), "error", "KeyError"),
        (TypeError("no such"), "error", "the check itself is broken: TypeError: no such"),
    ],
)
def test_what_is_no_finding_is_not_reported_as_one(error: Exception, outcome: str, words: str) -> None:
    result = result_of(CHECK, error, "", 0.1)
    assert result.outcome == outcome
    assert words in result.reason


def test_a_check_may_say_skip(made: Made) -> None:
    text = "def test_one():\n    '''T'''\n    pytest.skip('the cluster is busy')\n"
    result = run_check(made(text).checks[0], live())
    assert (result.outcome, result.reason) == ("skipped", "the cluster is busy")


def test_a_dead_node_is_a_failure_with_its_name() -> None:
    dead = UnreachableError("compute-02", "192.168.150.12 does not answer on SSH: timeout", hint="status")
    result = result_of(CHECK, dead, "", 0.1)
    assert result.outcome == "failed"
    assert result.expected == "compute-02 answers"
    assert "192.168.150.12" in result.observed


def test_a_dead_node_is_told_once_and_fails_every_check_that_needs_it(made: Made) -> None:
    text = "".join(
        f"def test_{name}(live):\n    '''T'''\n    live.run({node!r}, 'true')\n"
        for name, node in (("one", "compute-02"), ("two", "compute-02"), ("three", "compute-01"))
    )
    suites = made(text)
    suite = suites.checks[0].suite

    def answer(node: str, script: str) -> HpcstateError:
        return UnreachableError(node, f"{node}: no route to host", hint="is it on?")

    first, second, other = run_checks(suites.checks, FakeLive(answer), lambda _: None)
    assert [result.outcome for result in (first, second, other)] == ["failed"] * 3
    assert (first.expected, first.hint) == ("compute-02 answers", "is it on?")
    assert second.observed == f"compute-02 does not answer on SSH, as {suite}.one tells"
    assert (second.expected, second.hint) == ("", "")
    assert other.observed == "compute-01: no route to host"


def test_what_breaks_after_a_check_is_not_passed(made: Made) -> None:
    text = (
        "@pytest.fixture\n"
        "def held():\n"
        "    yield\n"
        "    raise CheckFailed('nothing left', 'a job')\n"
        "def test_one(held):\n"
        "    '''T'''\n"
    )
    result = run_check(made(text).checks[0], live())
    assert (result.outcome, result.observed) == ("failed", "a job")


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


def test_a_check_that_lacks_what_it_needs_is_skipped_before_anything_of_it_is_made(made: Made) -> None:
    text = (
        "@pytest.fixture(scope='session')\n"
        "def made():\n"
        "    raise AssertionError('it was made')\n"
        "@pytest.mark.needs(nodes=9)\n"
        "def test_big(made):\n"
        "    '''T'''\n"
    )
    result = run_check(made(text).checks[0], live())
    assert (result.outcome, result.reason) == ("skipped", "needs 9 compute nodes, the cluster has 2")


@pytest.mark.parametrize(
    ("needs", "said"),
    [
        ("gpu=1", r"test_made.py::test_one: the marker needs takes nodes, gpus, .* by name$"),
        ("2", "the marker needs takes nodes, gpus"),
        ("nodes='two'", r"needs\(nodes='two'\) is no int$"),
        ("containers='mpi-minimal'", "is no tuple$"),
    ],
)
def test_a_need_that_there_is_not_is_refused(made: Made, needs: str, said: str) -> None:
    with pytest.raises(HpcstateError, match=said) as caught:
        made(f"@pytest.mark.needs({needs})\ndef test_one():\n    '''T'''\n")
    assert "\n" not in caught.value.message


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


LOOKING = """
@pytest.fixture(scope="session")
def seen(live):
    answer = live.run("controller", "look").stdout
    if answer == "broken":
        raise CheckFailed("whole", answer)
    return answer

def test_one(seen, record_property):
    '''T'''
    record_property("observed", seen)

def test_two(seen, record_property):
    '''T'''
    record_property("observed", seen)
"""


def looking(*answers: str) -> Live:
    """A cluster that answers otherwise at each look."""
    following = iter(answers)
    return FakeLive(lambda node, script: next(following))


def test_results_are_reported_as_they_come_and_in_the_order_asked_for(made: Made) -> None:
    checks = made(LOOKING).checks
    told: list[str] = []
    results = run_checks(checks[::-1], looking("x"), lambda result: told.append(result.name))
    assert told == ["suite-0.two", "suite-0.one"] == [result.name for result in results]


def test_checks_of_a_run_share_what_they_look_at_and_the_next_run_looks_again(made: Made) -> None:
    checks = made(LOOKING).checks
    there = looking("first", "second", "third")
    for expected in ("first", "second"):
        results = run_checks(checks, there, lambda _: None)
        assert [result.observed for result in results] == [expected, expected]
    assert run_check(checks[1], there).observed == "third"


def test_a_failure_is_shared_as_well(made: Made) -> None:
    results = run_checks(made(LOOKING).checks, looking("broken", "mended"), lambda _: None)
    assert [(result.outcome, result.observed) for result in results] == [("failed", "broken")] * 2


def test_an_interrupted_run_says_so_and_leaves_nothing_known(made: Made) -> None:
    checks = made(LOOKING).checks
    there = looking("first", "second")

    def interrupted(result: CheckResult) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_checks(checks, there, interrupted)
    assert run_check(checks[0], there).observed == "second"


def test_a_signal_that_ends_the_program_is_no_failure_of_a_check(made: Made) -> None:
    """cli.py makes SystemExit of SIGTERM and SIGHUP. What the check holds is given back."""
    text = (
        "@pytest.fixture\n"
        "def held(live):\n"
        "    yield\n"
        "    live.run('controller', 'given back')\n"
        "def test_one(held):\n"
        "    '''T'''\n"
        "    raise SystemExit(143)\n"
        "def test_two():\n"
        "    '''T'''\n"
    )
    there = FakeLive(lambda node, script: "")
    told: list[CheckResult] = []
    with pytest.raises(SystemExit) as raised:
        run_checks(made(text).checks, there, told.append)
    assert raised.value.code == 128 + signal.SIGTERM
    assert [script for _, _, script in there.scripts] == ["given back"]
    assert told == []


def test_words_choose_checks(made: Made) -> None:
    checks = made(LOOKING).checks
    assert [check.name for check in fitting(checks, "suite-0.two")] == ["suite-0.two"]
    assert fitting(checks, "") == checks
    with pytest.raises(HpcstateError, match="no check is called 'three'"):
        fitting(checks, "three")
    with pytest.raises(HpcstateError, match=r"^Wrong expression passed to '-k'[^\n]*$"):
        fitting(checks, "one and")


def test_what_failed_is_remembered(made: Made, tmp_path: Path) -> None:
    checks = made(LOOKING + "def test_three():\n    '''T'''\n").checks
    at = tmp_path / "remembered"
    run_checks(checks, looking("broken"), lambda _: None, remember=at)
    again = run_checks(checks, looking("mended"), lambda _: None, remember=at, last_failed=True)
    assert [(result.name, result.outcome) for result in again] == [
        ("suite-0.one", "passed"),
        ("suite-0.two", "passed"),
    ]
    everything = run_checks(checks, looking("x"), lambda _: None, remember=at, last_failed=True)
    assert len(everything) == 3


def test_results_for_a_ci(made: Made, tmp_path: Path) -> None:
    import xml.etree.ElementTree as ElementTree

    at = tmp_path / "junit.xml"
    run_checks(
        made(LOOKING + "def test_three():\n    '''T'''\n    pytest.skip('no GPU')\n").checks,
        looking("broken"),
        lambda _: None,
        junit=at,
    )
    suite = ElementTree.parse(at).getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("name"), suite.get("tests"), suite.get("skipped")) == ("hpcstate", "3", "1")
    assert "expected: whole\nobserved: broken" in ElementTree.tostring(suite, encoding="unicode")


def test_options_of_the_environment_are_not_ours(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "-x --no-such-option")
    assert run_check(made(LOOKING).checks[0], looking("x")).outcome == "passed"
    assert os.environ["PYTEST_ADDOPTS"] == "-x --no-such-option"


def test_what_a_fault_proves_is_what_its_nodes_can_show() -> None:
    def broken(live: Live) -> Iterator[None]:
        yield

    one = Check("suite.one", "One", Needs(), Path("test_one.py"))
    two = Check("suite.two", "Two", Needs(nodes=2), Path("test_one.py"))
    gpu = fault("a GPU is broken", "suite.one", "suite.two", needs_gpus=1)(broken)
    suites = Suites((one, two), (gpu,))
    with_gpu, without = a_node("compute-01", 11, gpus=1), a_node("compute-02", 12, gpus=0)
    assert suites.proven_by(gpu, [with_gpu]) == (one,)
    assert suites.proven_by(gpu, [with_gpu, without]) == (one, two)
    assert suites.proven_by(gpu, [without, without]) == ()
    assert suites.faults_of(two) == (gpu,)


def test_a_fault_each_turns_every_check_red_once_and_none_is_one_too_many() -> None:
    suites, workers = load_suites(), TWO.workers
    some = suites.a_fault_each(workers)

    def proven(faults: Sequence[Fault]) -> set[str]:
        return {check.name for fault in faults for check in suites.proven_by(fault, workers)}

    assert proven(some) == proven(suites.faults) != set()
    assert len(some) < len(suites.faults)
    assert all(proven([other for other in some if other is not fault]) < proven(some) for fault in some)


def test_the_suites_of_the_project() -> None:
    suites = load_suites()
    names = [check.name for check in suites.checks]
    assert names[0] == "nodes.registered"
    assert len(names) == len(set(names))
    assert {check.suite for check in suites.checks} >= {"nodes", "mpi", "gpu-gres", "cgroup-isolation"}
    assert {name for fault in suites.faults for name in fault.checks} == set(names)
    descriptions = [fault.description for fault in suites.faults]
    assert len(descriptions) == len(set(descriptions))
    assert all(isinstance(fault, Fault) for fault in suites.faults)


def test_every_title_is_one_line_of_its_own() -> None:
    titles = [check.title for check in load_suites().checks]
    assert len(set(titles)) == len(titles)
    assert [title for title in titles if title.endswith((".", ",", " ")) or not title[0].isalnum()] == []


def test_select() -> None:
    suites = load_suites()
    assert {check.suite for check in suites.select(suite="gpu-gres")} == {"gpu-gres"}
    assert [check.name for check in suites.select(name="mpi.two_nodes")] == ["mpi.two_nodes"]
    assert suites.select() == suites.checks


NODES = [check.name for check in load_suites().select("nodes")]


@pytest.mark.parametrize(
    ("suite", "name", "said", "known"),
    [
        ("gpus", "", "there is no suite 'gpus'", "nodes, accounting, cgroup-isolation, "),
        ("", "mpi.two", "there is no check 'mpi.two'", "mpi.two_nodes"),
        ("", "nodes.clock", "there is no check 'nodes.clock'", "did you mean nodes.clocks? "),
        ("", "nodes.nope", "there is no check 'nodes.nope'", ", ".join(NODES)),
        (
            "gpu-gres",
            "mpi.two_nodes",
            "there is no check 'mpi.two_nodes' in the suite 'gpu-gres'",
            "gpu-gres.",
        ),
    ],
)
def test_select_tells_what_there_is(suite: str, name: str, said: str, known: str) -> None:
    with pytest.raises(HpcstateError, match=said) as raised:
        load_suites().select(suite, name)
    assert known in raised.value.hint


FINE = "def test_one():\n    '''T'''\n"
FAULT = "@fault('F', '{0}.one')\ndef broken(live):\n    yield\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FINE, "no fault for {0}.one"),
        (FINE.replace("'''T'''", "pass") + FAULT, "'{0}.one' has no title"),
        (FINE + FAULT.replace("one", "other"), "no check: {0}.other"),
        ("import no_such_module\n", "test_made.py: ModuleNotFoundError: No module named 'no_such_module'"),
        ("def test_one(:\n", "test_made.py: .*SyntaxError: invalid syntax"),
        ("@pytest.mark.neds()\ndef test_one():\n    pass\n", "test_made.py: 'neds' not found in"),
        ("\n", "there are no suites"),
    ],
    ids=["no fault", "no title", "a fault of nothing", "no module", "no Python", "no marker", "empty"],
)
def test_a_suite_that_proves_nothing_is_refused(
    tmp_path: Path, request: pytest.FixtureRequest, text: str, message: str
) -> None:
    # A name of its own, because importlib keeps modules by name.
    suite = f"made{abs(hash(request.node.name))}"
    folder = tmp_path / "tests" / "suites" / suite
    folder.mkdir(parents=True)
    (folder / "test_made.py").write_text(HEAD + text.format(suite))
    with pytest.raises(HpcstateError, match=message.format(suite)):
        load_suites(tmp_path)


def test_two_checks_of_one_name_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "twice"
    folder.mkdir()
    for name in ("test_first.py", "test_second.py"):
        (folder / name).write_text(FINE)
    with pytest.raises(HpcstateError, match=r"two checks are called 'twice\.one'") as raised:
        load_suites(more=[folder])
    assert "test_first.py" in raised.value.hint


def test_a_suite_of_the_project_is_not_extended_from_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "nodes"
    folder.mkdir()
    (folder / "test_more.py").write_text(FINE)
    with pytest.raises(HpcstateError, match="'nodes' is one of the project's"):
        load_suites(more=[folder])


def test_checks_of_somebody_need_no_fault_but_say_so(made: Made) -> None:
    suites = made(FINE)
    assert suites.faults_of(suites.checks[0]) == ()


def test_no_suites_is_an_error_and_not_a_success(tmp_path: Path) -> None:
    with pytest.raises(HpcstateError, match="there are no suites"):
        load_suites(tmp_path)
    with pytest.raises(HpcstateError, match="there are no suites"):
        load_suites(more=[tmp_path / "none"])
    with pytest.raises(HpcstateError, match="this is no Python file"):
        load_suites(more=[ROOT / "README.md"])


def test_the_suites_are_ordinary_tests_of_pytest() -> None:
    """By pytest itself, with the plugin; without a cluster, each says what it lacks."""
    words = [sys.executable, "-m", "pytest", "-p", "hpcstate.check.plugin", "tests/suites/mpi", "-q"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "say which by --cluster-file FILE" in done.stdout, done.stdout
    done = subprocess.run([*words, "--collect-only"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "test_pmix.py::test_two_nodes" in done.stdout


@pytest.mark.parametrize(("options", "code"), [(["--collect-only"], 0), (["--fixtures"], 0), ([], 4)])
def test_only_what_is_run_reaches_the_cluster(options: list[str], code: int, tmp_path: Path) -> None:
    file = tmp_path / "nowhere.yaml"
    text = (ROOT / "inventories" / "minimal.yaml").read_text()
    file.write_text(re.sub(r"(?m)^(\s+name): .*$", r"\1: never-started", text))
    words = [sys.executable, "-m", "pytest", "-p", "hpcstate.check.plugin", "tests/suites/mpi", "-q"]
    words += [f"--cluster-file={file}", *options]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert ("there is no key for the nodes of cluster" in done.stdout + done.stderr) is (code == 4)
