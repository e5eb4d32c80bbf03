"""Building an artifact: to a temporary name, verified, renamed, its sidecar last."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpcstate import paths
from hpcstate.digest import file_digest, key_of
from hpcstate.errors import from_os
from hpcstate.locks import alone
from hpcstate.store import Manifest, Store, write_atomically
from hpcstate.trees import remove_tree


def current(artifact: Path, key: str) -> bool:
    """Whether ``artifact`` is there, whole, and was made for ``key``. Reads its sidecar, not its bytes."""
    manifest = Manifest.read(paths.sidecar(artifact))
    if manifest is None or manifest.key != key:
        return False
    try:
        return artifact.stat().st_size == manifest.size
    except OSError:
        return False


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
