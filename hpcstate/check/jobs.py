"""Jobs of the checks: started together, looked at later, and never left behind."""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from hpcstate import programs
from hpcstate.check.suite import CheckFailed
from hpcstate.errors import HpcstateError
from hpcstate.model import Node
from hpcstate.node.ssh import Live, TimedOutError
from hpcstate.probe.slurm import STATES_HOLDING_RESOURCES

POLL_SECONDS = 0.3

QUEUE_SECONDS = 10
"""How long srun may wait in the queue: even on an idle cluster, jobs of the check before may be ending."""

START_SECONDS = 30
"""How long a job may take to start on an idle cluster, with software emulation."""

AWAY_SECONDS = 5
"""How long a job may wait for nodes that take none: one that comes back is there by then."""

_PROGRAMS = Path(__file__).with_name("jobs.sh")
_LEFT = Path(__file__).with_name("left.sh")
_NAME = "hpcstate-check-"
_FILE = "=== output of "
_WAITING = frozenset({"PENDING", "CONFIGURING"})
_NODES_AWAY = ("ReqNodeNotAvail", "Nodes required for job are DOWN")
"""How the reasons of a job begin whose nodes are down or drained (job_state_reason_string of 24.11)."""

_PARTITION_CLOSED = ("PartitionDown", "PartitionInactive")
"""The reasons of a job whose partition was closed: it waits until somebody opens that."""

_ACTIVE = _WAITING | {"RUNNING", "COMPLETING", "SUSPENDED", "STAGE_OUT"}


@dataclass(frozen=True)
class Job:
    """One job to start: ``arguments`` are those of srun, ``command`` is what each task runs."""

    arguments: tuple[str, ...]
    command: tuple[str, ...]


@dataclass(frozen=True)
class JobState:
    """What Slurm says about a job: ``state`` and ``reason`` in its own words, ``output`` so far."""

    job_id: str
    state: str
    reason: str
    output: str

    @property
    def waiting(self) -> bool:
        """Whether the job has not started yet."""
        return self.state in _WAITING

    @property
    def over(self) -> bool:
        """Whether the job has ended, in whatever way."""
        return self.state not in _ACTIVE

    @property
    def without_nodes(self) -> bool:
        """Whether the job waits for nodes that take no jobs."""
        return self.waiting and self.reason.startswith((*_NODES_AWAY, *_PARTITION_CLOSED))


