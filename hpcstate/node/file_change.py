"""How a file of a node differs from what it should be: for a plan, and for pyinfra's --diff."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

_CONTEXT = 1

HIDDEN = "(not shown: others on the node may not read it)"
"""What stands in place of a difference that may have a secret in it."""


@dataclass(frozen=True)
class FileChange:
    """A file of a node that would be written: ``there`` says whether one is there, ``diff`` what changes in
    it, as diff -u shows it (:data:`HIDDEN` where the content may be secret)."""

    node: str
    path: str
    there: bool
    diff: str


def is_secret(mode: str) -> bool:
    """Whether a file of ``mode`` (octal digits) is kept from other users: what is in it stays there."""
    return not int(mode, 8) & 0o004


def of(node: str, path: str, before: str | None, after: str) -> FileChange:
    """The change of ``path`` on ``node`` from ``before`` (None: it is not there) to ``after``. Pure."""
    lines = difflib.unified_diff(
        shown_lines(before or ""), shown_lines(after), f"{path} on {node}", path, n=_CONTEXT, lineterm=""
    )
    return FileChange(node, path, before is not None, "\n".join(lines))


def shown_lines(text: str) -> list[str]:
    """The lines of ``text``, with what a terminal would obey made visible."""
    return ["".join(c if c.isprintable() or c == "\t" else "�" for c in line) for line in text.splitlines()]
