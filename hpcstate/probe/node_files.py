"""The contents of small text files of a node, many at once."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path

from hpcstate import programs
from hpcstate.errors import HpcstateError

LIMIT = 256 * 1024
"""Bytes of a file that are read: a node is not trusted to keep its files small."""


def command(paths: Sequence[str]) -> str:
    """The program node_files.sh for ``paths``."""
    return programs.command(Path(__file__).with_name("node_files.sh"), arguments=[LIMIT, *paths])


def parse(text: str, paths: Sequence[str]) -> dict[str, str]:
    """The contents by path, without the files that are not there; what is no UTF-8 is replaced.

    Raises HpcstateError for an answer that is not about ``paths``.
    """
    lines = text.splitlines()
    if len(lines) != len(paths):
        raise HpcstateError(f"{len(paths)} files were asked for, {len(lines)} lines came back")
    try:
        return {
            path: base64.b64decode(line[1:], validate=True).decode(errors="replace")
            for path, line in zip(paths, lines, strict=True)
            if line != "-"
        }
    except binascii.Error as error:
        raise HpcstateError(f"this is no content of a file: {error}") from error
