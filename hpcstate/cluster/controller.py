"""The controller gets a new disk, made from its image as it is now, while jobs run on the compute nodes.

What it must not lose lies on its data volume, which both disks have. slurmd and the steps of jobs go on
without slurmctld, and tell it what has ended when it is there again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from hpcstate import programs
from hpcstate.cluster import disks, lifecycle
from hpcstate.cluster.roll import BACK_SECONDS, back_after, wait_for_slurm
from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster
from hpcstate.node.data_volume import DEVICE, STATE_BIND, TOP, binds
from hpcstate.node.ssh import Live
from hpcstate.probe import data_volume
from hpcstate.terminal import Say, plural

_PROGRAM = Path(__file__).with_name("controller.sh")
_STATE = f"{TOP}/{STATE_BIND.name}"
_POLL = 2.0
_HURT = frozenset({"NODE_FAIL", "BOOT_FAIL", "PENDING", "REQUEUED"})


@dataclass(frozen=True)
class Queue:
    """slurmctld's jobs, number to state, and the number of the next one."""

    next: int
    jobs: Mapping[str, str] = field(default_factory=dict)


def parse(text: str) -> Queue | None:
    """What `controller.sh look` printed; None when slurmctld did not answer."""
    found: int | None = None
    jobs: dict[str, str] = {}
    for line in text.splitlines():
        match line.split():
            case ["next", number] if number.isdecimal():
                found = int(number)
            case ["job", number, state]:
                jobs[number] = state
    return None if found is None else Queue(found, jobs)


def hurt(before: Queue, now: Queue) -> str:
    """What is worse with the jobs ``now``, in words; empty when nothing is. A job that ran and is gone has
    ended, and slurmctld forgets those after some minutes (MinJobAge)."""
    if now.next < before.next:
        return (
            f"slurmctld would give the next job the number {now.next}, and gave {before.next - 1} already: "
            "this is not the state that it had"
        )
    ran = [number for number, state in before.jobs.items() if state == "RUNNING"]
    lost = [f"{number} ({now.jobs[number]})" for number in ran if now.jobs.get(number) in _HURT]
    return f"jobs that ran do so no more: {', '.join(lost)}" if lost else ""


def require_moved(cluster: Cluster) -> None:
    """Raises HpcstateError unless all that the controller must not lose lies on its data volume."""
    wanted = binds(cluster)
    command = data_volume.command((TOP, *(bind.place for bind in wanted)), DEVICE)
    with Live(cluster) as live:
        found = data_volume.parse(live.run(cluster.controller.name, command, user="root").stdout)
    lacking = [
        bind.place
        for bind in wanted
        if not found["device"] or found["mounts"].get(bind.place) != f"{found['device']}[/{bind.name}]"
    ]
    if lacking:
        raise HpcstateError(
            f"{', '.join(lacking)} of {cluster.controller.name} do not lie on its data volume: a new disk "
            "would be without them; nothing was touched",
            where=cluster.name,
            hint="`./hpc up FILE` moves them there (docs/lifecycle.md)",
        )


def replace(
    cluster: Cluster,
    file: Path,
    deploy: Callable[[], Sequence[str]],
    say: Say,
    *,
    well: Sequence[str] = (),
    fresh: bool = True,
) -> None:
    """Give the controller a new disk, or go on with the one that an earlier run made (not ``fresh``).
    ``deploy`` is that of a roll; ``well`` are the compute nodes that slurmctld has to hear of again.

    Raises HpcstateError when it does not pass; the controller has its old disk back then.
    """
    name = cluster.controller.name
    before = _look(cluster) if fresh else None
    if fresh:
        if before is None:
            raise HpcstateError(
                "slurmctld does not answer: which jobs there are is not known; nothing was touched",
                where=cluster.name,
                hint=f"journalctl --unit slurmctld on {name} says why",
            )
        require_moved(cluster)
        running = sum(state == "RUNNING" for state in before.jobs.values())
        jobs = f"{plural(running, 'job')} {'goes' if running == 1 else 'go'} on without it"
        say(f"{name}: a new disk from the image of now; slurmctld stops, {jobs}")
        _run(cluster, "leave", timeout=300)
        try:
            lifecycle.stop(cluster, file, say, [name])
        except BaseException:
            with suppress(HpcstateError):
                _run(cluster, "stay", timeout=120)
            raise
    begun = time.monotonic()
    try:
        disks.new_disks(cluster, file, say, [name] if fresh else [])
        lifecycle.start(cluster, file, say, [name])
        if name in deploy():
            raise HpcstateError(f"the deploy failed on {name}", where=cluster.name)
        now = _wait(cluster)
        for node in well:
            wait_for_slurm(cluster, node, ())
        if before is not None and (worse := hurt(before, _look(cluster) or now)):
            raise HpcstateError(worse, where=cluster.name)
    except HpcstateError as error:
        say(f"{name} did not pass: {error.message.splitlines()[0]}")
        left = "; no other node was touched"
        raise back_after(error, name, lambda: way_back(cluster, file, say), left, cluster, file) from error
    except KeyboardInterrupt:
        say(f"interrupted at {name}: `hpcstate roll resume {file}` goes on, `abort` goes back")
        raise
    disks.confirm_disks(cluster, say, [name])
    say(f"{name} passed after {time.monotonic() - begun:.0f} s")


def way_back(cluster: Cluster, file: Path, say: Say) -> None:
    """The controller's old disk again. Raises HpcstateError when slurmctld does not answer on it, either."""
    name = cluster.controller.name
    lifecycle.stop(cluster, file, say, [name])
    disks.old_disks(cluster, say, [name])
    lifecycle.start(cluster, file, say, [name])
    try:
        _wait(cluster)
    except HpcstateError as error:
        raise HpcstateError(
            f"{name} has its old disk back, and slurmctld does not answer there",
            where=cluster.name,
            hint="journalctl --unit slurmctld says why. If it cannot read what a newer one wrote, "
            f"{_STATE}.before has that of before (slurmctld stopped, `cp -aT` it to {STATE_BIND.place})",
        ) from error


def _wait(cluster: Cluster) -> Queue:
    limit = time.monotonic() + BACK_SECONDS
    while (found := _look(cluster)) is None:
        if time.monotonic() > limit:
            raise HpcstateError(
                f"slurmctld does not answer {BACK_SECONDS:.0f} s after the deploy", where=cluster.name
            )
        time.sleep(_POLL)
    return found


def _look(cluster: Cluster) -> Queue | None:
    try:
        return parse(_run(cluster, "look", timeout=60))
    except HpcstateError:
        return None


def _run(cluster: Cluster, action: str, *, timeout: float) -> str:
    command = programs.command(_PROGRAM, arguments=[action], state=_STATE)
    with Live(cluster) as live:
        return live.run(cluster.controller.name, command, user="root", timeout=timeout).stdout
