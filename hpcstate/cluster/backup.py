"""A backup of a Slurm cluster in one file on this machine: what its nodes cannot be made from again.

slurmctld stands still while its state is copied, for a few seconds; jobs go on. Its files are each replaced
by a new one, but not all of them in one step (Slurm 24.11, src/common/state_save.c: for a moment the name is
even gone), and the messages that slurmdbd has not taken yet are written when it ends
(src/plugins/accounting_storage/slurmdbd/slurmdbd_agent.c). A copy of a running one would lack them.
"""

from __future__ import annotations

import io
import re
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from hpcstate import paths, programs
from hpcstate.cluster.backup_archive import FORMAT, BackupManifest, Lock, Writer, new_archive
from hpcstate.cluster.backup_decide import SlurmRecord, parse
from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster
from hpcstate.monitoring import known_metrics, places
from hpcstate.node.data_volume import HOME, TOP
from hpcstate.node.ssh import Live
from hpcstate.paths import ClusterPaths, shown
from hpcstate.registry.layout import CATALOG
from hpcstate.registry.layout import ROOT as REGISTRY
from hpcstate.run import run
from hpcstate.slurm.accounting import DATABASE
from hpcstate.slurm.conf import STATE
from hpcstate.terminal import Say

_PROGRAM = Path(__file__).with_name("backup.sh")
HOURS = 12 * 3600.0
"""How long one part may travel, in seconds. A connection that is gone ends it earlier."""

KEYS, STATE_PART, DATABASE_PART = "keys.tar", "state.tar.zst", "database.sql.zst"
CATALOG_PART, FILE_PART = "catalog.yaml", "cluster.yaml"
HOMES_PART, CONTAINERS_PART = "homes.tar.zst", "containers.tar.zst"
TREES = {HOMES_PART: HOME, CONTAINERS_PART: REGISTRY}
"""Parts that are folders of the controller, which are taken and put back on wish only."""

_TOLD = 15.0
"""Seconds between two lines about a part that goes on."""


@dataclass(frozen=True)
class Wish:
    """What is taken beside the rest, and how the archive is encrypted."""

    homes: bool = False
    containers: bool = False
    lock: Lock = field(default_factory=Lock)


def spool(cluster: Cluster, name: str) -> str:
    """The folder ``name`` for copies on the controller: on its data volume, where it has one."""
    return f"{TOP}/backup/{name}" if cluster.controller.data_gb else f"/var/lib/hpcstate/backup/{name}"


def has_database(cluster: Cluster) -> bool:
    """Whether the cluster records its jobs in a database of its own."""
    return cluster.accounting.on


def ask(cluster: Cluster, action: str, *words: str, since: int = 0) -> str:
    """The text of the program backup.sh for the controller of ``cluster``."""
    return programs.command(
        _PROGRAM,
        arguments=[action, *words],
        state=STATE,
        spool=spool(cluster, "take"),
        database=DATABASE if has_database(cluster) else "",
        cluster=cluster.name,
        catalog=CATALOG,
        since=since,
    )


def look(cluster: Cluster, live: Live, since: int = 0) -> SlurmRecord:
    """What the controller says now. Raises HpcstateError where it does not answer."""
    script = ask(cluster, "look", since=since)
    return parse(live.run(cluster.controller.name, script, user="root", timeout=300).stdout)


def demand_homes(cluster: Cluster) -> None:
    """Raises HpcstateError where homes do not lie on the controller's data volume."""
    if cluster.home != "nfs":
        raise HpcstateError(
            f"the homes are not on the controller's data volume (storage.home: {cluster.home})",
            where=cluster.name,
            hint="without --homes; back them up where they are (docs/storage.md)",
        )


