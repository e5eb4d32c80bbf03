"""The state of many small files of a host, read by one command."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TypedDict

from hpcstate.errors import HpcstateError

PENDING_SUFFIX = ".hpcstate-pending"
"""An empty file beside a text file says: written, but what has to follow has not succeeded yet."""


class TextFileState(TypedDict):
    """One regular file. ``mode`` is octal (``644``), ``owner`` ``user:group``, ``sha256`` hexadecimal.

    ``pending`` is true when an earlier run wrote the file and was stopped before its daemon took notice.
    """

    mode: str
    owner: str
    sha256: str
    pending: bool


def command(paths: Sequence[str]) -> str:
    """Mode and owner of those of ``paths`` that exist, an empty line, their digests. Two processes in all."""
    files = " ".join(shlex.quote(path) for path in paths)
    marks = " ".join(shlex.quote(path + PENDING_SUFFIX) for path in paths)
    return (
        f"stat -L -c '%a %U:%G %n' -- {files} {marks} 2>/dev/null; echo; sha256sum -- {files} 2>/dev/null; :"
    )


def parse(text: str) -> dict[str, TextFileState]:
    """The files that exist, by path.

    Raises HpcstateError when a file could not be read: its content is then unknown, which is not "absent".
    """
    stats, _, sums = text.partition("\n\n") if not text.startswith("\n") else ("", "", text)
    digests = {
        path: digest for digest, _, path in (line.partition("  ") for line in sums.split("\n") if line)
    }
    entries = {
        path: (mode, owner) for mode, owner, path in (line.split(" ", 2) for line in stats.splitlines())
    }
    files: dict[str, TextFileState] = {}
    for path, (mode, owner) in entries.items():
        if path.endswith(PENDING_SUFFIX):
            continue
        if path not in digests:
            raise HpcstateError(
                "the file cannot be read", where=path, hint="only root can: ask with _sudo=True"
            )
        files[path] = TextFileState(
            mode=mode, owner=owner, sha256=digests[path], pending=path + PENDING_SUFFIX in entries
        )
    return files
