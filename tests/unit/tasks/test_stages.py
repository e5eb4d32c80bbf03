"""The verdict of a test run."""

from __future__ import annotations

import atexit
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from hpcstate.errors import HpcstateError
from hpcstate.paths import ROOT
from hpcstate.run import Result
from hpcstate.tasks import stages
from hpcstate.tasks.stages import (
    LAB_CONTAINERS,
    LIMIT,
    NAMES,
    Outcome,
    Run,
    Stage,
    counts,
    failures,
    lab_containers,
    run_stage,
    summary,
)

REPORT = """<testsuites><testsuite>
<testcase name="a"/><testcase name="b"><failure/></testcase><testcase name="c"><error/></testcase>
<testcase name="d"><skipped/></testcase><testcase name="e"><system-out>x</system-out></testcase>
</testsuite></testsuites>"""

UNIT = Outcome("unit", 10, 0, 0, 3.0)
GRAPH_FAILED = Outcome("graph", 4, 2, 1, 5.0)


def test_counts_of_a_report() -> None:
    assert counts(REPORT) == (2, 2, 1)
    assert counts("") == (0, 0, 0)


def test_the_end_names_what_failed_as_pytest_takes_it() -> None:
    report = """<testsuites><testsuite>
<testcase classname="tests.unit.test_a" name="test_x[1]"><failure/></testcase>
<testcase classname="tests.unit.test_a" name="test_y"/>
<testcase classname="" name="tests.lab.test_b"><error/></testcase></testsuite></testsuites>"""
    names = failures(report)
    assert names == ("tests/unit/test_a.py::test_x[1]", "tests.lab.test_b")
    many = tuple(f"t{number}" for number in range(stages.NAMED + 2))
    text = summary([UNIT, Outcome("graph", 4, 2, 0, 1.0, names)], [])
    assert text.splitlines()[-4:-1] == ["failed:", *(f"  {name}" for name in names)]
    assert "  and 2 more" in summary([Outcome("graph", 0, len(many), 0, 1.0, many)], []).splitlines()


def test_what_the_measured_stages_ran_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def coverage(words: Sequence[str], **_: object) -> Result:
        asked.append([*words[2:]])
        return Result(tuple(words), 0, "87\n" if "report" in words else "", "")

    monkeypatch.setattr(stages, "run", coverage)
    monkeypatch.setenv(stages.LIMIT, "45")
    assert stages.covered(stages.STAGES) == "" and asked == [], "a run with a limit does not measure"
    monkeypatch.delenv(stages.LIMIT)
    assert stages.covered([Stage("ruff")]) == "" and asked == []
    said = stages.covered(stages.STAGES)
    assert said == "coverage: 87 % of the lines of hpcstate, facts and operations (unit, lab)"
    assert asked == [["coverage", "combine", "--quiet"], ["coverage", "report", "--format=total"]]


def test_mypy_reads_all_that_is_ours() -> None:
    """The stage calls it without arguments: it reads the files that pyproject.toml names."""
    assert [stage.commands for stage in stages.STAGES if stage.name == "mypy"] == [(("mypy",),)]
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["files"]
    ours = {"hpcstate", "facts", "operations", "deploys", "inventories", "bench", "dodo.py", "tests"}
    assert ours <= set(named)


def test_stages_side_by_side_write_whole_lines(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["doit", "-n", "3", "test"])
    assert run_stage(Stage("mypy", commands=(("json.tool", "--help"),))).failed == 0
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) > 5
    assert {line[:12] for line in lines} == {"mypy       |"}


@pytest.mark.parametrize(
    ("outcomes", "asked", "last", "not_run"),
    [
        ([UNIT], [], "10 passed, 0 failed", 0),
        ([UNIT], ["unit"], "10 passed, 0 failed", 0),
        ([UNIT, GRAPH_FAILED], ["unit", "graph", "lab"], "14 passed, 2 failed, 1 skipped", 1),
        ([UNIT], ["unit", "graph", "lab"], "10 passed, 1 failed", 2),
    ],
)
def test_the_last_line_is_the_verdict(
    outcomes: list[Outcome], asked: list[str], last: str, not_run: int
) -> None:
    text = summary(outcomes, asked)
    assert text.splitlines()[-1] == last
    assert text.count("not run") == not_run


