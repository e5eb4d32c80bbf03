"""What jobs leave on a node: processes, control groups, mounts, folders and shared memory.

A job is known to run here by its slurmstepd. A process is of a job by its control group
(``…/slurmstepd.scope/job_12/…``), whoever started it; one of a login is systemd's. Slurm is not asked.
Standard library only: it runs on nodes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PEOPLE = range(1000, 60_000)
"""The numbers of people's accounts: below are the system's (login.defs(5)), above systemd's own."""

_STEPD = re.compile(rb"slurmstepd: \[(\d+)\.")
_JOB = re.compile(r"slurmstepd\.scope/job_(\d+)(?:/|$)")
_SESSION = re.compile(r"/user\.slice/|/system\.slice/ssh")
_MOST = 20
"""Lines of one kind: a fork bomb is told by less."""


@dataclass(frozen=True)
class Process:
    """A process of a person's. ``job`` is the number of its job by control group, 0 without; ``session``:
    it belongs to a login; ``gpus`` are the device files of GPUs that it has open."""

    pid: int
    name: str
    uid: int
    job: int
    session: bool
    gpus: tuple[str, ...]


def running_jobs(proc: Path = Path("/proc")) -> set[int]:
    """The jobs that have a slurmstepd here."""
    found = set()
    for folder in _pids(proc):
        try:
            match = _STEPD.match((folder / "cmdline").read_bytes())
        except OSError:
            continue  # it has ended
        if match:
            found.add(int(match[1]))
    return found


def of_people(proc: Path = Path("/proc")) -> Iterator[Process]:
    """The processes of people."""
    for folder in _pids(proc):
        try:
            uid = folder.stat().st_uid
            if uid not in PEOPLE:
                continue
            group = (folder / "cgroup").read_text(errors="replace")
            name = (folder / "comm").read_text(errors="replace").strip()
        except OSError:
            continue
        job = _JOB.search(group.strip())
        yield Process(
            int(folder.name),
            name,
            uid,
            int(job[1]) if job else 0,
            bool(_SESSION.search(group)),
            tuple(sorted(_gpus(folder))),
        )


def _gpus(folder: Path) -> set[str]:
    found = set()
    try:
        for entry in os.scandir(folder / "fd"):
            target = str(Path(entry.path).readlink())
            if re.fullmatch(r"/dev/nvidia\d+", target):
                found.add(target)
    except OSError:
        pass
    return found


def _pids(proc: Path) -> Iterator[Path]:
    return (folder for folder in proc.iterdir() if folder.name.isdecimal())


def strays(processes: Collection[Process], jobs: Collection[int], uid: int | None = None) -> list[str]:
    """The processes that no running job of ``jobs``, and no login, accounts for; of ``uid`` alone where that
    is given."""
    lines = []
    for each in sorted(processes, key=lambda each: each.pid):
        if (uid is not None and each.uid != uid) or each.job in jobs or (each.session and not each.job):
            continue
        where = f" in the control group of job {each.job}, which has ended" if each.job else ""
        gpus = f", has {' '.join(each.gpus)} open" if each.gpus else ""
        lines.append(f"process {each.pid} {each.name} of user {each.uid}{where}{gpus}")
    return lines


def remains(
    words: Mapping[str, Any],
    *,
    jobs: Collection[int],
    ended: int = 0,
    uid: int | None = None,
    root: Path = Path("/"),
) -> list[str]:
    """What is left of jobs that have ended, a line each: ``process …``, ``cgroup …``, ``mount …``,
    ``scratch …``, ``shm …``.

    ``jobs`` run here. ``ended`` is the job of an epilog, and ``uid`` its user: then only what is theirs; what
    Slurm removes behind the epilog (the job's own /tmp) is not told.
    """
    people = list(of_people(root / "proc"))
    lines = strays(people, jobs, uid)[:_MOST]
    dead = {ended} if ended else None
    lines += [f"cgroup {path}" for path in _dead_groups(root, jobs, dead)][:_MOST]
    if not ended:
        tmp = root / str(words["job_tmp"]).lstrip("/")
        points = (root / "proc/self/mountinfo").read_text(errors="replace").split()
        of_jobs = list(_numbered(tmp, jobs))
        lines += [f"mount {path}" for path in of_jobs if any(f"{path}/" in point for point in points)][:_MOST]
        lines += [f"scratch {path}" for path in of_jobs][:_MOST]
    busy = {each.uid for each in people if each.job in jobs or each.session}
    lines += [f"shm {line}" for line in _shared(root / "dev/shm", busy, uid)][:_MOST]
    return lines


def _dead_groups(root: Path, jobs: Collection[int], dead: Collection[int] | None) -> Iterator[str]:
    for folder in sorted((root / "sys/fs/cgroup/system.slice").glob("*slurmstepd.scope/job_*")):
        number = folder.name.removeprefix("job_")
        if number.isdecimal() and int(number) not in jobs and (dead is None or int(number) in dead):
            yield f"{folder.parent.name}/{folder.name}"


def _numbered(folder: Path, jobs: Collection[int]) -> Iterator[str]:
    try:
        names = sorted(path.name for path in folder.iterdir() if path.name.isdecimal())
    except OSError:
        return
    yield from (str(folder / name) for name in names if int(name) not in jobs)


def _shared(folder: Path, busy: Collection[int], uid: int | None) -> Iterator[str]:
    """The files of people who have nothing running here."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        try:
            seen = entry.stat(follow_symlinks=False)
        except OSError:
            continue
        if seen.st_uid in PEOPLE and seen.st_uid not in busy and uid in (None, seen.st_uid):
            yield f"{entry.path} of user {seen.st_uid}, {seen.st_size // 1024} KiB"
