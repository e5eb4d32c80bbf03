"""What a check of a live cluster is, and what a fault is.

A check is an ordinary test function of pytest in ``tests/suites/<suite>/test_*.py``: it looks at the real
cluster, keeps what it saw (``record_property("observed", …)``), and raises :class:`CheckFailed` when that is
not as it should be. Beside it stands a fault: a context manager that breaks the cluster in the way the check
must notice, and restores it exactly. tests/lab proves each check with its faults.

The fixtures are those of hpcstate/check/plugin.py; what several checks look at is a fixture of the session
(tests/suites/conftest.py), made once in a run of checks.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hpcstate.errors import HpcstateError
from hpcstate.model import Node
from hpcstate.node.ssh import Live
from hpcstate.terminal import plural

FIRST_SUITE = "nodes"
"""The suite that runs first: what it finds explains what fails after it. The others follow by name."""

RecordProperty = Callable[[str, object], None]
"""The fixture ``record_property`` of pytest. What a check gives it as ``observed`` is what the reports say
was seen."""


DEPLOY_AGAIN = "deploy again: ./hpc up FILE (or pyinfra INVENTORY deploys/full_stack.py)"
"""The next step where a whole deploy mends it: what is in force is no matter of the deploy of the files."""


NEW_DISK = "`hpcstate roll start FILE --node NAME` gives the node a new disk, made from its image"
"""The next step where something of the image is broken, which no deploy knows."""


class CheckFailed(Exception):
    """The cluster is not as it should be: what was expected, what was observed, and the next step."""

    def __init__(self, expected: str, observed: str, hint: str = "") -> None:
        super().__init__(f"expected {expected}; observed {observed}")
        self.expected = expected
        self.observed = observed
        self.hint = hint


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
            return f"needs {plural(self.nodes, 'compute node')}, the cluster has {len(nodes)}"
        if max((len(node.gres_types) for node in nodes), default=0) < self.gpus:
            return f"needs a compute node with {plural(self.gpus, 'GPU')}, the cluster file declares none"
        if max(map(real_gpus, nodes), default=0) < self.real_gpus:
            return (
                f"needs a compute node with {plural(self.real_gpus, 'real GPU')}, the cluster file has none"
            )
        if max((node.cpu_cores for node in nodes), default=0) < self.cpus:
            return f"needs a compute node with {plural(self.cpus, 'CPU')}, the cluster file declares none"
        if self.passthrough and not any(node.passthrough for node in nodes):
            return "needs a compute node with a passed-through PCI device, the cluster file declares none"
        return ""


def real_gpus(node: Node) -> int:
    """How many GPUs that are not simulated ``node`` declares; one that is split into MIG instances is one."""
    return sum(device.device_type == "gpu" for device in node.passthrough)


@dataclass(frozen=True)
class Check:
    """One check. ``name`` is ``suite.what``, from the folder and the name of the function without ``test_``;
    ``title``, the first line of its docstring, says in words what holds when it passes. ``file`` is where it
    stands.
    """

    name: str
    title: str
    needs: Needs
    file: Path

    @property
    def suite(self) -> str:
        """The part of the name before the dot: the folder's name, with dashes."""
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
            check
            for check in self.checks
            if (not suite or check.suite == suite) and (not name or check.name == name)
        )
        if found:
            return found
        suites = dict.fromkeys(check.suite for check in self.checks)
        if suite and suite not in suites:
            raise HpcstateError(f"there is no suite {suite!r}", hint=f"there are: {', '.join(suites)}")
        names = [check.name for check in self.checks if not suite or check.suite == suite]
        own = [known for known in names if known.startswith(f"{name.partition('.')[0]}.")]
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.8)
        meant = f"did you mean {near[0]}? " if near else ""
        raise HpcstateError(
            f"there is no check {name!r}" + (f" in the suite {suite!r}" if suite else ""),
            hint=f"{meant}there are: {', '.join(own or names)}",
        )

    def proven_by(
        self, fault: Fault, nodes: Sequence[Node], deployed: Sequence[str] = ()
    ) -> tuple[Check, ...]:
        """The checks that ``fault`` must turn red on the compute nodes ``nodes`` with the containers
        ``deployed``: none where the fault itself cannot be made there, and otherwise those of its checks that
        can be."""
        if fault.needs.missing(nodes, deployed):
            return ()
        named = (check for check in self.checks if check.name in fault.checks)
        return tuple(check for check in named if not check.needs.missing(nodes, deployed))

    def faults_of(self, check: Check) -> tuple[Fault, ...]:
        """The faults that turn ``check`` red."""
        return tuple(fault for fault in self.faults if check.name in fault.checks)

    def a_fault_each(self, nodes: Sequence[Node], deployed: Sequence[str] = ()) -> tuple[Fault, ...]:
        """Faults that turn every check red once where they can be made: those without which a check would
        not be, the later ones left out first."""
        proven = {
            fault: {check.name for check in self.proven_by(fault, nodes, deployed)} for fault in self.faults
        }
        times = Counter(name for names in proven.values() for name in names)
        kept = set(self.faults)
        for fault in reversed(self.faults):
            if all(times[name] > 1 for name in proven[fault]):
                kept.remove(fault)
                times.subtract(proven[fault])
        return tuple(fault for fault in self.faults if fault in kept)


def suites_of(checks: Sequence[Check], faults: Sequence[Fault], own: Path) -> Suites:
    """``checks`` and ``faults`` as suites, once they are known to prove something.

    Raises HpcstateError when two checks share a name, when a suite of the project's is extended from
    elsewhere, when a check has no title, when a fault names a check that there is not, or when a check of a
    file below ``own`` has no fault: a check that was never seen to fail proves nothing. Checks from
    elsewhere are their owner's, and a production cluster is not there to be broken.
    """
    by_name: dict[str, Check] = {}
    for check in checks:
        if check.name in by_name:
            raise HpcstateError(
                f"two checks are called {check.name!r}",
                where=str(check.file),
                hint=f"the other one is in {by_name[check.name].file}",
            )
        if not check.title:
            raise HpcstateError(
                f"the check {check.name!r} has no title",
                where=str(check.file),
                hint="the first line of its docstring says what holds when it passes",
            )
        by_name[check.name] = check
    ours = {check.suite for check in checks if check.file.is_relative_to(own)}
    for check in checks:
        if check.suite in ours and not check.file.is_relative_to(own):
            raise HpcstateError(
                f"the suite {check.suite!r} is one of the project's",
                where=str(check.file.parent),
                hint="give the folder of your own checks another name",
            )
    proven = {name for fault in faults for name in fault.checks}
    if proven - by_name.keys():
        raise HpcstateError(
            f"a fault turns red what is no check: {', '.join(sorted(proven - by_name.keys()))}"
        )
    unproven = sorted(
        check.name for check in checks if check.name not in proven and check.file.is_relative_to(own)
    )
    if unproven:
        raise HpcstateError(f"no fault for {', '.join(unproven)}", hint="write one for it")
    ordered = sorted(checks, key=lambda check: check.suite != FIRST_SUITE)
    return Suites(tuple(ordered), tuple(faults))
