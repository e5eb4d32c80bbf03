"""Building an artifact: to a temporary name, verified, renamed, its sidecar last."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcstate import paths
from hpcstate.artifact.store import Manifest, Store
from hpcstate.digest import file_digest, key_of
from hpcstate.errors import from_os
from hpcstate.files import alone, remove_tree, write_atomically


def current(artifact: Path, key: str) -> bool:
    """Whether ``artifact`` is there, whole, and was made for ``key``. Reads its sidecar, and its bytes only
    where its time of change is another than the sidecar says.
    """
    manifest = Manifest.read(paths.sidecar(artifact))
    if manifest is None or manifest.key != key:
        return False
    try:
        stat = artifact.stat()
        if stat.st_size != manifest.size:
            return False
        return manifest.mtime_ns in (0, stat.st_mtime_ns) or _has_its_bytes(artifact, manifest, stat)
    except OSError:
        return False


def _has_its_bytes(artifact: Path, manifest: Manifest, before: os.stat_result) -> bool:
    """Whether the bytes of ``artifact`` are those of its sidecar. If so (it was touched, or copied together
    with its sidecar) it gets its time back: the next question is a cheap one, and no sidecar changes.
    """
    if file_digest(artifact) != manifest.digest:
        return False
    after = artifact.stat()
    # What was written while it was hashed must not get the time that vouches for it.
    if (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size):
        with suppress(PermissionError):  # somebody else's file: it is hashed each time
            os.utime(artifact, ns=(after.st_atime_ns, manifest.mtime_ns))
    return True


def provide(
    artifact: Path,
    inputs: dict[str, Any],
    make: Callable[[Path, Path], dict[str, str]],
    *,
    store: Store,
    keep: bool = True,
) -> Manifest:
    """Make sure ``artifact`` exists for ``inputs``: as it is, from the store, or by ``make(target, work)``.

    ``make`` writes ``target``, may use the folder ``work`` (removed afterwards, also on failure), and
    returns the versions that went in. ``keep`` stores the result. Raises what ``make`` raises, and
    HpcstateError when the disk is full; nothing half done stays.
    """
    key = key_of(inputs)
    if not current(artifact, key):
        with alone(artifact.parent, lambda said: store.report(f"{artifact.name}: {said}")):
            # Somebody else may have made it while this run waited.
            if not current(artifact, key):
                return _provide(artifact, key, inputs, make, store, keep)
    manifest = Manifest.read(paths.sidecar(artifact))
    assert manifest is not None
    return manifest


def _provide(
    artifact: Path,
    key: str,
    inputs: dict[str, Any],
    make: Callable[[Path, Path], dict[str, str]],
    store: Store,
    keep: bool,
) -> Manifest:
    stored = store.fetch(key, artifact)
    if stored is not None:
        stored = replace(stored, mtime_ns=artifact.stat().st_mtime_ns)
        write_atomically(paths.sidecar(artifact), stored.to_json())
        store.report(f"{artifact.name}: from the store ({key[:12]})")
        return stored
    clean_work(artifact)
    work = Path(tempfile.mkdtemp(dir=artifact.parent, prefix=".work."))
    started = time.monotonic()
    try:
        target = work / artifact.name
        versions = make(target, work)
        manifest = Manifest(
            key=key,
            digest=file_digest(target),
            size=target.stat().st_size,
            duration=round(time.monotonic() - started, 1),
            inputs=inputs,
            versions=versions,
            mtime_ns=target.stat().st_mtime_ns,
        )
        paths.sidecar(artifact).unlink(missing_ok=True)
        target.replace(artifact)
        write_atomically(paths.sidecar(artifact), manifest.to_json())
    except OSError as error:
        raise from_os(error) from error
    finally:
        remove_tree(work)
    if keep:
        store.add(artifact, manifest)
    return manifest


def clean_work(artifact: Path) -> None:
    """Remove what an interrupted build of ``artifact`` left beside it. Raises HpcstateError when something is
    mounted in that."""
    for left in artifact.parent.glob(".work.*"):
        remove_tree(left)
