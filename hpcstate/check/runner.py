"""Checks of a live cluster: what a check is, finding them, running them in order.

A check is a function that looks at the real cluster and says what it saw, or raises :class:`CheckFailed`. It
lives in ``tests/suites/<suite>/*.py`` together with a fault: a context manager that breaks the cluster in
the way the check must notice, and restores it exactly. tests/lab proves each check with its faults.

What several checks look at is an observation (hpcstate/check/observation.py), made once in a run of checks.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal, TypeVar

from hpcstate.check.observation import one_run
from hpcstate.errors import HpcstateError
from hpcstate.model import Node
from hpcstate.node.ssh import Live, UnreachableError
from hpcstate.paths import ROOT

T = TypeVar("T")

FIRST_SUITE = "nodes"
"""The suite that runs first: what it finds explains what fails after it. The others follow by name."""


class CheckFailed(Exception):
    """The cluster is not as it should be: what was expected, what was observed, and the next step."""

    def __init__(self, expected: str, observed: str, hint: str = "") -> None:
        super().__init__(f"expected {expected}; observed {observed}")
        self.expected = expected
        self.observed = observed
        self.hint = hint


class CheckSkipped(Exception):
    """The check could not be made, though nothing is wrong: the cluster is busy with somebody's jobs."""


@dataclass(frozen=True)
class Needs:
    """What a check needs of the cluster file: ``nodes`` compute nodes, a compute node with ``gpus`` GPUs, one
    with ``cpus`` CPUs, with ``passthrough`` one with a device of the hypervisor, one with ``real_gpus`` GPUs
    that are not simulated, and ``containers`` in the registry of the nodes."""

    nodes: int = 1
    gpus: int = 0
    cpus: int = 1
    passthrough: bool = False
    real_gpus: int = 0
    containers: tuple[str, ...] = ()

    def missing(self, nodes: Sequence[Node], deployed: Sequence[str] = ()) -> str:
        """Why a check with these needs cannot run on the compute nodes ``nodes``, which have the containers
        ``deployed``; empty when it can."""
        if lacking := [name for name in self.containers if name not in deployed]:
            return f"needs the container {', '.join(lacking)}, which the cluster file does not deploy"
        if len(nodes) < self.nodes:
            return f"needs {_count(self.nodes, 'compute node')}, the cluster has {len(nodes)}"
        if max((len(node.gres_types) for node in nodes), default=0) < self.gpus:
            return f"needs a compute node with {_count(self.gpus, 'GPU')}, the cluster file declares none"
        if max(map(real_gpus, nodes), default=0) < self.real_gpus:
            return (
                f"needs a compute node with {_count(self.real_gpus, 'real GPU')}, the cluster file has none"
            )
        if max((node.cpu_cores for node in nodes), default=0) < self.cpus:
            return f"needs a compute node with {_count(self.cpus, 'CPU')}, the cluster file declares none"
        if self.passthrough and not any(node.passthrough for node in nodes):
            return "needs a compute node with a passed-through PCI device, the cluster file declares none"
        return ""


def real_gpus(node: Node) -> int:
    """How many GPUs that are not simulated ``node`` declares; one that is split into MIG instances is one."""
    return sum(device.device_type == "gpu" for device in node.passthrough)


@dataclass(frozen=True)
class Check:
    """One check. ``name`` is ``suite.what``; ``title`` says in words what holds when it passes."""

    name: str
    title: str
    needs: Needs
    function: Callable[[Live], str]

    @property
    def suite(self) -> str:
        """The part of the name before the dot: the folder below tests/suites."""
        return self.name.partition(".")[0]


@dataclass(frozen=True)
class Fault:
    """A way to break the cluster that the ``checks`` (their names) must notice, each of them.

    ``injected(live)`` breaks it for the length of a ``with`` block and restores it exactly afterwards, also
    when the block raises. ``needs`` is what breaking it needs; each check has needs of its own.
    """

    description: str
    checks: tuple[str, ...]
    needs: Needs
    injected: Callable[[Live], AbstractContextManager[None]]


def check(
    name: str,
    title: str,
    *,
    needs_nodes: int = 1,
    needs_gpus: int = 0,
    needs_cpus: int = 1,
    needs_passthrough: bool = False,
    needs_real_gpus: int = 0,
    needs_containers: tuple[str, ...] = (),
) -> Callable[[Callable[[Live], str]], Check]:
    """Make a check of the decorated function; see :class:`Check` and :class:`Needs`."""
    needs = Needs(needs_nodes, needs_gpus, needs_cpus, needs_passthrough, needs_real_gpus, needs_containers)
    return lambda function: Check(name, title, needs, function)


def fault(
    description: str,
    *checks: str,
    needs_nodes: int = 1,
    needs_gpus: int = 0,
    needs_containers: tuple[str, ...] = (),
) -> Callable[[Callable[[Live], Iterator[None]]], Fault]:
    """Make a fault of the decorated generator, which breaks the cluster, yields once, and mends it.

    ``checks`` are the names of those that it turns red, of whatever file and suite: what costs a daemon's
    restart is broken once for all of them.
    """
    needs = Needs(needs_nodes, needs_gpus, containers=needs_containers)
    return lambda function: Fault(description, checks, needs, contextmanager(function))


Outcome = Literal["passed", "failed", "skipped", "error"]


