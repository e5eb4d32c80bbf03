"""The verdict of a test run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from hpcstate import stages
from hpcstate.stages import Outcome, Stage, counts, run_stage, summary

REPORT = """<testsuites><testsuite>
<testcase name="a"/><testcase name="b"><failure/></testcase><testcase name="c"><error/></testcase>
<testcase name="d"><skipped/></testcase><testcase name="e"><system-out>x</system-out></testcase>
</testsuite></testsuites>"""

UNIT = Outcome("unit", 10, 0, 0, 3.0)
GRAPH_FAILED = Outcome("graph", 4, 2, 1, 5.0)


def test_counts_of_a_report() -> None:
    assert counts(REPORT) == (2, 2, 1)
    assert counts("") == (0, 0, 0)


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
