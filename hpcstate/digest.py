"""Content keys: what an artifact was made from, in 64 hex digits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

_CHUNK = 1 << 20


def key_of(inputs: Mapping[str, object]) -> str:
    """The sha256 of ``inputs`` as sorted JSON. Equal inputs, equal key, on every machine.

    Raises TypeError for a value that JSON does not know: paths would carry the machine into the key.
    """
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """The sha256 of the content of ``path``. Raises OSError when it cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def file_digests(files: Iterable[Path], root: Path) -> dict[str, str]:
    """Digests of ``files``, named by their path below ``root``."""
    return {path.relative_to(root).as_posix(): file_digest(path) for path in sorted(set(files))}
