"""The stages of the project's tests: their order, their commands, their results and the summary."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from hpcstate.errors import HpcstateError
from hpcstate.host import npm
from hpcstate.host.tools import fetch_deb
from hpcstate.paths import BUILD, ROOT
from hpcstate.run import CLEAR_UP_SECONDS, run, run_visibly, run_with_lines


@dataclass(frozen=True)
class Stage:
    """One stage: Python modules run in turn with these words, or, with ``tests``, pytest on these folders.

    ``needs`` names the doit tasks that must be done before, ``within`` the command that the whole runs in,
    ``debs`` the packages of tools.toml that are fetched first, ``npm`` those of npm: where its registry is
    out of reach, what needs them says skipped.
    When all stages are run, one that is ``alone`` begins after those before it. ``deploys`` is for the one
    whose cluster gets containers. Of one that is ``measured`` it is seen which lines of the project run in
    its own process.
    """

    name: str
    commands: tuple[tuple[str, ...], ...] = ()
    tests: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    debs: tuple[str, ...] = ()
    npm: tuple[str, ...] = ()
    alone: bool = False
    deploys: bool = False
    measured: bool = False


LIMIT = "HPCSTATE_TEST_MINUTES"
"""The variable that says how long a whole run may take. CI has one; a person has none."""

LAB_CONTAINERS = "HPCSTATE_LAB_CONTAINERS"
"""The variable that names the containers of the lab's cluster, separated by commas; empty for none. What
needs another one says skipped."""

NAMES = ("mpi-minimal", "pytorch-cpu-mpi")
"""Those that can be built on any machine with a Debian mirror and a package index; the lab runs them."""

CONTAINERS = tuple(f"build_containers:{name}" for name in NAMES)

LAB_SHARES = ((NAMES, 2.8), (NAMES[:1], 1.7))
"""How long the lab takes with these containers, against all that a run from nothing did before it. Seen on
two cores without KVM: 8.2 min, then 22.3 with both; 16 min, then 18 with none, 25 with one, 42 with both."""

NAMED = 30
"""How many failed tests the end of a run names."""

MARGIN = 0.85
"""Of the limit: machines are not as quick at the end as at the beginning."""

STAGES = (
    Stage("ruff", commands=(("ruff", "check", "."), ("ruff", "format", "--check", "."))),
    Stage("mypy", commands=(("mypy",),)),
    Stage(
        "images",
        tests=("tests/images",),
        needs=("build_images",),
        within=("tests/lab/enter.sh", str(BUILD / "images-host")),
    ),
    Stage(
        "unit",
        tests=("tests/unit", "tests/facts", "tests/operations", "tests/render"),
        debs=("prometheus", "promtool", "prometheus-alertmanager"),
        npm=("uplot",),
        measured=True,
    ),
    Stage("graph", tests=("tests/graph",)),
    Stage("containers", tests=("tests/containers",), needs=CONTAINERS),
    Stage(
        "lab",
        tests=("tests/lab",),
        needs=("build_images", *CONTAINERS),
        within=("tests/lab/enter.sh", str(BUILD / "lab-host")),
        alone=True,
        deploys=True,
        measured=True,
    ),
)
"""The quick ones first: the first that fails ends the run. What the images need takes longest, one step after
the other, and is begun before the other tests."""


def all_asked() -> bool:
    """Whether doit was asked for all of the stages, not for some."""
    return "test" in sys.argv[1:]


def limit() -> float | None:
    """How many minutes a whole run may take, None for any. Raises HpcstateError where it is no number."""
    minutes = os.environ.get(LIMIT)
    try:
        return float(minutes) if minutes else None
    except ValueError:
        raise HpcstateError(f"{LIMIT} is {minutes!r}", hint="a number of minutes, or unset it") from None


def lab_containers(seconds: float, limit_min: float | None) -> tuple[str, ...]:
    """The containers that the lab has time for, ``seconds`` after a run of ``limit_min`` minutes began.

    Without a limit: all. Meant is a run from nothing: one that found its images built seems quicker.
    """
    if limit_min is None:
        return NAMES
    for names, share in LAB_SHARES:
        if seconds * (1 + share) <= limit_min * 60 * MARGIN:
            return names
    return ()


@dataclass(frozen=True)
class Outcome:
    """What a stage came to: counts of tests (a linter is one test a command), its duration in seconds, and
    the names of those that failed, as pytest takes them.
    """

    stage: str
    passed: int
    failed: int
    skipped: int
    seconds: float
    names: tuple[str, ...] = ()


def run_stage(stage: Stage, reports: Path = BUILD / "test") -> Outcome:
    """Run one stage with its output on the terminal, where others write meanwhile in whole lines with the
    name of the stage; pytest's report goes below ``reports``.
    """
    show = _show_lines(stage) if all_asked() and not stage.alone else _show
    started = time.monotonic()
    if stage.tests:
        report = reports / f"{stage.name}.xml"
        report.parent.mkdir(parents=True, exist_ok=True)
        report.unlink(missing_ok=True)
        for name in stage.debs:
            fetch_deb(name)
        for name in stage.npm:
            try:
                npm.texts(npm.load()[name], ())
            except HpcstateError as error:
                print(error, file=sys.stderr)
        # Measuring takes half as much processor time again: a run that has a limit goes without it.
        measured = ("-m", "coverage", "run") if stage.measured and limit() is None else ()
        words = [*stage.within, sys.executable, *measured, "-m", "pytest", *stage.tests]
        words += [f"--junitxml={report}", "--durations=20", "--durations-min=5"]
        code = show(words)
        text = report.read_text(encoding="utf-8") if report.exists() else ""
        passed, failed, skipped = counts(text)
        failed, names = max(failed, int(code != 0)), failures(text)
    else:
        codes = {" ".join(words): show([sys.executable, "-m", *words]) for words in stage.commands}
        names = tuple(name for name, code in codes.items() if code)
        passed, failed, skipped = len(codes) - len(names), len(names), 0
    return Outcome(stage.name, passed, failed, skipped, time.monotonic() - started, names)


def _show(words: Sequence[str]) -> int:
    return run_visibly(words, cwd=ROOT)


def _show_lines(stage: Stage) -> Callable[[Sequence[str]], int]:
    def show(words: Sequence[str]) -> int:
        def line(text: str) -> None:
            print(f"{stage.name:<10} | {text}\n", end="", flush=True)

        return run_with_lines(words, line, cwd=ROOT, clear_up_s=CLEAR_UP_SECONDS).code

    return show


def counts(report: str) -> tuple[int, int, int]:
    """Tests passed, failed (or in error) and skipped, from pytest's JUnit report; zeros for an empty text."""
    passed = failed = skipped = 0
    for case in ElementTree.fromstring(report).iter("testcase") if report else ():
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def failures(report: str) -> tuple[str, ...]:
    """The tests that failed, from pytest's JUnit report, as pytest takes them on its command line."""
    found = []
    for case in ElementTree.fromstring(report).iter("testcase") if report else ():
        if case.find("failure") is not None or case.find("error") is not None:
            module = case.get("classname", "").replace(".", "/")
            found.append(f"{module}.py::{case.get('name', '')}" if module else case.get("name", ""))
    return tuple(found)


