"""Slurm's configuration files as Slurm's own parser reads them, line by line, keeping what it would refuse.

The syntax is that of src/common/parse_config.c (Slurm 24.11.5): comments go first, also within quotes; then
a backslash at the end joins the next line; then backslashes that escape are dropped. A line is one
``Key=value``, or a record (``NodeName=...``) of several. ``Include`` is known at the very beginning of a
line only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

_PAIR = re.compile(
    r'\s*(?P<key>[A-Za-z0-9_.]+)\s*(?P<operator>[-*+/]?)=\s*(?:"(?P<quoted>[^"]*)"|(?P<plain>\S+))(?=\s|\Z)',
    re.ASCII,
)
_CONTENT = re.compile(r"(?:[^\\#]|\\.|\\\Z)*", re.DOTALL)
_CONTINUED = re.compile(r"(?<!\\)(?:\\\\)*(?P<backslash>\\)\s*\Z", re.ASCII)
_INCLUDE = re.compile(r"include\s+(?P<file>\S*)(?P<rest>.*)", re.IGNORECASE | re.ASCII | re.DOTALL)

_NAME_WIDTH = 60

ReadInclude = Callable[[str], str | None]
"""The text of an included file by the name that the line gives; None when it cannot be read."""


@dataclass(frozen=True)
class Pair:
    """One ``Key=value`` as it is written; ``value`` is without quotes."""

    key: str
    operator: str
    value: str


@dataclass(frozen=True)
class Statement:
    """One logical line. ``line`` is where it begins in the file that was asked for.

    ``origin`` is the included file it is from and its line there (``nodes.conf:3``), else empty.
    ``begins`` is the key that makes it a record, in Slurm's spelling, "" for others. ``rest`` is what Slurm
    could not read as pairs. An Include line has the name of the file and what came of it: ``loop`` when the
    file includes itself, ``pattern`` when the name stands for several or for the cluster's.
    """

    line: int
    origin: str
    begins: str
    pairs: tuple[Pair, ...]
    rest: str
    file: str = ""
    included: Literal["", "read", "unread", "pattern", "loop"] = ""

    def place(self, key: str) -> str:
        """Where ``key`` is, as a person reads it: ``Key``, ``NodeName=n1 Key``, ``nodes.conf:3 Key``."""
        parts = [self.origin, key]
        if self.begins:
            name = f"{self.begins}={self.pairs[0].value[:_NAME_WIDTH]}"
            parts = [self.origin, name, "" if key.lower() == self.begins.lower() else key]
        return " ".join(part for part in parts if part)


def statements(text: str, records: Mapping[str, str], read_include: ReadInclude) -> Iterator[Statement]:
    """All statements of ``text`` and of what it includes, in the order in which Slurm reads them.

    ``records`` are the keys that begin a line of several pairs, lower case to spelling.
    """
    for number, line in logical_lines(text):
        yield from _read(number, "", line, records, read_include, ())


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """The 1-based number of the first line and the content of each line that is not blank."""
    first, joined = 0, ""
    for number, physical in enumerate(text.split("\n"), start=1):
        found = _CONTENT.match(physical.partition("\0")[0])
        content = found[0] if found else ""
        first = first or number
        continued = _CONTINUED.search(content)
        if continued:
            joined += content[: continued.start("backslash")]
            continue
        yield from _whole(first, joined + content)
        first, joined = 0, ""
    yield from _whole(first, joined)


def _whole(number: int, text: str) -> Iterator[tuple[int, str]]:
    line = re.sub(r"\\(.?)", r"\1", text, flags=re.DOTALL)
    if line.strip(" \t\v\f\r"):
        yield number, line


def _read(
    number: int,
    origin: str,
    line: str,
    records: Mapping[str, str],
    read_include: ReadInclude,
    chain: tuple[str, ...],
) -> Iterator[Statement]:
    include = _INCLUDE.match(line)
    if include is None:
        yield _statement(number, origin, line, records)
        return
    name, rest = include["file"], include["rest"].strip()
    text = None
    outcome: Literal["read", "unread", "pattern", "loop"] = "unread"
    if name in chain:
        outcome = "loop"
    elif "*" in name or "%c" in name:
        outcome = "pattern"
    elif name and (text := read_include(name)) is not None:
        outcome = "read"
    yield Statement(number, origin, "", (), rest, name, outcome)
    for inner, content in logical_lines(text or ""):
        yield from _read(number, f"{name}:{inner}", content, records, read_include, (*chain, name))


def _statement(number: int, origin: str, line: str, records: Mapping[str, str]) -> Statement:
    pairs: list[Pair] = []
    position, begins = 0, ""
    while found := _PAIR.match(line, position):
        value = found["plain"] if found["quoted"] is None else found["quoted"]
        pairs.append(Pair(found["key"], found["operator"], value))
        position = found.end()
        if len(pairs) == 1:
            begins = records.get(found["key"].lower(), "")
            if not begins:
                break
    return Statement(number, origin, begins, tuple(pairs), line[position:].strip())