class Jobs:
    """Jobs under one check, run by srun on the controller as the ordinary user. A context manager: leaving it
    cancels those still there and removes their output.
    """

    def __init__(self, live: Live, jobs: Mapping[str, Job]) -> None:
        self._live = live
        self._jobs = jobs
        self._prefix = new_name()
        self._folder = f"/tmp/{self._prefix}"

    def __enter__(self) -> Self:
        try:
            self.start(self._jobs)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._controller(f"{self._cancel(self._jobs)}; rm -rf {self._folder}", check=False)

    def start(self, jobs: Mapping[str, Job]) -> None:
        """Submit ``jobs`` (label to job), in their order."""
        self._jobs = {**self._jobs, **jobs}
        lines = [programs.command(_PROGRAMS), f"mkdir -p -m 700 {self._folder}"]
        for label, job in jobs.items():
            name = self._name(label)
            words = ("srun", f"--job-name={name}", "--time=2", *job.arguments, *job.command)
            lines.append(f"submit {name} {self._folder}/{label} {shlex.join(words)}")
        self._controller("\n".join(lines))

    def states(self) -> dict[str, JobState]:
        """How the jobs stand now, by label. A job that srun could not even submit has the state FAILED."""
        names = ",".join(self._name(label) for label in self._jobs)
        script = (
            f"squeue --noheader --states=all --name={names} --format='%j|%i|%T|%r'\n"
            f"{programs.command(_PROGRAMS)}\n"
            f"outputs {self._folder}"
        )
        table, *files = self._controller(script).split(f"\n{_FILE}")
        outputs = dict(file.partition("\n")[::2] for file in files)
        rows = {row.split("|")[0]: row.split("|") for row in table.splitlines() if row.count("|") == 3}
        states = {}
        for label in self._jobs:
            _, job_id, state, reason = rows.get(self._name(label), ("", "", "FAILED", "not submitted"))
            states[label] = JobState(job_id, state, reason, outputs.get(label, "").strip())
        return states

    def wait(
        self, done: Callable[[dict[str, JobState]], bool], expected: str, seconds: float | None = None
    ) -> dict[str, JobState]:
        """Wait until ``done(states)`` and return the states.

        Skips the check when it does not come true in ``seconds`` (as long as a job may take to start,
        unless given) and somebody else's jobs are there, CheckFailed (with ``expected``) when they are not.
        """
        begun = time.monotonic()
        limit = begun + (START_SECONDS if seconds is None else seconds)
        while True:
            states = self.states()
            if done(states):
                return states
            now = time.monotonic()
            away = any(state.without_nodes for state in states.values())
            if now > limit or (away and now > begun + AWAY_SECONDS):
                break
            time.sleep(POLL_SECONDS)
        hint = "`squeue` and `scontrol show job` on the controller say more"
        if any(state.waiting for state in states.values()):
            closed = _closed(self._live)
            if not closed:
                skip_if_busy(self._live)
            hint = closed or _away_first(self._live) or hint
        seen = "; ".join(f"{label}: {describe(state)}" for label, state in states.items())
        raise CheckFailed(expected, seen, hint)

    def demand_alone(self, node: Node) -> None:
        """Wait until no other jobs than these hold resources of ``node``: what one of these waits for there
        is then what these have taken. Those of the check before may be ending.

        Skips the check when others stay.

        squeue is asked, not the node's allocated CPUs and memory: those lag by seconds behind the jobs (seen
        with 24.11.5 in both directions).
        """
        states = ",".join(STATES_HOLDING_RESOURCES)
        ask = f"squeue --noheader --nodelist={node.name} --states={states} --format='%j|%i|%u|%T'"
        limit = time.monotonic() + QUEUE_SECONDS
        while True:
            rows = self._controller(ask).splitlines()
            others = [row.split("|") for row in rows if row and not row.startswith(self._prefix)]
            if not others:
                return
            if time.monotonic() > limit:
                _, job_id, user, state = others[0]
                pytest.skip(f"{node.name} is busy: job {job_id} of {user} is {state.lower()}")
            time.sleep(POLL_SECONDS)

    def details(self, job_id: str) -> dict[str, str]:
        """The fields of ``scontrol show job``."""
        text = self._controller(f"scontrol --oneliner show job {shlex.quote(job_id)}")
        return dict(word.partition("=")[::2] for word in text.split())

    def cancel(self, *labels: str) -> None:
        """Cancel the jobs of ``labels``."""
        self._controller(self._cancel(labels))

    def _cancel(self, labels: Iterable[str]) -> str:
        # squeue takes a list of names, scancel only one.
        names = ",".join(self._name(label) for label in labels)
        return f"squeue --noheader --name={names} --format=%i | xargs --no-run-if-empty scancel --quiet"

    def _name(self, label: str) -> str:
        return f"{self._prefix}-{label}"

    def _controller(self, script: str, *, check: bool = True) -> str:
        return self._live.run(self._live.cluster.controller.name, script, user="hpc", check=check).stdout


def cancel_left(live: Live) -> list[str]:
    """Cancel what killed runs of the checks have left waiting, for ever where a partition is closed; the
    numbers of the jobs. None where Slurm does not answer."""
    script = programs.command(_LEFT, prefix=_NAME)
    try:
        return live.run(live.cluster.controller.name, script, user="hpc", check=False).stdout.split()
    except HpcstateError:
        return []


def new_name() -> str:
    """A job name that no other run of the checks has, on whatever machine."""
    return f"{_NAME}{secrets.token_hex(4)}"


