"""What `up` would do, as values: what was seen of the world goes in, steps with their reasons come out. Pure.

Who looks is plan_look.py; how it reads is plan_text.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from hpcstate.artifact.recipe import State
from hpcstate.cluster.pyinfra import Operation
from hpcstate.cluster.roll import drained, order
from hpcstate.digest import key_of
from hpcstate.errors import HpcstateError
from hpcstate.hypervisor.machine import IMPACTS, REFUSED, MachineDifference
from hpcstate.model import Cluster, Description
from hpcstate.node.file_change import FileChange
from hpcstate.probe.running_jobs import RunningJob
from hpcstate.slurm.impact import Impact, Level

Part = Literal["build", "machines", "nodes", "slurm"]
"""Who acts: doit builds, libvirt has the machines, pyinfra changes the nodes, Slurm's daemons."""

PARTS: tuple[Part, ...] = ("build", "machines", "nodes", "slurm")

UP = "up"

OTHERS: Mapping[str, str] = {
    "stop": "hpcstate stop, then start",
    "replace": "hpcstate roll start",
    "remove": "hpcstate start --remove",
}
"""The impacts of a difference that `up` leaves to another command, and which one that is."""

LOSES = ("remove", "replace")
"""The impacts by which something goes that no file describes: a disk, with what is on it."""

VACATES = ("Drain where slurmd must restart", "NVIDIA's driver")
"""The operations that drain a node first and wait for its jobs; pyinfra puts the deploy before the name
(``deploys/vacate.py | Drain where slurmd must restart``)."""


@dataclass(frozen=True)
class Step:
    """One thing that would be done: to ``what`` it ``does`` that, because of ``why``, which has the
    ``impact`` (both may be empty). ``by`` is the command that does it, where that is not `up`.

    ``removes`` says that something is lost that no file describes; ``drains`` names the nodes that must
    hold no jobs meanwhile, ``jobs`` those that run there now.
    """

    part: Part
    what: str
    does: str
    why: str = ""
    impact: str = ""
    by: str = UP
    removes: bool = False
    drains: tuple[str, ...] = ()
    jobs: tuple[RunningJob, ...] = ()


@dataclass(frozen=True)
class Artifact:
    """Something that is built: its file, what lies there, whether the store has it as it should be, and which
    inputs are others than those that it was made of. ``forgotten``: it is made anew all the same."""

    name: str
    state: State
    stored: bool = False
    changed: tuple[str, ...] = ()
    container: bool = False
    forgotten: bool = False


@dataclass(frozen=True)
class Machines:
    """What libvirt has of a cluster: whether its network is there, the state of each node that starts by
    itself (``absent``, ``running``, …), what is otherwise than the file says, and the nodes with a new disk
    that has not passed yet."""

    network: bool
    states: Mapping[str, str]
    differences: tuple[MachineDifference, ...] = ()
    unfinished: tuple[str, ...] = ()
    strangers: str = ""


@dataclass(frozen=True)
class SlurmSeen:
    """What changes for Slurm's daemons, and the jobs that hold nodes; None where nobody could tell.
    ``drains`` are those of others, which stay, a line each; ``theirs`` has the nodes, with their reasons.
    ``ours`` has the nodes that an earlier run of ours drained, with its reasons: `up` lifts that.
    """

    impact: Impact = field(default_factory=Impact)
    jobs: tuple[RunningJob, ...] | None = ()
    drains: tuple[str, ...] = ()
    theirs: Mapping[str, str] = field(default_factory=dict)
    ours: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Observed:
    """The world as it was seen: the digest of the file, artifacts, libvirt and Slurm by the cluster's name,
    and what pyinfra would change on the nodes that run; None where they were not asked.

    ``unknown`` says what could not be looked at, ``obstacles`` what `up` would stop at on this host,
    ``named`` what a deploy would leave as it is (docs/drift.md).
    """

    file: str
    artifacts: tuple[Artifact, ...] = ()
    machines: Mapping[str, Machines] = field(default_factory=dict)
    slurm: Mapping[str, SlurmSeen] = field(default_factory=dict)
    operations: tuple[Operation, ...] | None = None
    files: tuple[FileChange, ...] = ()
    named: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    obstacles: tuple[str, ...] = ()

    def digests(self) -> dict[str, str]:
        """A digest of each part of the world, but for the jobs, which come and go."""
        machines = {
            name: [
                seen.network,
                sorted(seen.states.items()),
                list(map(str, seen.differences)),
                seen.unfinished,
            ]
            for name, seen in self.machines.items()
        }
        slurm = {
            name: [[change.key, change.old, change.new] for change in seen.impact.changes]
            for name, seen in self.slurm.items()
        }
        parts: dict[str, object] = {
            "file": self.file,
            "build": [[each.name, each.state, each.changed] for each in self.artifacts],
            "machines": machines,
            "slurm": slurm,
        }
        if self.operations is not None:
            parts["nodes"] = [[each.name, each.changed] for each in self.operations if each.changed]
        return {name: key_of({"seen": part}) for name, part in parts.items()}


