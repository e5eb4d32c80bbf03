"""A backup is put back: the keys on this machine, before the cluster is started; all else on its controller.

What is on the controller stays in use until all of the archive has got there, and comes back where Slurm's
daemons do not answer with what came.
"""

from __future__ import annotations

import io
import tarfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hpcstate import paths, programs
from hpcstate.cluster.backup import (
    CATALOG_PART,
    DATABASE_PART,
    HOURS,
    KEYS,
    STATE_PART,
    TREES,
    has_database,
    human,
    look,
    spool,
)
from hpcstate.cluster.backup_archive import BackupManifest, chunks
from hpcstate.cluster.backup_decide import SlurmRecord
from hpcstate.errors import HpcstateError
from hpcstate.files import write_atomically
from hpcstate.model import Cluster
from hpcstate.node.ssh import Live
from hpcstate.paths import ClusterPaths, shown
from hpcstate.slurm.accounting import CLIENT_CONF, DATABASE, USER
from hpcstate.slurm.conf import STATE
from hpcstate.terminal import Say, plural

_PROGRAM = Path(__file__).with_name("restore.sh")

WAIT_S = 600
"""How long each daemon may take to answer, in seconds: slurmdbd may convert tables of an older Slurm."""


@dataclass(frozen=True)
class Archive:
    """An archive that was read whole: its manifest, and where the passphrase is."""

    path: Path
    manifest: BackupManifest
    passphrase: Path | None = None


def put_keys(cluster: Cluster, archive: Archive, say: Say) -> list[Path]:
    """Put the keys of ``archive`` where `start` finds them; returns those that were not there.

    No key that is there is ever replaced. Raises HpcstateError for an archive of another cluster, and where
    keys here are others: nodes that were made with them would let nobody in.
    """
    manifest = archive.manifest
    if manifest.cluster != cluster.name:
        raise HpcstateError(
            f"it is a backup of the cluster {manifest.cluster!r}, and the file's is {cluster.name!r}",
            where=shown(archive.path),
        )
    wanted = _keys(cluster, archive)
    other = [path for path, content in wanted.items() if path.exists() and path.read_bytes() != content]
    # Made of the keys and the file at each start.
    known_hosts = ClusterPaths.of(cluster.name).known_hosts
    other = [path for path in other if path != known_hosts]
    if other:
        raise HpcstateError(
            f"there are other keys here: {', '.join(shown(path) for path in other)}; nothing was touched",
            where=cluster.name,
            hint="the keys that are here belong to the cluster as it is, which needs none of a backup; if it "
            "is gone for good, `hpcstate destroy FILE --secrets` removes them (or move them away)",
        )
    new = [path for path in wanted if not path.exists()]
    folder = ClusterPaths.of(cluster.name).secrets
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    for path in new:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(path, wanted[path], mode=0o644 if path.suffix == ".pub" else 0o600)
    say(f"{plural(len(new), 'key')} put back in {shown(folder)}" if new else "all keys were there already")
    return new


def _keys(cluster: Cluster, archive: Archive) -> dict[Path, bytes]:
    """Where the files of the archive's keys belong, and their contents."""
    held = b"".join(chunks(archive.path, KEYS, archive.passphrase))
    folders = {"secrets": ClusterPaths.of(cluster.name).secrets, "keys": paths.SIGNING_KEY.parent}
    found = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(held)) as tar:
            for member in tar:
                folder, _, name = member.name.partition("/")
                file = tar.extractfile(member)
                if folder not in folders or not name or ".." in name.split("/") or file is None:
                    raise HpcstateError(f"{member.name!r} is no key", where=shown(archive.path))
                found[folders[folder] / name] = file.read()
    except tarfile.TarError as error:
        raise HpcstateError(f"its keys cannot be read: {error}", where=shown(archive.path)) from error
    return found


def put_back(cluster: Cluster, archive: Archive, trees: list[str], say: Say) -> SlurmRecord:
    """Put the database and slurmctld's state of ``archive`` back on the controller, and the folders that the
    parts ``trees`` are. Returns what is there then.

    Raises HpcstateError when it fails; the controller goes on with what it had.
    """
    name = cluster.controller.name
    with Live(cluster) as live:
        try:
            if archive.manifest.part(DATABASE_PART):
                _send(cluster, archive, live, DATABASE_PART, "database", say)
            _send(cluster, archive, live, STATE_PART, "state", say)
            for part in trees:
                _send(cluster, archive, live, part, "tree", say, TREES[part])
            say(f"{name}: slurmctld and slurmdbd stop, and start with what came")
            begun = time.monotonic()
            live.run(name, _ask(cluster, archive, "swap"), user="root", timeout=3 * WAIT_S)
            say(f"{name}: both answer, after {time.monotonic() - begun:.0f} s")
            return look(cluster, live)
        finally:
            with suppress(HpcstateError):
                live.run(name, _ask(cluster, archive, "clear"), user="root")


def _send(
    cluster: Cluster, archive: Archive, live: Live, part: str, action: str, say: Say, *words: str
) -> None:
    found = archive.manifest.part(part)
    if found is None:
        raise HpcstateError(f"it has no {part}", where=shown(archive.path))
    begun = time.monotonic()
    script = _ask(cluster, archive, action, *words)
    content = chunks(archive.path, part, archive.passphrase)
    live.send(cluster.controller.name, script, content, timeout=HOURS)
    say(f"{part}: {human(found.size)} in {time.monotonic() - begun:.1f} s ({found.what})")


def _ask(cluster: Cluster, archive: Archive, action: str, *words: str) -> str:
    return programs.command(
        _PROGRAM,
        arguments=[action, *words],
        state=STATE,
        spool=spool(cluster, "restore"),
        database=DATABASE if archive.manifest.part(DATABASE_PART) else "",
        cluster=cluster.name,
        user=USER,
        accounting="yes" if has_database(cluster) else "",
        client=CLIENT_CONF,
        wait_s=WAIT_S,
    )


def containers(archive: Archive) -> list[str]:
    """The containers that the catalog of ``archive`` names, for whoever has to deploy them again."""
    from hpcstate.registry.catalog import parse

    text = b"".join(chunks(archive.path, CATALOG_PART, archive.passphrase)).decode(errors="replace")
    if not text.strip():
        return []
    try:
        return sorted({stored.name for stored in parse(text).stored})
    except HpcstateError:
        return []


def back_lines(manifest: BackupManifest, now: SlurmRecord) -> list[str]:
    """What is back, for a person."""
    jobs = ", ".join(f"{number} {state}" for state, number in sorted(now.jobs.items())) or "none"
    told = [
        f"jobs in the queue: {jobs}",
        f"next job: {now.next} (of the backup: {manifest.next_job or 'unknown'})",
    ]
    if manifest.mariadb:
        told += [
            f"recorded jobs: {now.recorded} (of the backup: {manifest.recorded})",
            f"associations: {now.associations} (of the backup: {manifest.associations})",
        ]
    return told
