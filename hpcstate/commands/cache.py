"""``hpcstate cache``: what the store of built artifacts has, and removing what was not used for longest."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcstate import paths
from hpcstate.cli import OK
from hpcstate.terminal import fitted, plural, table

if TYPE_CHECKING:
    from hpcstate.artifact.cache import CachedObject


def register(subparsers: Any) -> None:
    """Add ``cache`` and its commands: 0 when they could be done."""
    parser = subparsers.add_parser(
        "cache",
        help="the store of what was built: its size, and making it smaller",
        description="The store of what was built (build/store): images and containers come from it when they "
        "were built before of the same inputs. HPCSTATE_STORE_LIMIT says how large it may be (default: 50G). "
        "Exit codes: 0 done, 2 could not be done.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    status = commands.add_parser("status", help="objects, sizes, last use, and what build/ needs of them")
    status.add_argument("--json", action="store_true", help="print JSON")
    status.set_defaults(run=run_status)
    gc = commands.add_parser(
        "gc",
        help="remove what is over the limit, least recently used first",
        description="Remove what is over the limit, least recently used first; never what the sidecar of an "
        "artifact in build/ names.",
    )
    gc.add_argument("--limit", metavar="SIZE", help="instead of HPCSTATE_STORE_LIMIT: 20G, 500M, 0")
    gc.add_argument("--dry-run", action="store_true", help="say what would go, and remove nothing")
    gc.add_argument("--json", action="store_true", help="print JSON")
    gc.set_defaults(run=run_gc)


def run_status(args: argparse.Namespace) -> int:
    """What is in the store, the most recently used first."""
    from hpcstate.artifact import cache
    from hpcstate.artifact.store import LIMIT, Store

    store = Store.default()
    limit = store.limit or 0
    content, names = cache.look(store), cache.named()
    objects = sorted(content.objects, key=lambda cached: (-cached.used, cached.key))
    if args.json:
        rows = [{**_object(cached), "artifacts": _shown(names.get(cached.key, ()))} for cached in objects]
        said = {"store": str(store.root), "limit": limit, "size": content.size, "objects": rows}
        print(json.dumps({**said, "foreign": [str(path) for path in content.foreign]}, indent=2))
        return OK
    if objects:
        lines = [
            (
                cached.key[:12],
                cache.shown(cached.size),
                _local(cached),
                ", ".join(_shown(names.get(cached.key, ())))
                or ("-" if cached.whole else "damaged: of no use"),
            )
            for cached in objects
        ]
        print(table(("object", "size", "last used", "named by"), lines))
    state = f"{'over' if content.size > limit else 'within'} its limit of {cache.shown(limit)} ({LIMIT})"
    size = cache.shown(content.size)
    print(fitted(f"{paths.shown(store.root)}: {plural(len(objects), 'object')}, {size}, {state}"))
    for path in content.foreign:
        print(f"  not of the store, let alone: {paths.shown(path)}")
    return OK


def run_gc(args: argparse.Namespace) -> int:
    """Remove what is over the limit, and say what went."""
    from hpcstate.artifact import cache
    from hpcstate.artifact.store import Store, size_of

    store = Store.default()
    limit = size_of(args.limit, "--limit") if args.limit is not None else store.limit or 0
    if args.json:
        store.report = lambda _: None
    removal = cache.collect(store, limit, dry_run=args.dry_run)
    if args.json:
        said = {"store": str(store.root), "limit": limit, "dry_run": args.dry_run}
        gone = [_object(cached) for cached in removal.gone]
        print(json.dumps({**said, "removed": gone, "freed": removal.freed, "size": removal.left}, indent=2))
        return OK
    verb = "would remove" if args.dry_run else "removed"
    for cached in removal.gone:
        used = f"last used {_local(cached)}" if cached.whole else "damaged: of no use"
        print(f"  {verb} {cached.key[:12]}, {cache.shown(cached.size)}, {used}")
    print(
        f"{paths.shown(store.root)}: {verb} {plural(len(removal.gone), 'object')}, "
        f"{cache.shown(removal.freed)}; {cache.shown(removal.left)} left"
    )
    if removal.left > limit:
        print(
            f"  over the limit of {cache.shown(limit)} all the same: build/ needs what is left "
            "(`hpcstate cache status` says for what; `doit clean` removes artifacts)"
        )
    return OK


def _object(cached: CachedObject) -> dict[str, Any]:
    used = datetime.fromtimestamp(cached.used, UTC).isoformat(timespec="seconds")
    return {"key": cached.key, "size": cached.size, "used": used, "whole": cached.whole}


def _local(cached: CachedObject) -> str:
    return f"{datetime.fromtimestamp(cached.used).astimezone():%Y-%m-%d %H:%M}"


def _shown(artifacts: tuple[Path, ...]) -> list[str]:
    return [paths.shown(path) for path in artifacts]
