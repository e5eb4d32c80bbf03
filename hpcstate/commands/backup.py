"""``hpcstate backup|restore``: what a Slurm cluster cannot be made from again, in one file."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hpcstate.commands.arguments import add_cluster_file, agreed, in_turn
from hpcstate.errors import HpcstateError

if TYPE_CHECKING:
    from hpcstate.cluster.backup_decide import Restorable
    from hpcstate.cluster.restore import Archive
    from hpcstate.model import Cluster


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``backup`` and ``restore``."""
    backup = subparsers.add_parser(
        "backup",
        help="the queue, the record of jobs, keys and, on wish, homes, in one file here",
        description="Write what the cluster cannot be made from again into one file on this machine: Slurm's "
        "state, the database of accounting, the keys, the catalog of containers, on wish homes "
        "(docs/backup.md). slurmctld stands still for a few seconds; jobs go on.",
    )
    add_cluster_file(backup)
    backup.add_argument(
        "--out", type=Path, metavar="DIR", help="where the file goes (default: build/backups)"
    )
    backup.add_argument("--homes", action="store_true", help="people's homes, too")
    backup.add_argument(
        "--containers", action="store_true", help="the files of the containers, too, not the catalog alone"
    )
    lock = backup.add_mutually_exclusive_group()
    lock.add_argument(
        "--encrypt-to", type=Path, metavar="KEYFILE", help="encrypt it to the public key in this file (gpg)"
    )
    _add_passphrase(lock)
    backup.add_argument(
        "--verify",
        type=Path,
        metavar="ARCHIVE",
        help="write none: read this one whole, and say what is in it",
    )
    backup.add_argument(
        "--scheduled",
        action="store_true",
        help="as `backup` of the cluster file says: where to, what, how it is encrypted; old ones go",
    )
    backup.add_argument("--json", action="store_true", help="for programs")
    backup.set_defaults(run=_backup)
    restore = subparsers.add_parser(
        "restore",
        help="put back what `backup` wrote",
        description="Put a backup back on the cluster of the file: Slurm's state and the database of "
        "accounting take the place of what is there. For a cluster that is gone: with --keys, then "
        "`./hpc up FILE`, then without (docs/backup.md).",
    )
    add_cluster_file(restore)
    restore.add_argument("archive", metavar="ARCHIVE", type=Path, help="what `hpcstate backup` wrote")
    what = restore.add_mutually_exclusive_group()
    what.add_argument(
        "--keys",
        action="store_true",
        help="only the keys, into build/CLUSTER/secrets: before `./hpc up` makes the cluster anew",
    )
    what.add_argument("--check", action="store_true", help="change nothing: say what it would do")
    restore.add_argument("--homes", action="store_true", help="people's homes, too; files of now stay beside")
    restore.add_argument("--containers", action="store_true", help="the files of the containers, too")
    _add_passphrase(restore)
    restore.add_argument("--yes", action="store_true", help="do not ask")
    restore.add_argument(
        "--force", action="store_true", help="also where jobs run, or were recorded after the backup"
    )
    restore.add_argument("--json", action="store_true", help="for programs")
    restore.set_defaults(run=in_turn(_restore))


def _add_passphrase(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--passphrase-file", type=Path, metavar="FILE", help="its first line is the passphrase (gpg, AES-256)"
    )


def _cluster(args: argparse.Namespace) -> Cluster:
    from hpcstate.schema import load

    cluster = load(args.file).cluster("hpc")
    if cluster is None:
        raise HpcstateError(
            "the file describes no Slurm cluster, and nothing else is backed up",
            where=str(args.file),
            hint="a Slurm cluster is described under clusters.hpc",
        )
    return cluster


def _demand_file(path: Path | None) -> None:
    if path is not None and not path.is_file():
        raise HpcstateError("there is no such file", where=str(path))


def _say(args: argparse.Namespace, text: str) -> None:
    print(f"  {text}", file=sys.stderr if args.json else sys.stdout, flush=True)


def _backup(args: argparse.Namespace) -> int:
    if args.verify is not None:
        return _verify(args)
    return in_turn(_take)(args)