@dataclass(frozen=True)
class Plan:
    """The steps, and what they were made of. ``deployed`` says that the nodes that run were asked by pyinfra.

    ``obstacles`` are what `up` would stop at, ``unknown`` what could not be looked at, ``named`` what a
    deploy would leave as it is: nothing that would be done. ``digests`` are those of the world as it was
    seen.
    """

    steps: tuple[Step, ...]
    obstacles: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)
    deployed: bool = False
    unseen: tuple[str, ...] = ()
    files: tuple[FileChange, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing would be done and everything could be looked at."""
        return not (self.steps or self.unknown or self.obstacles)

    @property
    def by_up(self) -> tuple[Step, ...]:
        """The steps that `up` itself does."""
        return tuple(step for step in self.steps if step.by == UP)

    @property
    def jobs(self) -> tuple[RunningJob, ...]:
        """The jobs that `up` would wait for, each once."""
        return tuple(sorted({job for step in self.by_up for job in step.jobs}))

    @property
    def code(self) -> int:
        """The exit code: 0 nothing to do, 1 something, 2 something could not be looked at."""
        return 2 if self.unknown else 0 if self.empty else 1


def plan_of(description: Description, seen: Observed) -> Plan:
    """What `up` would do with the clusters of ``description`` in the world as it was ``seen``."""
    steps = [_build(artifact) for artifact in seen.artifacts if artifact.state != "current"]
    obstacles = list(seen.obstacles)
    unseen: list[str] = []
    for cluster in description.clusters:
        slurm = seen.slurm.get(cluster.name, SlurmSeen())
        machines = seen.machines.get(cluster.name)
        if machines is not None and machines.strangers:
            obstacles.append(machines.strangers)
            continue
        found = [] if machines is None else _machines(cluster, machines)
        if machines is not None:
            obstacles += map(str, _in_the_way(cluster, machines, slurm))
        found = [_with_lost(cluster, step, slurm.jobs or ()) for step in found]
        found += _slurm(cluster, slurm.impact)
        found += [
            Step("slurm", f"drain of {name}", "lift", reason, "jobs start there again")
            for name, reason in slurm.ours.items()
        ]
        if slurm.jobs is None:
            unseen += [name for step in found if step.by == UP for name in step.drains]
        steps += [_with_jobs(step, slurm.jobs or ()) for step in found]
    jobs = [job for slurm in seen.slurm.values() for job in slurm.jobs or ()]
    steps += [_with_jobs(step, jobs) for step in _nodes(seen)]
    # pyinfra decides what differs: a rendered file that no deploy puts there is no difference.
    changed = {host for each in seen.operations or () for host in each.changed}
    steps.sort(key=lambda step: PARTS.index(step.part))
    return Plan(
        tuple(steps),
        tuple(obstacles),
        seen.unknown,
        (*seen.named, *(line for slurm in seen.slurm.values() for line in slurm.drains)),
        seen.digests(),
        seen.operations is not None,
        tuple(dict.fromkeys(unseen)),
        tuple(each for each in seen.files if each.node in changed),
    )


def _in_the_way(cluster: Cluster, machines: Machines, slurm: SlurmSeen) -> list[HpcstateError]:
    """What `up` would stop at: a change that no order makes, somebody's drain on a node that has to go off,
    and jobs on a node that the file no longer has, for slurm.conf would no longer have it either."""
    found: list[HpcstateError] = []
    try:
        due = order(cluster, machines.differences)
    except HpcstateError as error:
        found.append(error)
    else:
        if theirs := drained(cluster, (*due.before, *due.after), slurm.theirs):
            found.append(theirs)
    for each in machines.differences:
        jobs = [str(job) for job in slurm.jobs or () if each.what in job.nodes]
        if each.impact == "remove" and jobs:
            found.append(
                HpcstateError(
                    f"the file no longer has {each.what}, and jobs run there: {', '.join(jobs)}",
                    where=cluster.name,
                    hint="`hpcstate start FILE --remove` waits for them and removes it; or put it back",
                )
            )
    return found


def _build(artifact: Artifact) -> Step:
    why = "it is not there" if artifact.state == "missing" else f"changed: {_some(artifact.changed)}"
    if artifact.state == "outdated" and not artifact.changed:
        why = "its bytes are not those that were built"
    if artifact.forgotten:
        why = "it was forgotten (doit forget)"
    return Step("build", artifact.name, "fetch from the store" if artifact.stored else "build", why)


def _some(names: Sequence[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _machines(cluster: Cluster, seen: Machines) -> list[Step]:
    steps = [] if seen.network else [Step("machines", f"network {cluster.network.name}", "create")]
    domains = {node.name: cluster.domain_name(node) for node in cluster.nodes}
    for name, state in seen.states.items():
        if state == "absent":
            steps.append(Step("machines", domains[name], "create and start", "it is not there"))
            steps.append(Step("nodes", name, "everything of its role", "it is a new node"))
        elif state != "running":
            steps.append(Step("machines", domains[name], "start", f"it is {state}"))
            steps.append(
                Step(
                    "nodes",
                    name,
                    "what differs once it runs",
                    f"it is {state}: its files cannot be looked at",
                )
            )
    running = {name for name, state in seen.states.items() if state == "running"}
    workers = {node.name for node in cluster.workers}
    for each in seen.differences:
        if each.impact in REFUSED:
            continue  # `up` refuses these: they are obstacles
        drains = (each.what,) if each.impact == "power-cycle" and each.what in workers & running else ()
        change = f"{each.name} {each.found or 'none'} -> {each.wanted or 'none'}"
        by = OTHERS.get(each.impact, UP)
        impact = IMPACTS[each.impact]
        loses = each.impact in LOSES
        steps.append(Step("machines", each.what, change, impact=impact, by=by, removes=loses, drains=drains))
    for name in seen.unfinished:
        why, impact = "its new disk has not passed yet", "the node goes off and on; its old disk goes"
        drains = (name,) if name in running else ()
        steps.append(Step("machines", name, "go on with the roll", why, impact, removes=True, drains=drains))
    return steps


def _slurm(cluster: Cluster, impact: Impact) -> list[Step]:
    if not impact.changes:
        return []
    steps = []
    controller = cluster.controller.name
    if impact.slurmctld > Level.NONE:
        does = "restart" if impact.slurmctld >= Level.RESTART else "reconfigure"
        steps.append(Step("slurm", f"slurmctld on {controller}", does, impact.why()))
    for node in cluster.workers:
        if impact.slurmd(node.name) >= Level.RESTART:
            why, says = impact.why(node.name), "the node is drained, and its jobs are awaited"
            steps.append(Step("slurm", f"slurmd on {node.name}", "restart", why, says, drains=(node.name,)))
    return steps or [Step("slurm", f"Slurm's files on {controller}", "write", impact.why())]


def _nodes(seen: Observed) -> list[Step]:
    steps = [
        Step(
            "nodes",
            each.name,
            f"change {', '.join(each.changed)}",
            drains=each.changed if each.name.rpartition(" | ")[2] in VACATES else (),
        )
        for each in seen.operations or ()
        if each.changed
    ]
    if seen.operations is not None:
        # pyinfra was asked without these: what is not there can be delivered nowhere.
        names = [each.name for each in seen.artifacts if each.container and each.state == "missing"]
        steps += [Step("nodes", name, "deliver to the nodes", "it is not built yet") for name in names]
    return steps


def _with_lost(cluster: Cluster, step: Step, jobs: Iterable[RunningJob]) -> Step:
    """``step``, which may power a node on, with the jobs that slurmctld still has on it."""
    if step.part != "machines" or step.does != "start":
        return step
    names = {cluster.domain_name(node): node.name for node in cluster.nodes}
    lost = [job for job in jobs if names.get(step.what) in job.nodes]
    if not lost:
        return step
    which = ", ".join(f"{job.number} of {job.user}" for job in lost)
    return replace(
        step, why=f"{step.why}; Slurm has not missed its jobs yet, and requeues or ends them: {which}"
    )


def _with_jobs(step: Step, jobs: Iterable[RunningJob]) -> Step:
    touched = tuple(job for job in jobs if set(job.nodes) & set(step.drains))
    if not touched:
        return step
    return replace(step, jobs=touched)


def changed_inputs(before: Mapping[str, object], now: Mapping[str, object]) -> tuple[str, ...]:
    """The names of the inputs that are others ``now``; of a table of files, the files."""
    names: list[str] = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if old == new:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            names += changed_inputs(old, new)
        else:
            names.append(key)
    return tuple(names)