def take(cluster: Cluster, file: Path, target: Path, wish: Wish, say: Say) -> BackupManifest:
    """Write the archive ``target``; ``file`` is the cluster's. Returns what is in it.

    Raises HpcstateError when something of it cannot be had; no archive is left then, and slurmctld goes on.
    """
    if wish.homes:
        demand_homes(cluster)
    name = cluster.controller.name
    with Live(cluster) as live:
        seen = look(cluster, live)
        _demand(cluster, seen)
        try:
            said = live.run(name, ask(cluster, "take"), user="root", timeout=HOURS).stdout
            taken_s = _number(said, "taken")
            say(f"{name}: slurmctld stood still for {_number(said, 'stopped')} s; jobs went on")
            with new_archive(target, wish.lock) as archive:
                _Filling(cluster, file, live, archive, say).fill(wish)
                manifest = BackupManifest(
                    format=FORMAT,
                    cluster=cluster.name,
                    owner=_text(ClusterPaths.of(cluster.name).owner),
                    hpcstate=commit(),
                    taken=datetime.fromtimestamp(taken_s, UTC).isoformat(),
                    taken_s=taken_s,
                    slurm=seen.slurm,
                    mariadb=seen.mariadb,
                    next_job=seen.next,
                    recorded=seen.recorded,
                    associations=seen.associations,
                    jobs=seen.jobs,
                    parts=tuple(archive.parts),
                )
                archive.finish(manifest)
            tell(cluster, live, taken_s)
        finally:
            with suppress(HpcstateError):
                live.run(name, ask(cluster, "clear"), user="root")
    return manifest


def tell(cluster: Cluster, live: Live, taken_s: int) -> None:
    """What watches the cluster, if anything does, gets to know of a backup that was taken at ``taken_s``. It
    is a backup all the same where that cannot be told."""
    if places.watchers(cluster, cluster.controller):
        with suppress(HpcstateError):
            text = known_metrics.backup_metrics(taken_s)
            live.put(cluster.controller.name, places.BACKUP, text, mode=0o644)


def _demand(cluster: Cluster, seen: SlurmRecord) -> None:
    """Raises HpcstateError where a backup would lack what the cluster has."""
    if not seen.slurm:
        raise HpcstateError(
            "slurmctld is not installed", where=cluster.controller.name, hint="`./hpc up FILE`"
        )
    if has_database(cluster) and not seen.mariadb:
        raise HpcstateError(
            "MariaDB does not answer: the record of the jobs would be missing",
            where=cluster.controller.name,
            hint="`hpcstate check FILE --suite accounting` tells what is down",
        )


class _Filling:
    """The parts of one archive, each told with its size and time."""

    def __init__(self, cluster: Cluster, file: Path, live: Live, archive: Writer, say: Say) -> None:
        self._cluster, self._file, self._live = cluster, file, live
        self._archive, self._say = archive, say

    def fill(self, wish: Wish) -> None:
        self._add(KEYS, "keys of the cluster, and that which signs containers", [_keys(self._cluster)])
        self._add(FILE_PART, "the cluster file", [self._file.read_bytes()])
        self._from_node(STATE_PART, "slurmctld's state: the queue, nodes, reservations", "show", "state")
        if has_database(self._cluster):
            self._from_node(DATABASE_PART, "the record of jobs, accounts and limits", "show", "database")
        self._from_node(CATALOG_PART, "which containers are deployed", "show", "catalog")
        if wish.homes:
            self._from_node(HOMES_PART, "people's homes", "tree", HOME)
        if wish.containers:
            self._from_node(CONTAINERS_PART, "the containers themselves", "tree", REGISTRY)

    def _from_node(self, part: str, what: str, *words: str) -> None:
        script = ask(self._cluster, *words)
        with self._live.receive(self._cluster.controller.name, script, timeout=HOURS) as stream:
            self._add(part, what, iter(lambda: stream.read(1 << 20), b""))

    def _add(self, name: str, what: str, chunks: Iterable[bytes]) -> None:
        begun = time.monotonic()
        told = self._telling(name, chunks, begun)
        part = self._archive.add(name, what, told, lambda: time.monotonic() - begun)
        self._say(f"{name}: {human(part.size)} in {part.seconds:.1f} s ({what})")

    def _telling(self, name: str, chunks: Iterable[bytes], begun: float) -> Iterator[bytes]:
        size, last = 0, begun
        for chunk in chunks:
            yield chunk
            size += len(chunk)
            if (now := time.monotonic()) - last > _TOLD:
                last = now
                self._say(f"{name}: {human(size)} so far, {now - begun:.0f} s")


