"""The plugin of pytest with which the suites run: its fixtures, the marker ``needs``, and what a failure
says.

``hpcstate check`` runs pytest with it (hpcstate/check/runner.py). By itself, it makes the suites ordinary
tests: ``pytest -p hpcstate.check.plugin tests/suites/nodes --cluster-file FILE``.

Fixtures: ``live`` runs commands on the nodes, ``cluster`` is the cluster as declared, ``controller`` its
controller, ``nodes`` its compute nodes that are started, ``jobs`` starts jobs that end with their ``with``
block.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate.check.jobs import Job, Jobs
from hpcstate.check.proof import result_lines
from hpcstate.check.suite import Check, CheckFailed, CheckResult, Needs, Outcome
from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster, Node
from hpcstate.node.ssh import Live, UnreachableError

StartJobs = Callable[[Mapping[str, Job]], Jobs]
"""The fixture ``jobs``: makes the block of a ``with`` statement in which the jobs (label to job) are
there."""

LIVE = pytest.StashKey[Live]()
"""The cluster that a run looks at: in ``config.stash``, put there by who runs pytest, or here for
``--cluster-file``."""

_CHECK = pytest.StashKey[Check]()
_RESULT = pytest.StashKey[CheckResult]()
_OPEN = pytest.StashKey[ExitStack]()
_SILENT = pytest.StashKey[dict[tuple[str, str], str]]()
"""The checks that told first of a node that does not answer, by node and reason: in ``config.stash``."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--cluster-file``."""
    parser.getgroup("hpcstate").addoption(
        "--cluster-file", metavar="FILE", type=Path, help="the cluster file of the running cluster to check"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Tell pytest of the marker."""
    config.addinivalue_line(
        "markers",
        "needs(nodes=1, gpus=0, cpus=1, passthrough=False, real_gpus=0, containers=()): what the cluster "
        "file must have, or the check is skipped",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Reach the cluster of ``--cluster-file``; who only wants to know which checks there are, needs none."""
    file = session.config.getoption("--cluster-file")
    if file is None or LIVE in session.config.stash or session.config.option.collectonly:
        return
    from hpcstate.check.target import reached, slurm_cluster
    from hpcstate.schema import load

    opened = session.config.stash[_OPEN] = ExitStack()
    try:
        session.config.stash[LIVE] = opened.enter_context(reached(slurm_cluster(load(file)), print))
    except HpcstateError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Close what :func:`pytest_runtestloop` opened."""
    if _OPEN in session.config.stash:
        session.config.stash[_OPEN].close()


@pytest.fixture(scope="session")
def live(pytestconfig: pytest.Config) -> Live:
    """Commands on the nodes of the running cluster."""
    if LIVE not in pytestconfig.stash:
        raise pytest.UsageError("a check looks at a running cluster: say which by --cluster-file FILE")
    return pytestconfig.stash[LIVE]


@pytest.fixture(scope="session")
def cluster(live: Live) -> Cluster:
    """The cluster, as its file declares it."""
    return live.cluster


@pytest.fixture(scope="session")
def controller(cluster: Cluster) -> Node:
    """The controller of the cluster."""
    return cluster.controller


@pytest.fixture(scope="session")
def nodes(live: Live) -> tuple[Node, ...]:
    """The compute nodes that are started."""
    return live.workers


@pytest.fixture
def jobs(live: Live) -> StartJobs:
    """Starts jobs as the ordinary user: ``with jobs({"first": Job((…), (…))}) as running: …``."""
    return lambda started: Jobs(live, started)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Make a check of each item, and let ``-k`` know its name."""
    for item in items:
        item.extra_keyword_matches.add(check_of(item).name)


def check_of(item: pytest.Item) -> Check:
    """The check that ``item`` is. Raises pytest.UsageError for a marker that says what there is not."""
    if _CHECK not in item.stash:
        item.stash[_CHECK] = _read_check(item)
    return item.stash[_CHECK]


def _read_check(item: pytest.Item) -> Check:
    wanted: dict[str, object] = {}
    for marker in item.iter_markers("needs"):
        wanted = {**marker.kwargs, **wanted}
        if marker.args or not marker.kwargs.keys() <= Needs.__dataclass_fields__.keys():
            known = ", ".join(Needs.__dataclass_fields__)
            raise pytest.UsageError(f"{item.nodeid}: the marker needs takes {known} by name")
    function = getattr(item, "function", None)
    title = (inspect.getdoc(function) or "").partition("\n")[0]
    suite = item.path.parent.name.replace("_", "-")
    defaults = vars(Needs())
    for key, value in wanted.items():
        if type(value) is not type(defaults[key]):
            raise pytest.UsageError(
                f"{item.nodeid}: needs({key}={value!r}) is no {type(defaults[key]).__name__}"
            )
    needs = Needs(**wanted)  # type: ignore[arg-type]
    return Check(f"{suite}.{item.name.removeprefix('test_')}", title, needs, item.path)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a check that lacks what it needs, before any of its fixtures is made."""
    live = item.config.stash.get(LIVE, None)
    if live is None:
        return
    missing = check_of(item).needs.missing(live.workers, live.cluster.containers.deploy)
    if missing:
        pytest.skip(missing)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give the report of the last phase the :class:`CheckResult` as ``check_result``, and failures that are
    no fault of the check's own code the words of their message in the place of a traceback."""
    report = yield
    check = check_of(item)
    error = call.excinfo.value if call.excinfo else None
    before = item.stash.get(_RESULT, None)
    seconds = (before.seconds if before else 0.0) + call.duration
    if before is None or (before.outcome == "passed" and (error or call.when == "call")):
        seen = next((str(value) for key, value in item.user_properties if key == "observed"), "")
        result = result_of(check, error, seen, seconds)
        if isinstance(error, UnreachableError):
            result = _told_once(item.config, error, result)
        if isinstance(error, CheckFailed | HpcstateError):
            report.longrepr = "\n".join(f"{label}: {text}" for label, text in result_lines(result))
    else:
        result = CheckResult(**{**vars(before), "seconds": seconds})
    if call.when == "setup" and not error:
        item.user_properties += [("check", check.name), ("title", check.title)]
    item.stash[_RESULT] = result
    if call.when == "teardown":
        report.check_result = CheckResult(**{**vars(result), "seconds": round(seconds, 2)})  # type: ignore[attr-defined]
    return report


def _told_once(config: pytest.Config, error: UnreachableError, result: CheckResult) -> CheckResult:
    """``result`` in full where it is the first of its run that ``error`` made fail. The others have the same
    cause: they fail as well, and name that one.
    """
    first = config.stash.setdefault(_SILENT, {}).setdefault((error.node, error.message), result.name)
    if first == result.name:
        return result
    return replace(
        result, observed=f"{error.node} does not answer on SSH, as {first} tells", expected="", hint=""
    )


def result_of(check: Check, error: BaseException | None, observed: str, seconds: float) -> CheckResult:
    """What became of ``check``, which saw ``observed`` or ended with ``error``.

    A failed assertion is a finding; an answer that could not be read, and whatever else a check ends with,
    is not.
    """

    def result(
        outcome: Outcome, *, observed: str = "", expected: str = "", hint: str = "", reason: str = ""
    ) -> CheckResult:
        return CheckResult(check.name, check.title, outcome, seconds, observed, expected, hint, reason)

    match error:
        case None:
            return result("passed", observed=observed)
        case CheckFailed():
            return result("failed", observed=error.observed, expected=error.expected, hint=error.hint)
        case pytest.skip.Exception():
            return result("skipped", reason=str(error.msg))
        case UnreachableError():
            return result("failed", observed=error.message, expected=f"{error.node} answers", hint=error.hint)
        case HpcstateError():
            place = f"{error.where}: " if error.where else ""
            return result("error", reason=f"{place}{error.message}", hint=error.hint)
        case AssertionError() | pytest.fail.Exception():
            return result("failed", observed=str(error) or "it is not so", expected=check.title)
        case pytest.FixtureLookupError():
            hint = "docs/checks.md lists those that there are"
            return result("error", reason=f"no fixture is called {error.argname!r}", hint=hint)
        case ValueError() | LookupError():
            # An answer of the cluster that the check could not read, such as broken JSON or a missing field.
            return result("error", reason=f"the answer could not be read: {type(error).__name__}: {error}")
    return result(
        "error",
        reason=f"the check itself is broken: {type(error).__name__}: {error}",
        hint=f"pytest -p hpcstate.check.plugin {check.file} --cluster-file FILE shows where",
    )
