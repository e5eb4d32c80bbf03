"""Nodes get new disks, made from the image as it is now: compute nodes a few at a time, then login nodes one
by one; the controller, where that is asked for, before them. One that does not pass gets its old disk back,
and ends it.

The controller goes first because slurmctld may not be older than any slurmd (Slurm's upgrade guide).

What is done stands where it cannot be lost: libvirt has both disks of a node until it has passed, and which
one is in use; Slurm has a reservation that keeps jobs off it. Whoever comes next, after a kill or from
another machine, goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpcstate import programs
from hpcstate.cluster import active, controller, disks, lifecycle
from hpcstate.cluster.leave import DRAIN_SECONDS, take_jobs_again
from hpcstate.cluster.roll import AWAY, back_after, slurm_nodes, wait_for_slurm
from hpcstate.errors import HpcstateError
from hpcstate.hypervisor.machine import MachineDifference
from hpcstate.model import Cluster, Node, RollSettings
from hpcstate.node.ssh import Live
from hpcstate.probe.slurm import SlurmNode
from hpcstate.slurm.change import REASON_PREFIX
from hpcstate.terminal import Say

_TRIAL = Path(__file__).with_name("trial.sh")
_TRY_SECONDS = 180.0
_SILENT_SECONDS = 30.0
"""How long a slurmctld may be silent that restarts: systemd starts one that died after 5 s."""

_POLL = 2.0
_RESERVATION = "hpcstate-roll-"
_UNHEALTHY = AWAY | {"FAIL", "INVALID_REG"}
_RESERVED = frozenset({"MAINTENANCE", "RESERVED"})


@dataclass(frozen=True)
class Due:
    """The nodes that are to get a new disk: those that have got one and have not ``passed`` yet come first,
    as they are ``unfinished``; then those that still ``wait``. ``theirs`` has those that somebody drained,
    with the reason: they are left alone. ``controller`` says that its image is another one, too, and that
    it keeps it because nobody asked for more. ``reserved`` has the other nodes that Slurm keeps for somebody,
    as a roll does that was killed before its first step on a node, or after the last one. ``silent`` says
    that slurmctld did not answer: whom it keeps from jobs is not known.
    """

    unfinished: tuple[str, ...]
    wait: tuple[str, ...]
    theirs: Mapping[str, str]
    controller: bool = False
    reserved: tuple[str, ...] = ()
    silent: bool = False

    def __bool__(self) -> bool:
        return bool(self.unfinished or self.wait)

    def left_lines(self, cluster: Cluster) -> list[str]:
        """Who keeps another image than that of now, and why."""
        lines = [f"{name} keeps its image: somebody drained it ({why})" for name, why in self.theirs.items()]
        if self.controller:
            name = cluster.controller.name
            why, stay = "users' homes may lie on its disk", "Slurm's state and the registry stay"
            if cluster.home != "local":
                why, stay = "nobody can submit while it is replaced", "what is on its data volume stays"
            lines.append(
                f"{name} keeps its image: {why} (`hpcstate roll start --controller` replaces it, too; {stay})"
            )
        return lines

    def lines(
        self, cluster: Cluster, file: str, at_work: str = "", reservations: Mapping[str, str] | None = None
    ) -> list[str]:
        """The state of the roll, as a person reads it. ``at_work`` is the command that changes the cluster
        now (turn.at_work), ``reservations`` those with a name of ours, with their nodes."""
        lines = [f"at work: {at_work}"] if at_work else []
        if self.unfinished:
            way = f" (`hpcstate roll resume {file}` goes on, `abort` goes back)" if not at_work else ""
            lines.append(f"{', '.join(self.unfinished)}: a new disk that has not passed yet{way}")
        if self.wait:
            way = f" (`hpcstate roll start {file}`)" if not at_work else ""
            lines.append(f"{', '.join(self.wait)}: another image{way}")
        lines += self.left_lines(cluster)
        if self.silent:
            lines.append("slurmctld does not answer: which nodes are drained or reserved is not known")
        ours = [reservation_of(name) for name in self.unfinished]
        for name, nodes in (reservations or {}).items():
            if not at_work and name not in ours:
                lines.append(_no_roll(cluster, file, name, nodes))
        # The node that a roll is at work on may not be told from the others yet; its reservation is there.
        if self or reservations or len(lines) > bool(at_work) + self.silent:
            return lines
        return [*lines, "every node has the image of now"]

    def to_dict(self) -> dict[str, Any]:
        """For --json."""
        return {**asdict(self), "theirs": dict(self.theirs)}


def reservation_of(node: str) -> str:
    """The name of the reservation that keeps jobs off ``node`` (trial.sh)."""
    return f"{_RESERVATION}{node}"


def _no_roll(cluster: Cluster, file: str, name: str, nodes: str) -> str:
    """A line about a reservation that belongs to no roll."""
    if name in (reservation_of(node.name) for node in cluster.workers):
        way = f"`hpcstate roll resume {file}` lifts it"
    else:
        way = (
            f"no roll makes one of that name; on {cluster.controller.name}: sudo scontrol delete "
            f"reservationname={name}"
        )
    return f"{nodes or 'no node'}: reservation {name} keeps jobs off, and no roll is at work ({way})"


def parse_reservations(text: str) -> dict[str, str]:
    """The reservations with a name of ours, with their nodes, of ``scontrol --oneliner show reservation``."""
    found = {}
    for line in text.splitlines():
        fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
        name, nodes = fields.get("ReservationName", ""), fields.get("Nodes", "")
        if name.startswith(_RESERVATION):
            found[name] = "" if nodes == "(null)" else nodes
    return found


def reservations(cluster: Cluster) -> dict[str, str]:
    """The reservations with a name of ours that slurmctld has now; none where it does not answer."""
    command = "timeout 20 scontrol --oneliner show reservation"
    try:
        with Live(cluster) as live:
            said = live.run(cluster.controller.name, command, user="root", timeout=60, check=False)
    except HpcstateError:
        return {}
    return parse_reservations(said.stdout)


def due(
    cluster: Cluster,
    differences: Sequence[MachineDifference],
    unfinished: Sequence[str],
    slurm: Mapping[str, SlurmNode],
    *,
    controller_too: bool = False,
    only: Sequence[str] = (),
) -> Due:
    """What is to be replaced, the controller with ``controller_too``; with ``only`` these nodes, whatever
    their image is. Pure; nodes that are not well go first: it costs nothing to take them away."""
    differ = {each.what for each in differences if each.impact == "replace"}
    other = set(only) or differ
    rest = (*cluster.workers, *_logins(cluster))
    names = [node.name for node in rest if node.name in other and node.name not in unfinished]
    theirs = _drained(names, slurm)
    waiting = [name for name in names if name not in theirs]
    ill = unhealthy(slurm)
    doors = [node.name for node in _logins(cluster)]
    waiting.sort(key=lambda name: (name in doors, name not in ill))
    reserved = tuple(
        name for name, node in slurm.items() if _RESERVED & set(node["states"]) and name not in unfinished
    )
    head = cluster.controller.name
    keeps = head in other | differ and head not in unfinished
    if keeps and (controller_too or head in only):
        return Due(tuple(unfinished), (head, *waiting), theirs, reserved=reserved, silent=not slurm)
    return Due(tuple(unfinished), tuple(waiting), theirs, keeps, reserved, not slurm)


def _drained(names: Sequence[str], slurm: Mapping[str, SlurmNode]) -> dict[str, str]:
    """Those of ``names`` that somebody drained, with the reason; not one that is not well anyway."""
    return {
        name: slurm[name]["reason"] or "no reason given"
        for name in names
        if name in slurm
        and "DRAIN" in slurm[name]["states"]
        and not slurm[name]["reason"].startswith(REASON_PREFIX)
        and not _UNHEALTHY & set(slurm[name]["states"])
    }


def _logins(cluster: Cluster) -> tuple[Node, ...]:
    """The nodes of the role login, of which Slurm knows nothing."""
    return tuple(node for node in cluster.nodes if node.role == "login")


def unhealthy(slurm: Mapping[str, SlurmNode]) -> dict[str, str]:
    """The nodes that are of no use to Slurm now, with their states in words."""
    return {
        name: "+".join(node["states"]) + (f" ({node['reason']})" if node["reason"] else "")
        for name, node in slurm.items()
        if _UNHEALTHY & set(node["states"])
    }


def next_batch(
    waiting: Sequence[str], total: int, settings: RollSettings, ill: Mapping[str, str], *, first: bool
) -> tuple[str, ...]:
    """The nodes of ``waiting`` that go next, of ``total`` compute nodes: the canaries when it is the
    ``first`` time. Raises HpcstateError when nodes that are ``ill``, and not among them, leave room for none.
    """
    limit = settings.unavailable.of(total)
    size = min(settings.canary if first and settings.canary else settings.batch.of(total), limit)
    batch = tuple(waiting[:size])
    while batch and len(batch) + len(ill.keys() - set(batch)) > limit:
        batch = batch[:-1]
    if not batch:
        away = "; ".join(f"{name} is {state}" for name, state in ill.items())
        raise HpcstateError(
            f"{away}: another one away is more than roll.unavailable ({settings.unavailable}) allows",
            where=".clusters.hpc.roll.unavailable",
            hint="bring these nodes back first, or allow more",
        )
    return batch


def look(cluster: Cluster, *, controller_too: bool = False, only: Sequence[str] = ()) -> Due:
    """What is to be replaced of ``cluster``, as libvirt and Slurm have it now. Raises HpcstateError when one
    of ``only`` is no node."""
    lifecycle.select(cluster, only)
    return due(
        cluster,
        lifecycle.different(cluster),
        disks.unfinished(cluster),
        slurm_nodes(cluster),
        controller_too=controller_too,
        only=only,
    )


def release_left(cluster: Cluster, work: Due, but: Sequence[str] = ()) -> None:
    """Jobs start again on the nodes that a killed roll has left reserved, and changed nothing of, or all;
    those in ``but`` are reserved again at once."""
    if names := [name for name in work.reserved if name not in but]:
        _trial(cluster, "release", names)


def replace(
    cluster: Cluster,
    file: Path,
    work: Due,
    deploy: Callable[[], Sequence[str]],
    say: Say,
    *,
    timeout_s: float = DRAIN_SECONDS,
) -> list[str]:
    """Give the nodes of ``work`` new disks, batch by batch; ``deploy`` brings all into their state and
    returns the names of those where that failed. Returns the names of the nodes that passed.

    Raises HpcstateError at the first batch that does not pass, when its nodes have their old disks back;
    the others were not touched.
    """
    for line in work.left_lines(cluster):
        say(line)
    done: list[str] = []
    head = cluster.controller.name
    unfinished = [name for name in work.unfinished if name != head]
    doors = [node.name for node in _logins(cluster)]
    waiting = [name for name in work.wait if name not in (head, *doors)]
    release_left(cluster, work, () if work.unfinished or head in work.wait else waiting[:1])
    if work.unfinished:
        say(f"{', '.join(work.unfinished)}: going on with the disks that an earlier run made")
    if head in (*work.unfinished, *work.wait):
        known = slurm_nodes(cluster)
        well = [name for name in known if name not in unhealthy(known)]
        fresh = head not in work.unfinished
        controller.replace(cluster, file, deploy, say, well=well, fresh=fresh)
        done.append(head)
    if unfinished:
        _batch(cluster, file, unfinished, waiting, deploy, say, timeout_s)
        done += unfinished
    total = len(cluster.workers)
    while waiting:
        known = slurm_nodes(cluster)
        theirs = _drained(waiting, known)
        for name, why in theirs.items():
            say(f"{name} keeps its image: somebody drained it meanwhile ({why})")
        waiting = [name for name in waiting if name not in theirs]
        if not waiting:
            break
        ill = unhealthy(known)
        passed = [name for name in done if name not in (head, *doors)]
        try:
            batch = next_batch(waiting, total, cluster.roll, ill, first=not passed)
        except HpcstateError:
            release_left(cluster, work)
            raise
        waiting = waiting[len(batch) :]
        begun = time.monotonic()
        reached = len(passed) + len(batch)
        say(f"{', '.join(batch)}: new disks from the image of now, {reached} of {reached + len(waiting)}")
        _batch(cluster, file, batch, waiting, deploy, say, timeout_s)
        done += batch
        say(f"{', '.join(batch)} passed after {time.monotonic() - begun:.0f} s")
    for name in (name for name in work.wait if name in doors):
        say(f"{name}: a new disk from the image of now; who is logged in there is not waited for")
        _batch(cluster, file, [name], (), deploy, say, timeout_s)
        done.append(name)
    if done:
        disks.drop_unused_images(cluster, say)
    return done


def abort(cluster: Cluster, file: Path, say: Say) -> list[str]:
    """Nodes with a new disk that has not passed get their old ones back; the reservations of a roll go. A
    node that one was killed at before it had its new disk is on again. Returns the names of the former.
    """
    unfinished = disks.unfinished(cluster)
    known = reservations(cluster)
    names = [node.name for node in cluster.workers if reservation_of(node.name) in known]
    begun = [name for name in names if name not in unfinished]
    if cluster.controller.name in unfinished:
        controller.way_back(cluster, file, say)
    if others := [name for name in unfinished if name != cluster.controller.name]:
        _way_back(cluster, file, others, say)
    _trial(cluster, "release", [node.name for node in cluster.workers])
    if begun:
        say(f"{', '.join(begun)}: a roll had begun, and there is no new disk yet; its reservation is gone")
        lifecycle.start(cluster, file, say, begun)
        take_jobs_again(cluster, begun, say)
    return list(unfinished)


def _batch(
    cluster: Cluster,
    file: Path,
    names: Sequence[str],
    following: Sequence[str],
    deploy: Callable[[], Sequence[str]],
    say: Say,
    timeout_s: float,
) -> None:
    _trial(cluster, "reserve", names)
    fresh = [name for name in names if name not in disks.unfinished(cluster)]
    if fresh:
        try:
            lifecycle.stop(cluster, file, say, fresh, jobs="drain", timeout_s=timeout_s)
        except HpcstateError:
            _trial(cluster, "release", fresh)
            raise
    try:
        disks.new_disks(cluster, file, say, fresh)
        lifecycle.start(cluster, file, say, names)
        if failed := sorted(set(deploy()) & set(names)):
            raise HpcstateError(f"the deploy failed on {', '.join(failed)}", where=cluster.name)
        for name in names:
            wait_for_slurm(cluster, name, ())
            active.gate(cluster, name, say)
            _try(cluster, cluster_node(cluster, name))
    except HpcstateError as error:
        say(f"{', '.join(names)} did not pass: {error.message.splitlines()[0]}")
        left = f"; {', '.join(following)} were not touched" if following else ""
        who = ", ".join(names)
        raise back_after(
            error, who, lambda: _way_back(cluster, file, names, say), left, cluster, file
        ) from error
    except KeyboardInterrupt:
        say(f"interrupted at {', '.join(names)}: `hpcstate roll resume {file}` goes on, `abort` goes back")
        raise
    disks.confirm_disks(cluster, say, names)
    _trial(cluster, "release", names)


def cluster_node(cluster: Cluster, name: str) -> Node:
    """The node called ``name``."""
    return next(node for node in cluster.nodes if node.name == name)


def _way_back(cluster: Cluster, file: Path, names: Sequence[str], say: Say) -> None:
    """The old disks of ``names``, and jobs there again. Says which node does not come back even so."""
    lifecycle.stop(cluster, file, say, names, jobs="force")
    disks.old_disks(cluster, say, names)
    lifecycle.start(cluster, file, say, names)
    for name in names:
        try:
            wait_for_slurm(cluster, name, ())
        except HpcstateError as error:
            say(f"{error.message}: nobody's jobs start there (reservation {reservation_of(name)})")
        else:
            _trial(cluster, "release", [name])


def _try(cluster: Cluster, node: Node) -> None:
    """A job on ``node`` before anybody else's; on a login node Slurm is asked from there. Raises
    HpcstateError with what it said when it fails."""
    if cluster.kind != "hpc":
        return
    at, what = cluster.controller.name, "a job on"
    command = programs.command(_TRIAL, arguments=("try", node.name, len(node.gres_types)))
    if node.role == "login":
        at, what, command = node.name, "asking Slurm on", "timeout 60 sinfo --noheader"
    with Live(cluster) as live:
        answer = live.run(at, command, user="root", timeout=_TRY_SECONDS, check=False)
    if answer.code:
        raise HpcstateError(
            f"{what} {node.name} failed: {(answer.stderr or answer.stdout).strip() or answer.code}",
            where=node.name,
        )


def _trial(cluster: Cluster, action: str, names: Sequence[str]) -> None:
    """``reserve`` or ``release`` each of ``names``; nothing where Slurm does not know them. Raises
    HpcstateError for ``reserve`` when slurmctld stays silent: nobody would keep jobs off a disk that has not
    passed.
    """
    if cluster.kind != "hpc":
        return
    limit = time.monotonic() + _SILENT_SECONDS
    while not (known := slurm_nodes(cluster)) and action == "reserve":
        if time.monotonic() > limit:
            raise HpcstateError(
                f"slurmctld does not answer: no reservation would keep jobs off {', '.join(names)}; "
                "nothing was touched",
                where=cluster.name,
                hint=f"on {cluster.controller.name}: systemctl status slurmctld; one that was never deployed "
                "comes with `./hpc up`",
            )
        time.sleep(_POLL)
    with Live(cluster) as live:
        for name in names:
            if name in known:
                command = programs.command(_TRIAL, arguments=(action, name))
                live.run(cluster.controller.name, command, user="root", timeout=60)
