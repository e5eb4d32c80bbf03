"""Recipes: where an artifact lies, what it is made of, and how. It is built to a temporary name, verified,
renamed, its sidecar last; or it comes from the store.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from hpcstate import paths
from hpcstate.artifact import cache
from hpcstate.artifact.store import Manifest, Store
from hpcstate.digest import file_digest, key_of
from hpcstate.errors import from_os
from hpcstate.files import alone, remove_tree, write_atomically

State = Literal["current", "outdated", "missing"]
"""What lies at a recipe's path: what it makes, something else (of other inputs, other bytes), or nothing."""


@dataclass(frozen=True)
class Recipe:
    """How the artifact ``path`` is made.

    ``inputs`` are values of JSON, or give them; they are its key. The code that makes it (imports.code_of) is
    among them. ``make(target)`` writes ``target``, may use the folder that it lies in (removed afterwards,
    also on failure), and returns the versions that went in. ``keep``: a store keeps the result.
    """

    path: Path
    inputs: Mapping[str, Any] | Callable[[], Mapping[str, Any]]
    make: Callable[[Path], dict[str, str]]
    keep: bool = True

    @property
    def made_of(self) -> dict[str, Any]:
        """The inputs as they are now. Raises what they raise: HpcstateError for a file that is missing."""
        return dict(self.inputs() if callable(self.inputs) else self.inputs)

    @property
    def key(self) -> str:
        """Equal key, equal artifact."""
        return key_of(self.made_of)

    @property
    def state(self) -> State:
        """What lies at ``path``. Reads the sidecar, and the artifact's bytes only where its time of change is
        another than the sidecar says.
        """
        if not self.path.is_file():
            return "missing"
        return "current" if not self.forgotten and _current(self.path, self.key) else "outdated"

    @property
    def current(self) -> bool:
        """Whether nothing has to be done: the artifact is there, whole, and of these inputs."""
        return self.state == "current"

    @property
    def forgotten(self) -> bool:
        """Whether somebody wants it made anew (:func:`forget`)."""
        return _mark(self.path).exists()

    @property
    def made(self) -> Manifest | None:
        """What lies there now was made of; None where nothing does, or nobody can tell."""
        return built(self.path)

    def stored(self, store: Store) -> bool:
        """Whether ``store`` claims to have it: then it is fetched, not made."""
        return not self.forgotten and store.has(self.key)

    def provide(self, store: Store, *, anew: bool = False) -> Manifest:
        """Make sure that the artifact exists: as it is, from ``store``, or made. ``anew``, and where it was
        forgotten: made, whatever is there and in the store; an earlier one stays until the new one is whole.

        Raises what ``make`` raises, and HpcstateError when the disk is full; nothing half done stays.
        """
        inputs = self.made_of
        key = key_of(inputs)
        if anew or self.forgotten:
            with alone(self.path.parent, lambda said: store.report(f"{self.path.name}: {said}")):
                return self._make_anew(inputs, store)
        if not _current(self.path, key):
            with alone(self.path.parent, lambda said: store.report(f"{self.path.name}: {said}")):
                # Somebody else may have made it while this run waited.
                if not _current(self.path, key):
                    return self._provide(inputs, key, store)
        manifest = Manifest.read(paths.sidecar(self.path))
        assert manifest is not None
        return manifest

    def _provide(self, inputs: dict[str, Any], key: str, store: Store) -> Manifest:
        stored = store.fetch(key, self.path)
        if stored is not None:
            stored = replace(stored, mtime_ns=self.path.stat().st_mtime_ns)
            write_atomically(paths.sidecar(self.path), stored.to_json())
            store.report(f"{self.path.name}: from the store ({key[:12]})")
            cache.prune(store, key)  # it may have come from afar
            return stored
        return self._make_anew(inputs, store)

    def _make_anew(self, inputs: dict[str, Any], store: Store) -> Manifest:
        clean_work(self.path)
        work = Path(tempfile.mkdtemp(dir=self.path.parent, prefix=".work."))
        manifest = self._write(inputs, work, time.monotonic())
        if self.keep:
            store.add(self.path, manifest)
            cache.prune(store, manifest.key)
        return manifest

    def write(self, work: Path, began: float) -> Manifest:
        """Make the artifact anew, whatever is there and in a store, in the empty folder ``work``, which is
        removed. An earlier one stays until this one is whole. ``began`` is when it began (time.monotonic()).

        Raises what ``make`` raises, and HpcstateError when the disk is full.
        """
        return self._write(self.made_of, work, began)

    def _write(self, inputs: dict[str, Any], work: Path, began: float) -> Manifest:
        try:
            target = work / self.path.name
            versions = self.make(target)
            manifest = Manifest(
                key=key_of(inputs),
                digest=file_digest(target),
                size=target.stat().st_size,
                duration=round(time.monotonic() - began, 1),
                inputs=inputs,
                versions=versions,
                mtime_ns=target.stat().st_mtime_ns,
            )
            # The sidecar first: killed in between, these bytes must not pass for those that it describes.
            paths.sidecar(self.path).unlink(missing_ok=True)
            target.replace(self.path)
            write_atomically(paths.sidecar(self.path), manifest.to_json())
            _mark(self.path).unlink(missing_ok=True)
        except OSError as error:
            raise from_os(error) from error
        finally:
            remove_tree(work)
        return manifest

    def clean(self) -> None:
        """As :func:`remove` does."""
        remove(self.path)


def built(artifact: Path) -> Manifest | None:
    """The sidecar of ``artifact``, made here for whatever inputs; None when one of the two is missing."""
    return Manifest.read(paths.sidecar(artifact)) if artifact.is_file() else None


def forget(artifact: Path) -> bool:
    """Have ``artifact`` made anew the next time that it is wanted, though it is current and a store has it.
    False where nothing is there that could be forgotten."""
    if not artifact.is_file():
        return False
    _mark(artifact).touch()
    return True


def _mark(artifact: Path) -> Path:
    return artifact.with_name(f"{artifact.name}.forgotten")


def _current(artifact: Path, key: str) -> bool:
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


def remove(artifact: Path) -> None:
    """Remove ``artifact``, its sidecar, and what an interrupted build left. A store keeps its own copy.

    Raises HpcstateError when something is mounted in what was left.
    """
    for path in (artifact, paths.sidecar(artifact), _mark(artifact)):
        path.unlink(missing_ok=True)
    clean_work(artifact)


def clean_work(artifact: Path) -> None:
    """Remove what an interrupted build of ``artifact`` left beside it. Raises HpcstateError when something is
    mounted in that."""
    for left in artifact.parent.glob(".work.*"):
        remove_tree(left)
