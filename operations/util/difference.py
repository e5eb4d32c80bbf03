"""What a change makes of a file, shown as pyinfra's own operations do with ``--diff``.

An operation tells before its first command: pyinfra runs its body that far when it plans. It runs it again
when it executes; what was shown then is not shown twice. With ``--dry --json`` each operation has it as
``files`` (hpcstate.node.file_change.FileChange), with ``--diff`` or without.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyinfra
from pyinfra import logger
from pyinfra.api.output import format_text
from pyinfra.context import host, state
from pyinfra.facts.files import FileContents
from pyinfra.operations.util.files import generate_color_diff

from hpcstate.node.file_change import HIDDEN, FileChange, is_secret, of, shown_lines


@dataclass(frozen=True)
class FileWritten:
    """A file that an operation writes: ``mode`` is octal digits. ``before`` is its content now, None where
    the host has to be asked for it."""

    path: str
    content: str
    mode: str = "644"
    before: str | None = None


_told: set[FileChange] = set()
_of_operation: dict[tuple[str, str], dict[str, FileChange]] = {}
"""By the operation's hash and the host, then by path."""


def wanted() -> bool:
    """Whether anybody is to see the differences of files: ``--diff``, or a plan in JSON."""
    return bool(state.config.DIFF) or {"--dry", "--json"} <= {*sys.argv}


def show(files: Iterable[FileWritten]) -> None:
    """Tell what changes in ``files``, in the name of this host, where that is wanted. What other users of the
    host cannot read is not shown, nor asked for."""
    if not wanted():
        return
    for file in files:
        if is_secret(file.mode):
            change = FileChange(_node(), file.path, True, HIDDEN)
            _tell(change, f"Will write {format_text(file.path, bold=True)}", [HIDDEN])
            continue
        before = _content(file.path) if file.before is None else file.before
        if before == file.content:
            continue
        does = "create" if before is None else "modify"
        lines = generate_color_diff(shown_lines(before or ""), shown_lines(file.content))
        change = of(_node(), file.path, before, file.content)
        _tell(change, f"Will {does} {format_text(file.path, bold=True)}", lines)


def show_attributes(path: str, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Tell which of mode and owner of ``path`` change, where that is wanted."""
    if not wanted():
        return
    lines = [f"{name} {before[name]} -> {value}" for name, value in after.items() if before[name] != value]
    if lines:
        change = FileChange(_node(), path, True, "\n".join(lines))
        _tell(change, f"Will modify {format_text(path, bold=True)}", lines)


def show_removed(paths: Iterable[str]) -> None:
    """Tell that ``paths`` go, where that is wanted."""
    for path in paths if wanted() else ():
        _tell(FileChange(_node(), path, True, "removed"), f"Will remove {format_text(path, bold=True)}", ())


def _node() -> str:
    """The host's name without the connector that it may have before it (``@fake/compute-01``)."""
    return str(host.name.rpartition("/")[2])


def _content(path: str) -> str | None:
    lines = host.get_fact(FileContents, path=path)
    return None if lines is None else "".join(f"{line}\n" for line in lines)


def _tell(change: FileChange, title: str, lines: Iterable[str]) -> None:
    _of_operation.setdefault((str(host.current_op_hash), host.name), {})[change.path] = change
    _add_to_json()
    if change in _told or not state.config.DIFF:
        return
    _told.add(change)
    host.log(title, logger.info)
    for line in lines:
        logger.info("  %s", line)
    logger.info("")


def _add_to_json() -> None:
    """Have pyinfra's ``--dry --json`` name the files of each operation: it has no place for such, and asks
    nobody (pyinfra 3.10, pyinfra_cli/prints.py, print_run_json)."""
    if not pyinfra.is_cli:
        return
    from pyinfra_cli import prints  # type: ignore[import-untyped]

    plain = prints.build_plan_json
    if getattr(plain, "names_files", False):
        return

    def with_files(state: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = plain(state)
        for row in rows:
            row["files"] = [
                asdict(change)
                for (operation, _), changes in sorted(_of_operation.items())
                if operation == row["op_hash"]
                for change in changes.values()
            ]
        return rows

    with_files.names_files = True  # type: ignore[attr-defined]
    prints.build_plan_json = with_files
