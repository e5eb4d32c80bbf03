"""The store's size: what is in it, what nobody needs longest, and what goes when it is over its limit.

An object was last used when its manifest was last touched (Store.fetch): not every file system keeps times of
reading. What a sidecar in build/ names stays: the next run takes it when that artifact is gone.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hpcstate import paths
from hpcstate.artifact.store import Manifest, Store
from hpcstate.errors import HpcstateError
from hpcstate.files import alone

_KEY = re.compile(r"[0-9a-f]{64}")
_OURS = (".new.", ".gone.")
"""How the folders begin that are on their way into the store, and out of it."""

_ABANDONED = 24 * 3600.0
"""Seconds after which what is on its way into the store has been given up: no copy takes a day."""

_SYSTEM = {"etc", "usr"}
"""Folders that a whole tree of Debian has: no artifact lies in one, and it takes long to go through."""


@dataclass(frozen=True)
class CachedObject:
    """An object of the store: ``size`` in bytes, ``used`` in seconds since 1970. It is not ``whole``
    without data, or a manifest that can be read, and is of no use."""

    key: str
    size: int
    used: float
    whole: bool = True


@dataclass(frozen=True)
class Content:
    """What is in a store. ``foreign`` are files and folders that are none of its objects: they stay."""

    objects: tuple[CachedObject, ...]
    foreign: tuple[Path, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all objects."""
        return sum(cached.size for cached in self.objects)


@dataclass(frozen=True)
class Pruned:
    """What went, or with a dry run would go, and what is left (bytes)."""

    gone: tuple[CachedObject, ...]
    left: int

    @property
    def freed(self) -> int:
        """Bytes."""
        return sum(cached.size for cached in self.gone)


def going(objects: Sequence[CachedObject], limit: int, kept: Collection[str]) -> list[CachedObject]:
    """Which of ``objects`` go so that the others have ``limit`` bytes: those of no use, then the least
    recently used first. Never one of ``kept`` (keys): what is left may be over the limit.
    """
    found = [cached for cached in objects if not cached.whole]
    size = sum(cached.size for cached in objects) - sum(cached.size for cached in found)
    for cached in sorted(objects, key=lambda cached: (cached.used, cached.key)):
        if size <= limit:
            break
        if cached.whole and cached.key not in kept:
            found.append(cached)
            size -= cached.size
    return found


def look(store: Store) -> Content:
    """What is in ``store`` now, nothing when it is not there. Raises OSError when it cannot be read."""
    objects, foreign = [], []
    for above in _inside(store.root):
        if above.name.startswith(_OURS):
            continue
        if not re.fullmatch("[0-9a-f]{2}", above.name) or not _is_folder(above):
            foreign.append(above)
            continue
        for folder in _inside(above):
            if _KEY.fullmatch(folder.name) and folder.name.startswith(above.name) and _is_folder(folder):
                if found := _stored(folder):
                    objects.append(found)
            elif not folder.name.startswith(_OURS):
                foreign.append(folder)
    return Content(tuple(objects), tuple(foreign))


def named() -> Mapping[str, tuple[Path, ...]]:
    """The keys that sidecars in build/ name, and the artifacts that these lie beside."""
    found: dict[str, tuple[Path, ...]] = {}
    for top, folders, files in os.walk(paths.BUILD):
        at = Path(top)
        elsewhere = {name for name in folders if at / name in (paths.STORE, paths.TOOLS)}
        # Neither work that goes on, nor the parts of a system.
        hidden = {name for name in folders if name.startswith(".") or set(folders) >= _SYSTEM}
        folders[:] = sorted({*folders} - elsewhere - hidden)
        for file in sorted(at / name for name in files if name.endswith(".json")):
            if file.is_file() and (manifest := Manifest.read(file)):
                artifact = file.with_name(file.name.removesuffix(".json"))
                found[manifest.key] = (*found.get(manifest.key, ()), artifact)
    return found


def collect(store: Store, limit: int, *, kept: Collection[str] = (), dry_run: bool = False) -> Pruned:
    """Remove from ``store`` what is over ``limit`` bytes, and what interrupted runs left in it. Never what a
    sidecar in build/ names, nor one of ``kept``. Another run that does so is waited for.

    Raises HpcstateError and OSError for what the system refuses.
    """
    if not store.root.is_dir():
        return Pruned((), 0)
    with alone(store.root, lambda said: store.report(f"store: {said}")):
        if not dry_run:
            _clear(store.root)
        content = look(store)
        chosen = going(content.objects, limit, {*named(), *kept})
        gone = tuple(chosen) if dry_run else tuple(cached for cached in chosen if _remove(store.root, cached))
    return Pruned(gone, content.size - sum(cached.size for cached in gone))


def prune(store: Store, key: str) -> None:
    """Bring ``store``, which just got or gave ``key``, below its limit, and report what went. What cannot be
    removed is reported, too: the artifact is there, and that is what was asked for.
    """
    if store.limit is None:
        return
    try:
        if look(store).size <= store.limit:
            return
        removal = collect(store, store.limit, kept={key})
    except (HpcstateError, OSError) as error:
        store.report(f"store: it is over its limit, and could not be pruned: {error}")
        return
    if removal.gone:
        keys = ", ".join(cached.key[:12] for cached in removal.gone)
        store.report(
            f"store: over its limit of {shown(store.limit)}; removed what was not used for longest: {keys} "
            f"({shown(removal.freed)})"
        )


def shown(size: int) -> str:
    """``size`` (bytes) as a person reads it: 2.1 GB."""
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{size} bytes"


def _inside(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(folder.iterdir())
    except FileNotFoundError:  # removed by another run, or not made yet
        return


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _stored(folder: Path) -> CachedObject | None:
    """The object in ``folder``; None when another run has just removed it."""
    manifest = folder / "manifest.json"
    try:
        size = sum(path.lstat().st_size for path in folder.iterdir())
        read = Manifest.read(manifest)
        whole = read is not None and read.key == folder.name and (folder / "data").is_file()
        return CachedObject(folder.name, size, (manifest if whole else folder).stat().st_mtime, whole)
    except FileNotFoundError:
        return None


def _remove(root: Path, gone: CachedObject) -> bool:
    """Remove an object, unless it was used since it was chosen. It leaves its place in one step: whoever
    fetches it meanwhile finds it whole, or not at all."""
    folder = root / gone.key[:2] / gone.key
    now = _stored(folder)
    if now is None or now != gone:
        return False
    aside = Path(tempfile.mkdtemp(dir=root, prefix=".gone."))
    try:
        folder.replace(aside / "object")
    except FileNotFoundError:
        return False
    finally:
        shutil.rmtree(aside)
    return True


def _clear(root: Path) -> None:
    """Remove what runs that were killed left in the store ``root``, which this run holds."""
    for left in root.glob(".gone.*"):
        shutil.rmtree(left, ignore_errors=True)
    for left in root.glob("??/.new.*"):
        with suppress(OSError):  # come to its place, or a stranger's file
            if time.time() - _changed(left) > _ABANDONED:
                shutil.rmtree(left, ignore_errors=True)


def _changed(folder: Path) -> float:
    """When ``folder``, or a file in it, was last changed."""
    return max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