@dataclass(frozen=True)
class CheckResult:
    """What became of one check. ``seconds`` is its duration.

    ``observed`` is what was seen (passed, failed), ``expected`` and ``hint`` belong to failed, ``reason``
    says why it was skipped or could not be made (error).
    """

    name: str
    title: str
    outcome: Outcome
    seconds: float
    observed: str = ""
    expected: str = ""
    hint: str = ""
    reason: str = ""


def run_check(one: Check, live: Live) -> CheckResult:
    """Make one check. Never raises for what the cluster does: a failure is a result.

    By itself, it makes its observations anew; within :func:`run_checks`, those of the run serve it.
    """
    began = time.monotonic()

    def result(
        outcome: Outcome, *, observed: str = "", expected: str = "", hint: str = "", reason: str = ""
    ) -> CheckResult:
        seconds = round(time.monotonic() - began, 2)
        return CheckResult(one.name, one.title, outcome, seconds, observed, expected, hint, reason)

    missing = one.needs.missing(live.workers, live.cluster.containers.deploy)
    if missing:
        return result("skipped", reason=missing)
    try:
        return result("passed", observed=one.function(live))
    except CheckFailed as failed:
        return result("failed", observed=failed.observed, expected=failed.expected, hint=failed.hint)
    except CheckSkipped as skipped:
        return result("skipped", reason=str(skipped))
    except UnreachableError as dead:
        return result("failed", observed=dead.message, expected=f"{dead.node} answers", hint=dead.hint)
    except HpcstateError as error:
        place = f"{error.where}: " if error.where else ""
        return result("error", reason=f"{place}{error.message}", hint=error.hint)
    except (ValueError, LookupError) as error:
        # An answer of the cluster that the check could not read, such as broken JSON or a missing field.
        return result("error", reason=f"the answer could not be read: {type(error).__name__}: {error}")


def run_checks(
    checks: Iterable[Check], live: Live, report: Callable[[CheckResult], None]
) -> tuple[CheckResult, ...]:
    """Make ``checks`` in order, giving each result to ``report`` as it comes. They share their observations:
    the first that needs one makes it, and its time is counted there."""
    results = []
    with one_run(live):
        for one in checks:
            results.append(run_check(one, live))
            report(results[-1])
    return tuple(results)


def exit_code(results: Iterable[CheckResult]) -> int:
    """0: all passed or were skipped, 1: a check failed, 2: none failed, but one could not be made."""
    outcomes = {result.outcome for result in results}
    if "failed" in outcomes:
        return 1
    return 2 if "error" in outcomes else 0


@dataclass(frozen=True)
class Suites:
    """All checks and faults found, in the order in which they run."""

    checks: tuple[Check, ...]
    faults: tuple[Fault, ...]

    def select(self, suite: str = "", name: str = "") -> tuple[Check, ...]:
        """The checks of ``suite``, or the one called ``name``; all without either.

        Raises HpcstateError when there is none of that name.
        """
        found = tuple(
            one for one in self.checks if (not suite or one.suite == suite) and (not name or one.name == name)
        )
        if found:
            return found
        names = dict.fromkeys(one.suite if suite and not name else one.name for one in self.checks)
        raise HpcstateError(f"there is no check {name or suite!r}", hint=f"there are: {', '.join(names)}")

    def proven_by(
        self, fault: Fault, nodes: Sequence[Node], deployed: Sequence[str] = ()
    ) -> tuple[Check, ...]:
        """The checks that ``fault`` must turn red on the compute nodes ``nodes`` with the containers
        ``deployed``: none where the fault itself cannot be made there, and otherwise those of its checks that
        can be."""
        if fault.needs.missing(nodes, deployed):
            return ()
        named = (one for one in self.checks if one.name in fault.checks)
        return tuple(one for one in named if not one.needs.missing(nodes, deployed))

    def faults_of(self, one: Check) -> tuple[Fault, ...]:
        """The faults that turn ``one`` red."""
        return tuple(fault for fault in self.faults if one.name in fault.checks)


def load_suites(root: Path = ROOT) -> Suites:
    """The checks and faults of every ``tests/suites/<suite>/*.py`` below ``root``.

    Raises HpcstateError when two checks share a name, when a check's name does not begin with its folder's,
    when a fault names a check that there is not, or when a check has no fault: a check that was never seen
    to fail proves nothing.
    """
    files = (root / "tests" / "suites").glob("[a-z]*/[a-z]*.py")
    ordered = sorted(files, key=lambda file: (file.parent.name != FIRST_SUITE, file.parent.name, file.name))
    if not ordered:
        raise HpcstateError("there are no suites", where=str(root / "tests" / "suites"))
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    checks: dict[str, Check] = {}
    faults: list[Fault] = []
    for file in ordered:
        module = importlib.import_module(f"tests.suites.{file.parent.name}.{file.stem}")
        for one in _defined(module, Check):
            if one.name in checks or one.suite != file.parent.name:
                raise HpcstateError(f"the name {one.name!r} is taken or of another suite", where=str(file))
            checks[one.name] = one
        faults += _defined(module, Fault)
    proven = {name for one in faults for name in one.checks}
    if proven - checks.keys():
        raise HpcstateError(
            f"a fault turns red what is no check: {', '.join(sorted(proven - checks.keys()))}"
        )
    unproven = checks.keys() - proven
    if unproven:
        raise HpcstateError(f"no fault for {', '.join(sorted(unproven))}", hint="write one for it")
    return Suites(tuple(checks.values()), tuple(faults))


def _defined(module: ModuleType, kind: type[T]) -> list[T]:
    return [value for value in vars(module).values() if isinstance(value, kind)]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
