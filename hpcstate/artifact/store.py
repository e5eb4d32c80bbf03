"""Artifacts by content key: built once, verified at every use.

An object is a folder ``<store>/<first two digits>/<key>/`` with ``data`` and ``manifest.json``. The
manifest is renamed into place last, so that an object without one does not exist. A remote store is
the same layout behind HTTP (GET and PUT), asked after the local one (``HPCSTATE_STORE_URL``).
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hpcstate import paths
from hpcstate.digest import file_digest
from hpcstate.errors import HpcstateError, from_os
from hpcstate.files import copy_sparse

LIMIT = "HPCSTATE_STORE_LIMIT"
"""The variable that says how large the store may be (50G); what is over it goes (hpcstate.artifact.cache)."""

DEFAULT_LIMIT = 50 * 10**9
"""Bytes: some twenty images, or as many large containers."""

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)

_REMOTE_TIMEOUT = 30.0
_CHUNK = 1 << 20
_LARGEST_MANIFEST = 1 << 20


@dataclass(frozen=True)
class Manifest:
    """The sidecar of an artifact: ``digest`` is the sha256 of its bytes, ``duration`` seconds of building.

    ``inputs`` says what the key was made of, ``versions`` what went in (packages, tools). ``mtime_ns`` is the
    file's time of change as it was put there: with another, its bytes are looked at (recipe.py). 0 is
    not known: sidecars of earlier versions, and objects of a store, whose copies have times of their own.
    """

    key: str
    digest: str
    size: int
    duration: float
    inputs: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    mtime_ns: int = 0

    def to_json(self) -> str:
        """Sorted and indented: people read sidecars. A time that is not known is left out: earlier versions
        take no manifest with a word that they do not know."""
        content = asdict(self)
        if not self.mtime_ns:
            del content["mtime_ns"]
        return json.dumps(content, indent=1, sort_keys=True) + "\n"

    @classmethod
    def read(cls, path: Path) -> Manifest | None:
        """The manifest in ``path``, None when it is missing or is none (interrupted, foreign)."""
        try:
            manifest = cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        numbers = (manifest.size, manifest.mtime_ns)
        texts = (manifest.key, manifest.digest)
        fits = all(type(value) is int for value in numbers) and all(type(value) is str for value in texts)
        return manifest if fits else None


def size_of(text: str, where: str) -> int:
    """The bytes that ``text`` means: 50G, 1.5 TB, 512MiB, 1000. Raises HpcstateError for what is no size."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise HpcstateError(
            f"{text!r} is no size", where=where, hint="50G, 500M or 1.5T; 50GiB for powers of 2"
        )
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** " KMGT".index(unit.upper() or " "))


class Store:
    """A local folder of objects, and behind it, where ``remote`` is given, one over HTTP. ``limit`` is in
    bytes, None for any size (hpcstate.artifact.cache keeps it)."""

    def __init__(
        self,
        root: Path,
        remote: str = "",
        report: Callable[[str], None] = print,
        limit: int | None = None,
    ) -> None:
        self.root = root
        self.remote = remote.rstrip("/")
        self.report = report
        self.limit = limit

    @classmethod
    def default(cls) -> Store:
        """The project's store: ``build/store``, ``HPCSTATE_STORE_URL`` and ``HPCSTATE_STORE_LIMIT``.

        Raises HpcstateError when that is no size: before anything is built for it.
        """
        text = os.environ.get(LIMIT, "")
        limit = size_of(text, LIMIT) if text else DEFAULT_LIMIT
        return cls(paths.STORE, os.environ.get("HPCSTATE_STORE_URL", ""), limit=limit)

    def _object(self, key: str) -> Path:
        return self.root / key[:2] / key

    def has(self, key: str) -> bool:
        """Whether the local store claims to have ``key``; ``fetch`` verifies it."""
        return (self._object(key) / "manifest.json").is_file()

    def fetch(self, key: str, target: Path) -> Manifest | None:
        """Put the artifact of ``key`` at ``target`` (atomically) and return its manifest, None when no store
        has it. An object whose bytes do not match its digest is reported, removed and not used.
        """
        folder = self._object(key)
        if not self.has(key) and self.remote:
            self._download(key)
        manifest = Manifest.read(folder / "manifest.json")
        if manifest is None:
            return None
        with suppress(OSError):  # somebody else's store
            os.utime(folder / "manifest.json")
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.fetch")
        try:
            copy_sparse(folder / "data", aside)
            if manifest.key != key or file_digest(aside) != manifest.digest:
                self.report(f"store: object {key[:12]} is damaged (digest differs); removed, building again")
                shutil.rmtree(folder, ignore_errors=True)
                return None
            # The sidecar first: killed in between, these bytes must not pass for those that it describes.
            paths.sidecar(target).unlink(missing_ok=True)
            aside.replace(target)
        except FileNotFoundError:
            self.report(f"store: object {key[:12]} has no data; removed, building again")
            shutil.rmtree(folder, ignore_errors=True)
            return None
        finally:
            aside.unlink(missing_ok=True)
        return manifest

    def add(self, artifact: Path, manifest: Manifest) -> None:
        """Keep ``artifact`` under its key. Raises HpcstateError when the disk is full."""
        folder = self._object(manifest.key)
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new."))
        try:
            copy_sparse(artifact, aside / "data")
            (aside / "manifest.json").write_text(replace(manifest, mtime_ns=0).to_json())
            shutil.rmtree(folder, ignore_errors=True)
            aside.replace(folder)
        except OSError as error:
            raise from_os(error) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        if self.remote:
            self._upload(manifest.key)

    def _download(self, key: str) -> None:
        import requests

        folder = self._object(key)
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new."))
        try:
            most = _LARGEST_MANIFEST
            for name in ("manifest.json", "data"):
                url = f"{self.remote}/{key[:2]}/{key}/{name}"
                with requests.get(url, stream=True, timeout=_REMOTE_TIMEOUT) as response:
                    if response.status_code == 404:
                        return
                    response.raise_for_status()
                    _receive(response.iter_content(_CHUNK), aside / name, most)
                manifest = Manifest.read(aside / "manifest.json")
                if manifest is None:
                    raise OSError(errno.EBADMSG, "its manifest is none")
                most = manifest.size
            aside.replace(folder)
        except (requests.RequestException, OSError) as error:
            self.report(f"store: {self.remote} did not deliver {key[:12]} ({error}); building instead")
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _upload(self, key: str) -> None:
        import requests

        try:
            for name in ("data", "manifest.json"):
                with (self._object(key) / name).open("rb") as stream:
                    url = f"{self.remote}/{key[:2]}/{key}/{name}"
                    requests.put(url, data=stream, timeout=_REMOTE_TIMEOUT).raise_for_status()
        except requests.RequestException as error:
            self.report(f"store: {self.remote} did not take {key[:12]} ({error}); kept locally only")


def _receive(chunks: Iterable[bytes], target: Path, most: int) -> None:
    """Write ``chunks`` to ``target``. Raises OSError after ``most`` bytes: no server fills the disk."""
    received = 0
    with target.open("wb") as stream:
        for chunk in chunks:
            received += len(chunk)
            if received > most:
                raise OSError(errno.EFBIG, f"more than the {most} bytes that it should have", target.name)
            stream.write(chunk)