@pytest.mark.parametrize(
    ("code", "report", "expected"),
    [(0, REPORT.replace("<failure/>", "").replace("<error/>", ""), (4, 0, 1)), (1, REPORT, (2, 2, 1)),
     (5, "<testsuites/>", (0, 1, 0)), (-11, None, (0, 1, 0))],
)  # fmt: skip
def test_a_stage_of_tests_fails_with_pytest_whatever_its_report_says(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    report: str | None,
    expected: tuple[int, int, int],
) -> None:
    def fake_run(argv: Sequence[str], cwd: Path) -> int:
        if report is not None:
            (tmp_path / "unit.xml").write_text(report, encoding="utf-8")
        return code

    monkeypatch.setattr(stages, "run_visibly", fake_run)
    (tmp_path / "unit.xml").write_text(REPORT, encoding="utf-8")
    outcome = run_stage(Stage("unit", tests=("tests/unit",)), tmp_path)
    assert (outcome.passed, outcome.failed, outcome.skipped) == expected


def test_a_stage_of_commands_counts_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "run_visibly", lambda argv, cwd: int("format" in argv))
    outcome = run_stage(Stage("ruff", commands=(("ruff", "check"), ("ruff", "format"))))
    assert (outcome.passed, outcome.failed) == (1, 1)


def test_the_lab_gets_containers_and_they_are_built_before() -> None:
    """Else all that needs one would say skipped, and nobody would notice."""
    (lab,) = (stage for stage in stages.STAGES if stage.deploys)
    assert lab.tests == ("tests/lab",)
    assert {f"build_containers:{name}" for name in NAMES} <= set(lab.needs)


@pytest.mark.parametrize(
    ("minutes", "limit", "names"),
    [
        (60, None, NAMES),
        (8.2, 45, NAMES),
        (10.5, 45, ("mpi-minimal",)),
        (16, 45, ()),
        (60, 45, ()),
    ],
)
def test_the_lab_has_the_containers_that_there_is_time_for(
    minutes: float, limit: float | None, names: tuple[str, ...]
) -> None:
    assert lab_containers(minutes * 60, limit) == names


@pytest.mark.parametrize(
    ("limit", "named", "chosen", "said"),
    [
        (None, None, "mpi-minimal,pytorch-cpu-mpi", ["containers of the lab: mpi-minimal, pytorch-cpu-mpi"]),
        ("45", None, "mpi-minimal,pytorch-cpu-mpi",
         ["containers of the lab: mpi-minimal, pytorch-cpu-mpi (0 of 45 minutes are over)"]),
        ("0", None, "", ["containers of the lab: none (0 of 0 minutes are over)"]),
        ("45", "", "", []),
        (None, "mpi-minimal", "mpi-minimal", []),
    ],
)  # fmt: skip
def test_the_choice_reaches_the_lab_and_is_said(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    limit: str | None,
    named: str | None,
    chosen: str,
    said: list[str],
) -> None:
    seen: list[str] = []

    def fake_stage(stage: Stage) -> Outcome:
        seen.append(os.environ[LAB_CONTAINERS])
        return UNIT

    for variable, value in ((LIMIT, limit), (LAB_CONTAINERS, named)):
        monkeypatch.setenv(variable, value or "")
        if value is None:
            monkeypatch.delenv(variable)
    monkeypatch.setattr(stages, "run_stage", fake_stage)
    monkeypatch.setattr(atexit, "register", lambda _: None)
    assert Run().stage(Stage("lab", deploys=True))
    assert seen == [chosen]
    assert capsys.readouterr().out.splitlines()[1:-1] == said


def test_a_limit_that_is_no_number_is_said_before_the_first_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT, "an hour")
    monkeypatch.delenv(LAB_CONTAINERS, raising=False)
    monkeypatch.setattr(atexit, "register", lambda _: None)
    with pytest.raises(HpcstateError, match="HPCSTATE_TEST_MINUTES is 'an hour'"):
        Run().stage(Stage("ruff"))