def summary(outcomes: Sequence[Outcome], asked: Sequence[str]) -> str:
    """The table of stages, and the line `N passed, N failed` that ends a run.

    Of the stages ``asked`` for, those without an outcome are named as not run. Where that is not for a
    stage that failed, something that they need did (an image, say), which counts as one failure.
    """
    ran = {outcome.stage for outcome in outcomes}
    lines = []
    for outcome in outcomes:
        verdict = "failed" if outcome.failed else "passed"
        lines.append(f"  {outcome.stage:<10} {verdict} {outcome.seconds:7.1f} s  {_tally(outcome)}")
    missing = [name for name in asked if name not in ran]
    lines += [f"  {name:<10} not run" for name in missing]
    passed, failed, skipped = (
        sum(getattr(outcome, field) for outcome in outcomes) for field in ("passed", "failed", "skipped")
    )
    failed = max(failed, int(bool(missing)))
    broken = [name for outcome in outcomes for name in outcome.names]
    lines += ["failed:", *(f"  {name}" for name in broken[:NAMED])] if broken else []
    lines += [f"  and {len(broken) - NAMED} more"] if len(broken) > NAMED else []
    lines.append(_tally(Outcome("", passed, failed, skipped, 0)))
    return "\n".join(lines)


def _tally(outcome: Outcome) -> str:
    text = f"{outcome.passed} passed, {outcome.failed} failed"
    return f"{text}, {outcome.skipped} skipped" if outcome.skipped else text


def covered(stages: Sequence[Stage]) -> str:
    """How much of the project ran in ``stages``, in a line; empty when none of them is measured."""
    names = [stage.name for stage in stages if stage.measured]
    coverage = [sys.executable, "-m", "coverage"]
    if not names or limit() is not None or run([*coverage, "combine", "--quiet"], cwd=ROOT, check=False).code:
        return ""
    total = run([*coverage, "report", "--format=total"], cwd=ROOT, check=False).stdout.strip()
    return f"coverage: {total} % of the lines of hpcstate, facts and operations ({', '.join(names)})"


class Run:
    """The stages that one doit run has come to. Its summary is printed when the process ends,
    if any stage was begun.

    doit prints its own account of a failed task last; only what is registered with atexit comes after
    it, and the last line of a test run has to be the verdict.
    """

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self._begun: list[str] = []
        self._since = time.monotonic()
        atexit.register(self._end)

    def stage(self, stage: Stage) -> bool:
        """Run one stage and keep its outcome; False when something failed, as doit expects it."""
        limit_min = limit()
        if stage.measured and not any(other.measured for other in STAGES if other.name in self._begun):
            run([sys.executable, "-m", "coverage", "erase"], cwd=ROOT, check=False)
        self._begun.append(stage.name)
        print(f"== {stage.name}", flush=True)
        if stage.deploys and LAB_CONTAINERS not in os.environ:
            self._choose_containers(limit_min)
        outcome = run_stage(stage)
        self.outcomes.append(outcome)
        print(f"== {stage.name}: {_tally(outcome)} in {outcome.seconds:.1f} s", flush=True)
        return outcome.failed == 0

    def _choose_containers(self, limit_min: float | None) -> None:
        seconds = time.monotonic() - self._since
        names = lab_containers(seconds, limit_min)
        os.environ[LAB_CONTAINERS] = ",".join(names)
        over = f" ({seconds / 60:.0f} of {limit_min:g} minutes are over)" if limit_min is not None else ""
        print(f"containers of the lab: {', '.join(names) or 'none'}{over}", flush=True)

    def _end(self) -> None:
        if self._begun:
            if measured := covered([stage for stage in STAGES if stage.name in self._begun]):
                print(measured, flush=True)
            asked = [stage.name for stage in STAGES] if all_asked() else self._begun
            print(summary(self.outcomes, asked), flush=True)
