"""Nodes that are to be powered off, as Slurm sees it: no job is on them, and none gets there meanwhile.

A node that is just switched off leaves ghosts: slurmctld takes its jobs for running until SlurmdTimeout is
over, and a controller that is switched off as well does so for as long again after the next boot.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hpcstate import programs
from hpcstate.errors import HpcstateError
from hpcstate.health.decide import PREFIX as HEALTH_PREFIX
from hpcstate.model import Cluster, Node
from hpcstate.node.ssh import Live, NotLetInError, OtherHostKeyError
from hpcstate.paths import ClusterPaths
from hpcstate.probe import running_jobs
from hpcstate.probe.running_jobs import RunningJob
from hpcstate.probe.slurm import SlurmNode, jobs_command, nodes_command, parse_jobs, parse_nodes
from hpcstate.slurm.change import APPLIED, REASON_PREFIX, WAITING

REASON = f"{REASON_PREFIX}stop"
"""Of the drain while a node is emptied, and of DOWN while it is off. It has the prefix of our drains."""

NO_REASON = "none"

Jobs = Literal["refuse", "drain", "force"]
"""What becomes of jobs on nodes to be stopped: they are in the way, waited for, or requeued or ended."""

DRAIN_SECONDS = 3600.0
_POLL = 5.0
_TELL = 60.0
_END_SECONDS = 120.0
"""How long jobs that were ended may take: Slurm kills after KillWait (30 s), then the epilog runs."""
_STOP = Path(__file__).with_name("slurmctld_stop.sh")
_STOP_SECONDS = 300.0
"""systemd gives each of three daemons 90 s (DefaultTimeoutStopSec)."""

_SLURM_SECONDS = 60.0


@dataclass(frozen=True)
class StopCommands:
    """The commands, for a person, that wait for the jobs on the nodes that are to go, and that do not."""

    waits: str = "hpcstate stop FILE --drain"
    forces: str = "hpcstate stop FILE --force"


STOPPING = StopCommands()


@dataclass(frozen=True)
class Holding:
    """The jobs on each node that has some, and why it is ``unknown`` where nobody could tell."""

    jobs: Mapping[str, list[int]] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [
            f"job {jobs[0]} runs on {name}"
            if len(jobs) == 1
            else f"jobs {', '.join(map(str, jobs))} run on {name}"
            for name, jobs in self.jobs.items()
        ]
        lines += [
            f"whether jobs run on {name} is not known: {why.splitlines()[0]}"
            for name, why in self.unknown.items()
        ]
        return "\n".join(lines)

    def __bool__(self) -> bool:
        return bool(self.jobs or self.unknown)


def jobs_on(live: Live, nodes: Sequence[Node], paused: Collection[str] = ()) -> Holding:
    """The jobs on ``nodes``, asked on each of them: it knows its own also when slurmctld is silent. Of those
    that are ``paused``, by name, the controller is asked, and of those that show another host key or do not
    let us in.
    """
    jobs: dict[str, list[int]] = {}
    unknown: dict[str, str] = {}
    for node in nodes:
        head = live.cluster.controller.name
        try:
            try:
                at = head if node.name in paused else node.name
                answer = live.run(at, jobs_command(node.name), user="root", timeout=_SLURM_SECONDS)
            except (OtherHostKeyError, NotLetInError):
                # It says nothing, or nothing that could be believed. slurmctld hears of it by way of munge.
                answer = live.run(head, jobs_command(node.name), user="root", timeout=_SLURM_SECONDS)
            found = parse_jobs(answer.stdout)
        except HpcstateError as error:
            unknown[node.name] = error.message
        else:
            if found:
                jobs[node.name] = found
    return Holding(jobs, unknown)


def ending(cluster: Cluster) -> list[str]:
    """A line about each job that ends when the nodes of ``cluster`` go, as slurmctld has them; one that
    says so where it cannot be asked."""
    try:
        jobs = _jobs_of(cluster)
    except HpcstateError as error:
        return [f"which jobs end is not known: {error.message.splitlines()[0]}"]
    return [f"ends job {job.number} of {job.user} on {', '.join(job.nodes)}" for job in jobs]


def awaited(cluster: Cluster, names: Collection[str]) -> list[str]:
    """A line about each job that is waited for before the nodes ``names`` go, as slurmctld has them; one
    that says so where it cannot be asked."""
    try:
        jobs = _jobs_of(cluster)
    except HpcstateError as error:
        return [f"which jobs are waited for is not known: {error.message.splitlines()[0]}"]
    found = [(job, [node for node in job.nodes if node in names]) for job in jobs]
    return [f"waits for job {job} on {', '.join(nodes)}" for job, nodes in found if nodes]


def _jobs_of(cluster: Cluster) -> Sequence[RunningJob]:
    """The running jobs of ``cluster``; none of one that was never started. Raises HpcstateError where
    slurmctld cannot be asked."""
    if cluster.kind != "hpc" or not ClusterPaths.of(cluster.name).ssh_key.exists():
        return ()
    with Live(cluster) as live:
        head = cluster.controller.name
        said = live.run(head, running_jobs.command(APPLIED), user="root", timeout=_SLURM_SECONDS)
        return running_jobs.parse(said.stdout)


def settle(cluster: Cluster, say: Callable[[str], None]) -> None:
    """Stop slurmctld and its database on the controller, whose data volume outlives it. Says what is not
    whole where they did not end by themselves; that is no reason to stay.
    """
    head = cluster.controller.name
    try:
        with Live(cluster) as live:
            command = programs.command(_STOP)
            ended = live.run(head, command, user="root", timeout=_STOP_SECONDS).stdout.strip()
    except HpcstateError as error:
        say(f"slurmctld could not be stopped first, its last seconds may be lost: {error.message}")
        return
    if ended not in ("", "success"):
        say(f"slurmctld was ended by systemd ({ended}): what it had not saved by then is lost")


@contextmanager
def left(
    live: Live,
    nodes: Sequence[Node],
    jobs: Jobs,
    say: Callable[[str], None],
    timeout_s: float = DRAIN_SECONDS,
    is_off: Callable[[str], bool] = lambda _: True,
    paused: Collection[str] = (),
    way: StopCommands = STOPPING,
) -> Iterator[None]:
    """``nodes`` are without jobs and take no new ones while the block runs, which switches them off; then
    Slurm has them as DOWN, from where they come back by themselves when they boot (ReturnToService=2).

    ``is_off`` tells whether the node of a name is off: when the block, or the waiting, is interrupted, the
    nodes that are not take jobs again. Raises HpcstateError, with nothing changed, when jobs run there and
    ``jobs`` is ``refuse``, or when they do not end within ``timeout_s`` seconds; then the nodes stay drained.
    """
    known = _ask(live)
    drained = [
        node.name for node in nodes if node.name in known and "DRAIN" not in known[node.name]["states"]
    ]
    note = ClusterPaths.of(live.cluster.name).draining
    if drained:
        if note.parent.is_dir():
            note.write_text("".join(f"{name}\n" for name in drained))
        _update(live, drained, "drain", REASON)
    try:
        holding = jobs_on(live, nodes, paused)
        if holding and jobs == "refuse":
            raise HpcstateError(
                f"{holding}\nnothing was stopped{_drained_before(known, nodes)}",
                where=live.cluster.name,
                hint=f"`{way.waits}` waits for them; `{way.forces}` requeues batch jobs and ends the others",
            )
        if holding and jobs == "drain" and not known:
            raise HpcstateError(
                f"{holding}\nslurmctld does not answer: the nodes cannot be drained, and nothing was stopped",
                where=live.cluster.name,
                hint=f"is the controller on? `hpcstate start FILE`; `{way.forces}` stops all the same",
            )
        still = Holding()
        if holding.jobs and jobs == "force":
            _end(live, holding, say)
            if still := _wait(live, nodes, say, _END_SECONDS, paused):
                say(f"after {_END_SECONDS:.0f} s {'; '.join(str(still).splitlines())}: stopping all the same")
        elif jobs == "drain" and holding:
            still = _wait(live, nodes, say, timeout_s, paused)
            if theirs := _taken_over(live, drained):
                raise HpcstateError(
                    f"while jobs were awaited somebody drained {theirs}\nnothing was stopped",
                    where=live.cluster.name,
                    hint="they may be at it. When that is over, on "
                    f"{live.cluster.controller.name}: sudo scontrol update nodename=NODE state=resume; then "
                    "the same command again",
                )
    except BaseException as error:
        if _lift(live, drained, say, quietly=isinstance(error, HpcstateError)):
            note.unlink(missing_ok=True)
        raise
    if jobs == "drain" and still:
        raise HpcstateError(
            f"{still}\nafter {timeout_s:.0f} s; these nodes stay drained, and nothing was stopped",
            where=live.cluster.name,
            hint=f"`{way.waits}` goes on waiting; `{way.forces}` requeues or ends the jobs; to take jobs "
            f"again: scontrol update nodename={','.join(node.name for node in nodes)} state=resume",
        )
    ours = [*drained, *(name for name, node in known.items() if _is_ours(node))]
    try:
        yield
    except BaseException:
        down = _down(live, [node.name for node in nodes if node.name in ours and is_off(node.name)], say)
        if _lift(live, [name for name in drained if not is_off(name)], say) and down:
            note.unlink(missing_ok=True)
        raise
    if _down(live, [node.name for node in nodes if node.name in ours], say):
        note.unlink(missing_ok=True)


def take_jobs_again(cluster: Cluster, names: Sequence[str], say: Callable[[str], None]) -> list[str]:
    """Lift the drains of ours on ``names``, which are on again; returns those that had one."""
    with Live(cluster) as live:
        known = _ask(live)
        drained = [
            name
            for name in names
            if name in known and "DRAIN" in known[name]["states"] and _is_ours(known[name])
        ]
        _lift(live, drained, say)
    if not known:
        say("slurmctld does not answer: the next `./hpc up` lifts a drain that is left")
    return drained


def _ask(live: Live) -> dict[str, SlurmNode]:
    """The nodes as slurmctld has them; none when it is silent, or Slurm is not there yet."""
    try:
        answer = live.run(
            live.cluster.controller.name, nodes_command(), user="root", timeout=_SLURM_SECONDS, check=False
        )
        return parse_nodes(answer.stdout)
    except HpcstateError:
        return {}


def _is_ours(node: SlurmNode) -> bool:
    """Whether nobody has put another reason in the place of ours since we drained ``node``, or lifted it."""
    return node["reason"].startswith(REASON)


def _taken_over(live: Live, names: Sequence[str]) -> str:
    """Those of ``names``, which we drained, that somebody has drained meanwhile, with the reason; empty where
    there is none."""
    known = _ask(live)
    return "; ".join(
        f"{name} ({known[name]['reason'] or 'no reason given'})"
        for name in names
        if name in known
        and "DRAIN" in known[name]["states"]
        and not known[name]["reason"].startswith((REASON_PREFIX, HEALTH_PREFIX))
    )


def _drained_before(known: Mapping[str, SlurmNode], nodes: Sequence[Node]) -> str:
    """What an earlier `stop --drain` left, which ran out of time, or a `start --remove` that was killed."""
    names = [
        node.name
        for node in nodes
        if node.name in known and "DRAIN" in known[node.name]["states"] and _is_ours(known[node.name])
    ]
    if not names:
        return ""
    return (
        f"\nan earlier stop or removal still drains {', '.join(names)}: "
        f"scontrol update nodename={','.join(names)} state=resume ends that"
    )


def _update(live: Live, names: Sequence[str], state: str, reason: str = "") -> None:
    more = f" reason={shlex.quote(reason)}" if reason else ""
    command = f"scontrol update nodename={shlex.quote(','.join(names))} state={state}{more}"
    live.run(live.cluster.controller.name, command, user="root", timeout=_SLURM_SECONDS)


def _lift(live: Live, names: Sequence[str], say: Callable[[str], None], *, quietly: bool = False) -> bool:
    """Let jobs start on the nodes ``names`` again, but for those that somebody has drained since; ``quietly``
    where an error that follows says that nothing was done. Whether no drain of ours is left there."""
    if names and (known := _ask(live)):
        names = [name for name in names if name in known and _is_ours(known[name])]
    if not names:
        return True
    try:
        # RESUME leaves the reason of a node whose jobs still run, and an empty one changes nothing (seen with
        # Slurm 24.11.5): this is what sinfo says of a node without one.
        _update(live, names, "resume", NO_REASON)
        if not quietly:
            say(f"jobs start on {', '.join(names)} again")
    except HpcstateError as error:
        say(f"Slurm did not lift the drain of {', '.join(names)} ({error.message.splitlines()[0]})")
        return False
    return True


def _down(live: Live, names: Sequence[str], say: Callable[[str], None]) -> bool:
    """DOWN, then without the drain: at no moment would such a node take a job. One that Slurm no longer has
    needs nothing, and one that somebody has drained since keeps that. Whether no drain of ours is left."""
    if names and (known := _ask(live)):
        names = [name for name in names if name in known and _is_ours(known[name])]
    if not names:
        return True
    try:
        _update(live, names, "down", REASON)
        _update(live, names, "undrain")
    except HpcstateError as error:
        why = error.message.splitlines()[0]
        say(f"Slurm did not take {', '.join(names)} as down ({why}): they stay drained")
        return False
    return True


def _end(live: Live, holding: Holding, say: Callable[[str], None]) -> None:
    ids = sorted({job for jobs in holding.jobs.values() for job in jobs})
    say(f"requeuing or ending jobs {', '.join(map(str, ids))}")
    script = "\n".join(f"scontrol requeue {job} 2>/dev/null || scancel {job} || :" for job in ids)
    live.run(live.cluster.controller.name, script, user="root", timeout=_SLURM_SECONDS, check=False)


def _wait(
    live: Live,
    nodes: Sequence[Node],
    say: Callable[[str], None],
    timeout_s: float,
    paused: Collection[str],
) -> Holding:
    """Wait until ``nodes`` hold no jobs; what they hold when the time is over."""
    begun = time.monotonic()
    told: float | None = None
    while (holding := jobs_on(live, nodes, paused)) and time.monotonic() - begun < timeout_s:
        now = time.monotonic()
        if told is None or now - told > _TELL:
            since = "" if told is None else f" ({now - begun:.0f} s)"
            told = now
            for line in waiting_lines(holding, _running(live)):
                say(f"{line}{since}")
        time.sleep(_POLL)
    return holding


def waiting_lines(holding: Holding, running: Sequence[RunningJob]) -> list[str]:
    """What is waited for, a line a node: each job with its user and the time that it may still take, where
    the ``running`` jobs of the cluster have it."""
    known = {job.number: job for job in running}

    def named(number: int) -> str:
        return str(known.get(number, number))

    lines = [f"{WAITING} {', '.join(map(named, jobs))} on {node}" for node, jobs in holding.jobs.items()]
    return lines + str(Holding(unknown=holding.unknown)).splitlines()


def _running(live: Live) -> Sequence[RunningJob]:
    """The running jobs of the cluster; none where slurmctld does not say."""
    command = running_jobs.command(APPLIED)
    try:
        said = live.run(live.cluster.controller.name, command, user="root", timeout=_SLURM_SECONDS)
        return running_jobs.parse(said.stdout)
    except HpcstateError:
        return ()
