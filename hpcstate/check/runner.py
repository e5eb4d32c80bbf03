"""Running checks: pytest finds the suites, makes their checks in order, and tells each result as it comes."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

import pytest

from hpcstate.check import plugin
from hpcstate.check.suite import Check, CheckResult, Fault, Suites, suites_of
from hpcstate.errors import HpcstateError
from hpcstate.node.ssh import Live
from hpcstate.paths import ROOT

_SUITES = Path("tests", "suites")

_NO_CACHE = "-pno:cacheprovider"

_OPTIONS = (
    "--override-ini=addopts=",
    "--import-mode=importlib",
    "--strict-markers",
    # What is installed beside hpcstate has no part in what a check says.
    "--disable-plugin-autoload",
    "-pno:faulthandler",
    # Both collect garbage again and again at the end, which takes seconds in a process that holds much.
    "-pno:unraisableexception",
    "-pno:threadexception",
    "-pno:logging",
    f"-p{plugin.__name__}",
)


def load_suites(root: Path = ROOT, more: Sequence[Path] = ()) -> Suites:
    """The checks and faults of every ``tests/suites/<suite>/test_*.py`` below ``root``, and those of
    ``more``, which are folders or files with somebody's own checks.

    Raises HpcstateError where there are none, when a file cannot be imported, and what
    :func:`hpcstate.check.suite.suites_of` raises.
    """
    own = root / _SUITES
    for place in (own, *more):
        if not place.is_dir() and place.suffix != ".py":
            said = "this is no Python file" if place.exists() else "there is no such folder"
            raise HpcstateError(
                f"there are no suites: {said}",
                where=str(place),
                hint="a folder with files test_*.py, or one such file",
            )
    found = _Run(None, lambda _: None, None)
    found.main([*map(str, (own, *more)), "--collect-only", _NO_CACHE], root)
    for place in (own, *more):
        if not any(check.file.is_relative_to(place.resolve()) for check in found.checks):
            raise HpcstateError(
                "there are no suites",
                where=str(place),
                hint="a check is a function test_* in a file test_*.py",
            )
    return suites_of(found.checks, tuple(found.faults), own.resolve())


def fitting(checks: Sequence[Check], keyword: str) -> tuple[Check, ...]:
    """Those of ``checks`` whose names fit ``keyword``, an expression as pytest's ``-k`` has it.

    Raises HpcstateError for what is no such expression, and when none fits.
    """
    if not keyword:
        return tuple(checks)
    run = _Run(None, lambda _: None, [check.name for check in checks])
    files = dict.fromkeys(str(check.file) for check in checks)
    run.main([*files, "-k", keyword, "--collect-only", _NO_CACHE], ROOT)
    if not run.left:
        raise HpcstateError(
            f"no check is called {keyword!r}", hint="`hpcstate check FILE --list` names all of them"
        )
    return tuple(check for check in checks if check.name in run.left)


def run_checks(
    checks: Iterable[Check],
    live: Live,
    report: Callable[[CheckResult], None],
    *,
    remember: Path | None = None,
    last_failed: bool = False,
    junit: Path | None = None,
) -> tuple[CheckResult, ...]:
    """Make ``checks`` in order, giving each result to ``report`` as it comes. They share what fixtures of the
    session look at: the first that needs one makes it, and its time is counted there.

    ``remember`` is a folder that keeps which checks
    failed, and with ``last_failed`` only those are made (all when none did); ``junit`` a file for the results
    as JUnit's XML. Never raises for what the cluster does: a failure is a result. Raises HpcstateError when
    no check is left to make, or pytest cannot go on.
    """
    asked = tuple(checks)
    run = _Run(live, report, [check.name for check in asked])
    arguments = list(dict.fromkeys(str(check.file) for check in asked))
    if junit is not None:
        arguments += [f"--junitxml={junit.absolute()}", "--override-ini=junit_suite_name=hpcstate"]
    if remember is None:
        arguments.append(_NO_CACHE)
    else:
        arguments += [f"--override-ini=cache_dir={remember.absolute()}", *["--last-failed"] * last_failed]
    run.main(arguments, ROOT)
    if not run.results:
        raise HpcstateError("no check was asked for", hint="`hpcstate check FILE --list` names all of them")
    return tuple(run.results)


def run_check(check: Check, live: Live) -> CheckResult:
    """Make one check by itself: it looks at everything anew."""
    (result,) = run_checks([check], live, lambda _: None)
    return result


def exit_code(results: Iterable[CheckResult]) -> int:
    """0: all passed or were skipped, 1: a check failed, 2: none failed, but one could not be made."""
    outcomes = {result.outcome for result in results}
    if "failed" in outcomes:
        return 1
    return 2 if "error" in outcomes else 0


class _Run:
    """One run of pytest, as a plugin of it: what it is about, and what it found.

    ``order`` has the names of the checks to make, None for all. ``checks`` and ``faults`` are all that stand
    in the files, ``left`` the names of those that ``-k`` and the like left over, ``results`` what became of
    those that were made.
    """

    def __init__(
        self, live: Live | None, report: Callable[[CheckResult], None], order: Sequence[str] | None
    ) -> None:
        self.live = live
        self.report = report
        self.order = order
        self.checks: list[Check] = []
        self.faults: dict[Fault, None] = {}
        self.results: list[CheckResult] = []
        self.left: set[str] = set()
        self._problems: list[str] = []
        self._cause: BaseException | None = None

    def main(self, arguments: Sequence[str], root: Path) -> None:
        """Run pytest in this process, silently. Raises what interrupted it, and HpcstateError when a file
        cannot be imported or an option be understood."""
        words = [
            *arguments,
            *_OPTIONS,
            f"--rootdir={root}",
            f"-c{ROOT / 'pyproject.toml'}",
            f"--confcutdir={root / _SUITES}",
        ]
        said = io.StringIO()
        # pytest tells of a wrong option or marker on standard error, beside its report.
        with _without_options_of_the_environment(), redirect_stderr(said):
            code = pytest.main(words, plugins=[self])
        if self._problems:
            raise HpcstateError(
                "a suite cannot be read:\n" + "\n".join(f"    {problem}" for problem in self._problems),
                where=str(root),
                hint="docs/checks.md says how one is written",
            )
        if self._cause is not None:
            raise self._cause
        if code == pytest.ExitCode.INTERRUPTED:
            raise KeyboardInterrupt
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED):
            words = [line.removeprefix("ERROR: ") for line in said.getvalue().splitlines() if line.strip()]
            raise HpcstateError("\n".join(words) or f"pytest ended with {code}")

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Hand over the cluster, and let pytest's own report go nowhere: ours is another."""
        if self.live is not None:
            config.stash[plugin.LIVE] = self.live
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        config.pluginmanager.unregister(reporter)
        config.pluginmanager.register(pytest.TerminalReporter(config, io.StringIO()), "terminalreporter")

    def pytest_pycollect_makeitem(self, obj: object) -> None:
        """Keep the faults that stand beside the checks."""
        if isinstance(obj, Fault):
            self.faults[obj] = None

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep why a file cannot be read."""
        if report.failed:
            lines = report.longreprtext.splitlines()
            # pytest marks what was raised by an E; the stack above is its own.
            said = [line[1:].strip() for line in lines if line.startswith("E ")] or lines[-1:]
            self._problems.append(f"{report.nodeid}: {' '.join(said)}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep the checks, and leave only those asked for, in their order."""
        found = {plugin.check_of(item).name: item for item in items}
        self.checks = [plugin.check_of(item) for item in items]
        if self.order is not None:
            config.hook.pytest_deselected(items=[found[name] for name in found.keys() - set(self.order)])
            items[:] = [found[name] for name in self.order if name in found]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Keep what is left to make."""
        self.left = {plugin.check_of(item).name for item in session.items}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> Iterator[None]:
        """A signal that ends the program (cli.py raises SystemExit) ends the run, and is no failure of a
        check."""
        result = yield
        if call.excinfo and isinstance(call.excinfo.value, SystemExit):
            self._cause = call.excinfo.value
            raise KeyboardInterrupt
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Tell a result as soon as the check has ended."""
        result = getattr(report, "check_result", None)
        if result is not None:
            self.results.append(result)
            self.report(result)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Keep what interrupted the run."""
        self._cause = self._cause or excinfo.value

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Keep what broke pytest itself."""
        self._cause = self._cause or excinfo.value


@contextmanager
def _without_options_of_the_environment() -> Iterator[None]:
    """PYTEST_ADDOPTS is for somebody's own tests."""
    kept = os.environ.pop("PYTEST_ADDOPTS", None)
    try:
        yield
    finally:
        if kept is not None:
            os.environ["PYTEST_ADDOPTS"] = kept