def _take(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from hpcstate import paths
    from hpcstate.cluster import backup
    from hpcstate.cluster.backup_archive import Lock
    from hpcstate.node.ssh import demand_key

    cluster = _cluster(args)
    if args.scheduled:
        _as_scheduled(args, cluster)
    for path in (args.encrypt_to, args.passphrase_file):
        _demand_file(path)
    demand_key(cluster, args.file)
    lock = Lock(passphrase=args.passphrase_file, recipient=args.encrypt_to)
    folder = paths.BACKUPS if args.out is None else args.out
    target = folder / backup.new_name(cluster, lock)
    wish = backup.Wish(homes=args.homes, containers=args.containers, lock=lock)
    manifest = backup.take(cluster, args.file, target, wish, lambda text: _say(args, text))
    if args.scheduled and cluster.backup is not None:
        for old in backup.prune(cluster, folder, cluster.backup.keep):
            _say(args, f"{old} is removed: the newest {cluster.backup.keep} stay")
    if args.json:
        print(json.dumps({"archive": str(target), **asdict(manifest)}, indent=1))
        return 0
    print("\n".join(backup.lines(manifest, target)))
    if not lock.suffix:
        print("  it has the cluster's keys in the clear: keep it where only you can read it")
    return 0


def _as_scheduled(args: argparse.Namespace, cluster: Cluster) -> None:
    """Put what the file says of backups into ``args``."""
    settings = cluster.backup
    if settings is None:
        raise HpcstateError(
            "the cluster file has no backup", where=str(args.file), hint="add it (docs/backup.md)"
        )
    if any((args.out, args.homes, args.containers, args.encrypt_to, args.passphrase_file)):
        raise HpcstateError(
            "--scheduled takes all of that from the cluster file", hint="leave out the others"
        )
    args.out, args.homes, args.containers = settings.path, settings.homes, settings.containers
    args.passphrase_file, args.encrypt_to = settings.passphrase_file, settings.encrypt_to


def _verify(args: argparse.Namespace) -> int:
    """0 where the archive is as it was written, and of this cluster."""
    from dataclasses import asdict

    from hpcstate.cluster import backup, backup_archive

    cluster = _cluster(args)
    _demand_file(args.passphrase_file)
    manifest = backup_archive.read(args.verify, args.passphrase_file)
    mine = manifest.cluster == cluster.name
    if args.json:
        print(json.dumps({"archive": str(args.verify), "sound": True, **asdict(manifest)}, indent=1))
    else:
        print("\n".join(backup.lines(manifest, args.verify)))
        print("  all of it is as it was written")
        if not mine:
            print(f"  it is of another cluster than {cluster.name!r}: `restore` refuses it here")
    return 0 if mine else 1


def _restore(args: argparse.Namespace) -> int:
    from hpcstate.cluster import backup_archive, restore

    cluster = _cluster(args)
    _demand_file(args.passphrase_file)
    _say(args, f"{args.archive}: reading all of it")
    manifest = backup_archive.read(args.archive, args.passphrase_file)
    archive = restore.Archive(args.archive, manifest, args.passphrase_file)
    if args.keys:
        restore.put_keys(cluster, archive, lambda text: _say(args, text))
        _say(args, f"next: `./hpc up {args.file}`, then `hpcstate restore {args.file} {args.archive}`")
        return 0
    return _put_back(args, cluster, archive)


def _put_back(args: argparse.Namespace, cluster: Cluster, archive: Archive) -> int:
    from dataclasses import asdict

    from hpcstate.cluster import backup, restore
    from hpcstate.cluster.backup_decide import verdict
    from hpcstate.node.ssh import Live
    from hpcstate.paths import ClusterPaths

    manifest = archive.manifest
    if not ClusterPaths.of(cluster.name).ssh_key.exists():
        raise HpcstateError(
            "there is no cluster to put it on: no keys are here",
            where=cluster.name,
            hint=f"`hpcstate restore {args.file} {args.archive} --keys` puts the keys of the backup back, "
            f"then `./hpc up {args.file}`, then this command again",
        )
    trees = _trees(args, cluster, archive)
    with Live(cluster) as live:
        now = backup.look(cluster, live, since=manifest.taken_s)
    found = verdict(manifest, cluster.name, backup.has_database(cluster), now)
    told = [*backup.lines(manifest, args.archive), *_verdict_lines(found)]
    stopped = bool(found.refused) or bool(found.only_forced and not args.force)
    if args.json and (args.check or stopped):
        print(json.dumps({"archive": str(args.archive), "possible": not stopped, **asdict(found)}, indent=1))
    elif not args.json:
        print("\n".join(told))
    if found.refused:
        return 1
    if stopped:
        _say(args, "nothing was touched; --force puts it back all the same")
        return 1
    if args.check:
        _say(args, f"it would take the place of Slurm's state and database on {cluster.controller.name}")
        return 0
    if not args.yes and not agreed(f"Put this back on {cluster.name}? What its Slurm knows now goes."):
        _say(args, "nothing was touched (--yes does not ask)")
        return 1
    now = restore.put_back(cluster, archive, trees, lambda text: _say(args, text))
    if args.json:
        print(json.dumps({"archive": str(args.archive), "possible": True, **asdict(now)}, indent=1))
        return 0
    for line in restore.back_lines(manifest, now):
        _say(args, line)
    names = restore.containers(archive)
    if names and not args.containers:
        _say(args, f"containers of then: {', '.join(names)}; `hpcstate container deploy` brings them")
    _say(args, f"next: `./hpc up {args.file}` compares the nodes with the file")
    return 0


def _trees(args: argparse.Namespace, cluster: Cluster, archive: Archive) -> list[str]:
    """The parts that are folders and were asked for. Raises HpcstateError for one that is not in it."""
    from hpcstate.cluster import backup

    wanted = {backup.HOMES_PART: args.homes, backup.CONTAINERS_PART: args.containers}
    for part, asked in wanted.items():
        there = archive.manifest.part(part) is not None
        option = f"--{part.split('.')[0]}"
        if asked and not there:
            raise HpcstateError(f"it was taken without {option}", where=str(args.archive))
        if there and not asked:
            _say(args, f"{part} is in it, and stays there: {option} puts it back, too")
    if args.homes:
        backup.demand_homes(cluster)
    return [part for part, asked in wanted.items() if asked]


def _verdict_lines(found: Restorable) -> list[str]:
    return [
        *(f"  refused: {reason}" for reason in found.refused),
        *(f"  in the way: {reason}" for reason in found.only_forced),
        *(f"  goes: {what}" for what in found.lost),
    ]
