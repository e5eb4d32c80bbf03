"""What a cluster says of itself, and whether an archive may be put back on it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from hpcstate.cluster.backup_archive import BackupManifest
from hpcstate.terminal import plural

RELEASES_BACK = 3
"""How many releases older the state and the tables of a Slurm may be that a newer one reads
(slurm.schedmd.com/upgrades.html, Compatibility Window: "the previous three major releases")."""

RELEASES = ("22.05", "23.02", "23.11", "24.05", "24.11", "25.05", "25.11", "26.05", "26.11")
"""Slurm's releases, for counting them: since 24.05 one comes every six months."""

_GOES_ON = frozenset({"RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "STOPPED"})


@dataclass(frozen=True)
class SlurmRecord:
    """What `backup.sh look` saw: versions (empty where the program did not answer), the number of the next
    job (0: slurmctld is silent), ``jobs`` states to numbers, jobs and associations in the database, those
    ``since`` the time that was asked for, when the cluster was made known to slurmdbd (seconds since 1970, 0:
    never), and bytes of slurmctld's state and of what is free beside it."""

    slurm: str = ""
    mariadb: str = ""
    next: int = 0
    jobs: Mapping[str, int] = field(default_factory=dict)
    recorded: int = 0
    since: int = 0
    created: int = 0
    associations: int = 0
    state: int = 0
    room: int = 0

    @property
    def running(self) -> int:
        """How many jobs are on nodes."""
        return sum(number for state, number in self.jobs.items() if state in _GOES_ON)


def parse(text: str) -> SlurmRecord:
    """What `backup.sh look` printed; lines that are none of its own are left out."""
    found: dict[str, str | int] = {}
    jobs: dict[str, int] = {}
    numbers = ("next", "recorded", "since", "created", "associations", "state", "room")
    for line in text.splitlines():
        match line.split():
            case ["slurm" | "mariadb" as key, version] if re.fullmatch(r"\d+(\.\d+)*", version, re.ASCII):
                found[key] = version
            case [key, number] if key in numbers and number.isascii() and number.isdecimal():
                found[key] = int(number)
            case ["jobs", number, state] if number.isascii() and number.isdecimal():
                jobs[state] = int(number)
    return SlurmRecord(jobs=jobs, **found)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Restorable:
    """Whether an archive may be put back: ``refused`` are reasons that nothing lifts, ``only_forced`` those
    that ``--force`` does, ``lost`` is what goes, for the question."""

    refused: tuple[str, ...] = ()
    only_forced: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


def verdict(manifest: BackupManifest, cluster: str, accounting: bool, now: SlurmRecord) -> Restorable:
    """Whether ``manifest`` may be put back on the cluster called ``cluster``, which is as ``now`` says.
    ``accounting``: it has a database of its own.

    Slurm and MariaDB are never given what a newer one wrote. Jobs that were recorded after the backup are in
    the way, unless slurmdbd learned of the cluster after it, too: then all here is of a new cluster.
    """
    refused = []
    if manifest.cluster != cluster:
        refused.append(f"it is a backup of the cluster {manifest.cluster!r}, and this is {cluster!r}")
    refused += _versions(manifest, accounting, now)
    forced: list[str] = []
    lost: list[str] = []
    if now.running:
        forced.append(
            f"{plural(now.running, 'job')} on the nodes now: Slurm would not know them, and end them"
        )
    if not now.slurm:
        refused.append("slurmctld is not installed on the controller")
    fresh = now.created > manifest.taken_s
    if accounting and now.since:
        what = f"{plural(now.since, 'job')} recorded here since the backup was taken"
        (lost if fresh else forced).append(what)
    if not fresh and now.next > manifest.next_job > 0:
        forced.append(
            f"the next job here is {now.next}, that of the backup {manifest.next_job}: those between would go"
        )
    waiting = sum(now.jobs.values()) - now.running
    if waiting:
        lost.append(f"{plural(waiting, 'job')} of the queue as it is now")
    return Restorable(tuple(refused), tuple(forced), tuple(lost))


def _versions(manifest: BackupManifest, accounting: bool, now: SlurmRecord) -> list[str]:
    found = []
    if now.slurm and manifest.slurm and newer(_line(manifest.slurm), _line(now.slurm)):
        found.append(f"it is of Slurm {manifest.slurm}, and the controller has {now.slurm}, which is older")
    elif now.slurm and (back := releases_between(manifest.slurm, now.slurm)) > RELEASES_BACK:
        found.append(
            f"it is of Slurm {manifest.slurm}, {back} releases before the controller's {now.slurm}, which "
            f"reads what the {RELEASES_BACK} before it wrote"
        )
    has_database = manifest.part("database.sql.zst") is not None
    if has_database and not accounting:
        found.append("it has a database, and the cluster file has `accounting: {enabled: false}`")
    if has_database and accounting and not now.mariadb:
        found.append("MariaDB does not answer on the controller")
    if has_database and now.mariadb and newer(_line(manifest.mariadb), _line(now.mariadb)):
        found.append(
            f"it is of MariaDB {manifest.mariadb}, and the controller has {now.mariadb}, which is older"
        )
    return found


def newer(version: str, than: str) -> bool:
    """Whether ``version`` comes after ``than``; both are numbers with dots."""
    return _numbers(version) > _numbers(than)


def releases_between(old: str, new: str) -> int:
    """How many releases of Slurm ``new`` is after ``old``; 0 where one of them is not known here."""
    names = [_line(version) for version in (old, new)]
    if any(name not in RELEASES for name in names):
        return 0
    return RELEASES.index(names[1]) - RELEASES.index(names[0])


def _line(version: str) -> str:
    """The release without what mends it: 24.11 of 24.11.5."""
    return ".".join(version.split(".")[:2])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))