def _keys(cluster: Cluster) -> bytes:
    """A tar of the cluster's secrets and of the key that signs containers."""
    held = io.BytesIO()
    with tarfile.open(mode="w", fileobj=held) as tar:
        for path in sorted(ClusterPaths.of(cluster.name).secrets.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                tar.add(path, f"secrets/{path.relative_to(ClusterPaths.of(cluster.name).secrets)}")
        for path in (paths.SIGNING_KEY, paths.PUBLIC_KEY):
            if path.is_file():
                tar.add(path, f"keys/{path.name}")
    return held.getvalue()


def commit() -> str:
    """The commit of this hpcstate, empty where it is no checkout of git."""
    with suppress(HpcstateError):
        return run(["git", "-C", paths.ROOT, "rev-parse", "HEAD"], timeout=20).stdout.strip()
    return ""


def new_name(cluster: Cluster, lock: Lock, now: Callable[[], datetime] = datetime.now) -> str:
    """The name of a new archive: the cluster, and the time by the clock of this machine."""
    return f"{cluster.name}-{now():%Y-%m-%dT%H%M%S}.tar{lock.suffix}"


def archives(cluster: Cluster, folder: Path) -> list[Path]:
    """The archives of ``cluster`` in ``folder`` with names of ours, the oldest first by these."""
    name = re.compile(rf"{re.escape(cluster.name)}-\d{{4}}-\d\d-\d\dT\d{{6}}\.tar(\.gpg)?")
    return sorted(path for path in folder.iterdir() if name.fullmatch(path.name) and path.is_file())


def prune(cluster: Cluster, folder: Path, keep: int) -> list[Path]:
    """Remove the archives of ``cluster`` in ``folder`` but for the newest ``keep``, by the time in their
    names: nothing that is called otherwise. Returns what was removed, the oldest first."""
    found = archives(cluster, folder)
    old = found[: max(0, len(found) - max(1, keep))]
    for path in old:
        path.unlink(missing_ok=True)
    return old


def newest(cluster: Cluster, folder: Path) -> float | None:
    """When the newest archive of ``cluster`` in ``folder`` was complete, in seconds since 1970; None without
    one."""
    return max((path.stat().st_mtime for path in archives(cluster, folder)), default=None)


def human(size: int) -> str:
    """``size`` bytes as people read it."""
    for unit, of in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= of:
            return f"{size / of:.1f} {unit}"
    return f"{size} B"


def _number(said: str, word: str) -> int:
    for line in said.splitlines():
        match line.split():
            case [first, number] if first == word and number.isdecimal():
                return int(number)
    raise HpcstateError(f"backup.sh did not say when it was {word}")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def lines(manifest: BackupManifest, archive: Path) -> list[str]:
    """What is in ``archive``, for a person."""
    jobs = ", ".join(f"{number} {state}" for state, number in sorted(manifest.jobs.items())) or "none"
    told = [
        f"{shown(archive)}: cluster {manifest.cluster}, taken {manifest.taken}",
        f"  Slurm {manifest.slurm}, MariaDB {manifest.mariadb or 'none'}, "
        f"hpcstate {manifest.hpcstate[:12] or '-'}",
        f"  jobs in the queue: {jobs}; next job {manifest.next_job or 'unknown'}; "
        f"recorded: {manifest.recorded}; associations: {manifest.associations}",
    ]
    width = max((len(part.name) for part in manifest.parts), default=0)
    told += [f"  {part.name:<{width}}  {human(part.size):>9}  {part.what}" for part in manifest.parts]
    return told