def srun(live: Live, arguments: Sequence[str], command: Sequence[str], *, seconds: int = 30) -> str:
    """Run one job on the controller as the ordinary user and return what its tasks printed.

    The job must get its resources and end within ``seconds``; Slurm itself would end it a minute later.
    Skips the check when somebody else's jobs hold the resources, CheckFailed when the job fails in any
    other way.
    """
    name = new_name()
    minutes = 1 + -(-seconds // 60)
    limits = (f"--time={minutes}", f"--immediate={QUEUE_SECONDS}")
    words = ("srun", f"--job-name={name}", *limits, *arguments, *command)
    controller = live.cluster.controller.name
    try:
        answer = live.run(controller, shlex.join(words), user="hpc", timeout=seconds, check=False)
    except TimedOutError as error:
        live.run(controller, f"scancel --quiet --name={name}", user="hpc", check=False)
        ended, said = f"did not end within {seconds} s", error.message.splitlines()[1:]
    else:
        if answer.code == 0:
            return answer.stdout
        ended = f"ended with {answer.code}"
        said = [*answer.stderr.strip().splitlines()[-3:], *answer.stdout.strip().splitlines()[-3:]]
    hint = "`sinfo -N -l` on the controller and /var/log/slurm/slurmd.log on the nodes say more"
    # Whether it was somebody else's jobs that stood in the way, or nodes that take none.
    if any("Unable to allocate resources" in line for line in said):
        closed = _closed(live)
        if not closed:
            skip_if_busy(live)
        hint = closed or _away_first(live) or hint
    raise CheckFailed(
        f"`{shlex.join(['srun', *arguments, *command[:1]])}` succeeds",
        f"it {ended}: {' / '.join(line.strip() for line in said) or 'nothing was printed'}",
        hint,
    )


def _closed(live: Live) -> str:
    """The hint where somebody closed a partition that the file has as UP: no job starts there, and no other
    job is in the way. Empty where all are open."""
    slurm = live.cluster.slurm
    open_ones = {each.name for each in slurm.partitions if each.state == "UP"} if slurm else set()
    answer = live.run(
        live.cluster.controller.name, "sinfo --all --noheader --format='%R %a'", user="root", check=False
    )
    rows = [line.split() for line in dict.fromkeys(answer.stdout.splitlines())]
    closed = {row[0]: row[1] for row in rows if len(row) == 2 and row[0] in open_ones and row[1] != "up"}
    if not closed:
        return ""
    said = ", ".join(f"partition {name} is {state}" for name, state in closed.items())
    back = "; ".join(f"sudo scontrol update partitionname={name} state=up" for name in closed)
    return f"{said}: somebody closed it by scontrol; on the controller: {back}"


def _away_first(live: Live) -> str:
    """The hint where Slurm gives some nodes no jobs now, empty where all take them."""
    words = "sinfo --noheader --Node --states=down,drain,fail,no_respond,unknown --format='%N is %T'"
    answer = live.run(live.cluster.controller.name, words, check=False)
    away = dict.fromkeys(line.strip() for line in answer.stdout.splitlines() if line.strip())
    if not away:
        return ""
    return f"{', '.join(away)}: that comes first; nodes.registered and nodes.daemons tell why"


def skip_if_busy(live: Live) -> None:
    """Skip the check when jobs that no check started are in the cluster. Where squeue cannot tell, what the
    check found stands."""
    ask = "squeue --noheader --format='%j|%i|%u|%T'"
    text = live.run(live.cluster.controller.name, ask, check=False).stdout
    others = [row.split("|") for row in text.splitlines() if row and not row.startswith(_NAME)]
    if others:
        _, job_id, user, state = others[0]
        pytest.skip(f"the cluster is busy: job {job_id} of {user} is {state.lower()}")


def describe(state: JobState) -> str:
    """A job's state as a person reads it."""
    reason = f" ({state.reason})" if state.reason not in ("None", "") else ""
    last = state.output.splitlines()[-1:]
    return f"{state.state}{reason}" + (f", said {last[0]!r}" if last else "")


def together(live: Live, nodes: Sequence[Node]) -> list[tuple[str, ...]]:
    """Split ``nodes`` into the fewest jobs: srun arguments that place a job on all nodes of one partition.

    Raises UnreachableError for a node that does not answer: Slurm would give it a job, and wait for it for
    long. A node in no partition is a fault of the cluster: CheckFailed.
    """
    for node in nodes:
        live.demand(node.name)
    partitions = live.cluster.slurm.partitions if live.cluster.slurm else ()
    remaining = [node.name for node in nodes]
    jobs: list[tuple[str, ...]] = []
    while remaining:
        best = max(partitions, key=lambda part: len(set(part.nodes) & set(remaining)), default=None)
        here = [name for name in remaining if best is not None and name in best.nodes]
        if best is None or not here:
            raise CheckFailed("every node in a partition", f"{', '.join(remaining)} in none")
        jobs.append((f"--partition={best.name}", f"--nodes={len(here)}", f"--nodelist={','.join(here)}"))
        remaining = [name for name in remaining if name not in here]
    return jobs


def on(live: Live, node: Node) -> tuple[str, ...]:
    """The srun arguments that place a job on ``node``."""
    return together(live, [node])[0]


def pair(live: Live, of: Sequence[Node] = ()) -> list[Node]:
    """The first two compute nodes (of ``of``, if there are any) that one partition has. Skips the check
    without such a partition."""
    for partition in live.cluster.slurm.partitions if live.cluster.slurm else ():
        nodes = [node for node in of or live.workers if node.name in partition.nodes]
        if len(nodes) >= 2:
            return nodes[:2]
    pytest.skip("needs a partition with two nodes, the cluster file declares none")
