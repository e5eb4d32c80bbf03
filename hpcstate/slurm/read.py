"""Slurm's configuration files as Slurm's own parser reads them: the one reader of slurm.conf and its kin.

Three views of a text, each on the one before it:

- ``statements``: line by line, keeping what Slurm would refuse (the linter, the judge's messages);
- ``Whole``: the values that count, and the records with their defaults (rules on a file, the judge);
- ``meaning``: keys and records without order, case and grouping, to compare two versions (the impact).

The syntax is that of src/common/parse_config.c (Slurm 24.11.5). For each line of the file (_get_next_line):

1. a comment is cut off, also within quotes, at the first ``#`` after an even number of backslashes
   (_strip_comments); its newline goes with it, so a comment that ends in a backslash continues nothing;
2. a line that ends in an odd number of backslashes, blanks after them aside, continues on the next: the last
   backslash and the blanks are dropped and nothing is put between, so a value may go on in column one of the
   next line (_strip_continuation); a blank or comment line ends the logical line;
3. once all is joined, a backslash stands for the character after it (_strip_escapes).

A line is one ``Key=value``, or a record (``NodeName=...``) of several (_parse_next_key). ``Include`` is known
at the very beginning of a line only (_parse_include_directive).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from hpcstate import hostlist
from hpcstate.errors import HpcstateError, Problem
from hpcstate.slurm.keys import KINDS, Kind, keys

_PAIR = re.compile(
    r'\s*(?P<key>[A-Za-z0-9_.]+)\s*(?P<operator>[-*+/]?)=\s*(?:"(?P<quoted>[^"]*)"|(?P<plain>\S+))(?=\s|\Z)',
    re.ASCII,
)
_CONTENT = re.compile(r"(?:[^\\#]|\\.|\\\Z)*", re.DOTALL)
_CONTINUED = re.compile(r"(?<!\\)(?:\\\\)*(?P<backslash>\\)\s*\Z", re.ASCII)
_INCLUDE = re.compile(r"include\s+(?P<file>\S*)(?P<rest>.*)", re.IGNORECASE | re.ASCII | re.DOTALL)

_BOUNDS = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,19}))?")

_NAME_WIDTH = 60
_DEFAULT = "default"
_WITH_DEFAULTS = ("NodeName", "PartitionName")
"""The records of which a DEFAULT line sets what the others do not say (src/common/read_config.c)."""
_MAX_NAMES = 1_000_000
"""Of an expression with more names than this, the names are not looked at."""

_ADDRESS_KEYS = frozenset(("nodeaddr", "nodehostname", "bcastaddr"))
_FILE_KEYS = ("file", "files", "multiplefiles")

ReadInclude = Callable[[str], str | None]
"""The text of an included file by the name that the line gives; None when it cannot be read here. It raises
FileNotFoundError when the file is missing where Slurm will look for it.
"""


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
    included: Literal["", "read", "unread", "absent", "pattern", "loop"] = ""

    def place(self, key: str) -> str:
        """Where ``key`` is, as a person reads it: ``Key``, ``NodeName=n1 Key``, ``nodes.conf:3 Key``."""
        parts = [self.origin, key]
        if self.begins:
            name = f"{self.begins}={self.pairs[0].value[:_NAME_WIDTH]}"
            parts = [self.origin, name, "" if key.lower() == self.begins.lower() else key]
        return " ".join(part for part in parts if part)


def statements(text: str, kind: Kind, read_include: ReadInclude = lambda name: None) -> Iterator[Statement]:
    """All statements of ``text``, a file of ``kind``, and of what it includes, in the order of Slurm."""
    for number, line in logical_lines(text):
        yield from _read(number, "", line, keys(kind).records, read_include, ())


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
    outcome: Literal["read", "unread", "absent", "pattern", "loop"] = "unread"
    if name in chain:
        outcome = "loop"
    elif "*" in name or "%c" in name:
        outcome = "pattern"
    elif name:
        try:
            text = read_include(name)
            outcome = "unread" if text is None else "read"
        except FileNotFoundError:
            outcome = "absent"
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
    return Statement(number, origin, begins, tuple(pairs), line[position:].strip(" \t\n\v\f\r"))


@dataclass(frozen=True)
class Record:
    """One record: its line, the value of the key that begins it, and its attributes by lower-case key.

    Attributes of the DEFAULT lines before it are included.
    """

    statement: Statement
    name: str
    attributes: Mapping[str, str]

    def problem(
        self, key: str, message: str, hint: str = "", severity: Literal["error", "warning"] = "error"
    ) -> Problem:
        """A problem at ``key`` of this record."""
        return Problem(self.statement.line, self.statement.place(key), message, hint, severity)


@dataclass(frozen=True)
class Whole:
    """A file with what it includes: the last value and line of each plain key, and the records of each kind.

    ``complete`` is False when an included file could not be read: then nothing is missing for certain.
    """

    values: Mapping[str, tuple[str, Statement]]
    records: Mapping[str, Sequence[Record]]
    complete: bool

    @staticmethod
    def of(statements: Sequence[Statement]) -> Whole:
        """From the statements of a file."""
        values: dict[str, tuple[str, Statement]] = {}
        records: dict[str, list[Record]] = {}
        defaults: dict[str, dict[str, str]] = {}
        for statement in statements:
            for pair in statement.pairs if not statement.begins else ():
                values[pair.key.lower()] = pair.value, statement
            if statement.begins:
                name = statement.pairs[0].value
                own = {pair.key.lower(): pair.value for pair in statement.pairs[1:]}
                before = defaults.get(statement.begins, {})
                if begins_defaults(statement.begins, name):
                    defaults[statement.begins] = {**before, **own}
                    own = {}
                records.setdefault(statement.begins, []).append(Record(statement, name, {**before, **own}))
        complete = all(statement.included in ("", "read") for statement in statements)
        return Whole(values, records, complete)

    def value(self, key: str) -> str:
        """The value of a plain key in lower case, empty where it is absent."""
        return self.values[key.lower()][0].lower() if key.lower() in self.values else ""

    def named(self, begins: str) -> list[Record]:
        """The records of a kind, DEFAULT lines excepted."""
        return [record for record in self.records.get(begins, ()) if not begins_defaults(begins, record.name)]

    def problem(
        self, key: str, message: str, hint: str = "", severity: Literal["error", "warning"] = "error"
    ) -> Problem:
        """A problem at a plain key, without a line where the key is absent."""
        if key.lower() not in self.values:
            return Problem(0, key, message, hint, severity)
        statement = self.values[key.lower()][1]
        return Problem(statement.line, statement.place(key), message, hint, severity)


def begins_defaults(begins: str, name: str) -> bool:
    """Whether a record is a DEFAULT line, which describes nothing by itself."""
    return begins in _WITH_DEFAULTS and name.lower() == _DEFAULT


@dataclass(frozen=True)
class Subject:
    """What a record is about: one node, partition or device. ``kind`` is NodeName, PartitionName or Name."""

    kind: str
    name: str


@dataclass(frozen=True)
class Meaning:
    """What a file says, however it is written. Keys are in lower case; ``spelling`` has them as written.

    A key that is given twice has both values, joined by a newline. What Slurm would refuse to read stands
    under UNREADABLE, so that it makes a difference as well.
    """

    parameters: Mapping[str, str]
    records: Mapping[Subject, Mapping[str, str]]
    spelling: Mapping[str, str]


UNREADABLE = "(what Slurm cannot read)"


def meaning(text: str, file_name: str) -> Meaning:
    """The meaning of ``text``, the content of ``file_name`` (``slurm.conf``), included files left aside.

    Comments, the order of lines and how names are grouped in hostlist expressions make no difference.
    Raises HpcstateError for a broken hostlist, ValueError for a file that is none of KINDS.
    """
    kind = next((kind for kind in KINDS if file_name == f"{kind}.conf"), None)
    if kind is None:
        raise ValueError(f"{file_name} is no configuration file of Slurm that hpcstate reads")
    read = list(statements(text, kind))
    parameters: dict[str, str] = {}
    spelling: dict[str, str] = {}
    for statement in read:
        spelling.update((pair.key.lower(), pair.key) for pair in statement.pairs)
        for key, value in _plain(kind, statement):
            spelling.setdefault(key.lower(), key)
            lower = key.lower()
            parameters[lower] = f"{parameters[lower]}\n{value}" if lower in parameters else value
    whole = Whole.of(read)
    records: dict[Subject, Mapping[str, str]] = {}
    for begins in ("NodeName", "Name" if kind == "gres" else "PartitionName"):
        for record in whole.named(begins):
            records.update(_devices(record) if kind == "gres" else _subjects(record))
    return Meaning(parameters, records, spelling)


def _plain(kind: Kind, statement: Statement) -> Iterator[tuple[str, str]]:
    """The pairs of a statement that are no node, partition or device, with what could not be read."""
    if statement.included:
        yield "Include", " ".join((statement.file, statement.rest)).strip()
        return
    if statement.rest:
        yield UNREADABLE, statement.rest
    if kind == "gres" and statement.begins == "NodeName":
        if not any(pair.key.lower() == "name" for pair in statement.pairs):
            # It names a node and no device: NodeName=x AutoDetect=nvml.
            yield "AutoDetect", " ".join(f"{pair.key.lower()}={pair.value}" for pair in statement.pairs)
    elif statement.begins not in ("NodeName", "PartitionName", "Name"):
        yield from ((pair.key, pair.value) for pair in statement.pairs)


def _subjects(record: Record) -> Iterator[tuple[Subject, Mapping[str, str]]]:
    """The nodes or partitions of a record; the addresses of several nodes are spread over them."""
    found = hostlist.expand(record.name)
    spread = {key: hostlist.expand(value) for key, value in record.attributes.items() if key in _ADDRESS_KEYS}
    for index, name in enumerate(found):
        own = {key: values[index] for key, values in spread.items() if len(values) == len(found)}
        yield Subject(record.statement.begins, name), {**record.attributes, **own}


def _devices(record: Record) -> Iterator[tuple[Subject, Mapping[str, str]]]:
    """One subject for each device file on each node; MultipleFiles are one device. Without files the type
    tells the devices of a node apart.
    """
    attributes = {record.statement.begins.lower(): record.name, **record.attributes}
    if "name" not in attributes:
        return
    rest = {key: value for key, value in attributes.items() if key not in ("nodename", "name", *_FILE_KEYS)}
    single = attributes.get("file") or attributes.get("files") or ""
    together = attributes.get("multiplefiles") or ("" if single else attributes.get("type", ""))
    for node in hostlist.expand(attributes.get("nodename", "")) or ("",):
        for file in hostlist.expand(single) or (together,):
            name = " ".join(word for word in (node, attributes["name"], file) if word)
            yield Subject("Name", name), rest


def names(expression: str) -> tuple[str, ...] | None:
    """The names of a hostlist expression; None for one that Slurm refuses, that has functions in braces, or
    more names than anybody has nodes.
    """
    sizes = [
        sum(
            int(high or low) - int(low) + 1
            for low, high in re.findall(r"([0-9]{1,19})(?:-([0-9]{1,19}))?", inside)
        )
        for inside in re.findall(r"\[([^\]]*)\]", expression)
    ]
    if "{" in expression or prod(map(abs, sizes)) > _MAX_NAMES:
        return None
    try:
        return hostlist.expand(expression)
    except HpcstateError:
        return None


def number(value: str, default: int) -> int:
    """The number that ``value`` is; ``default`` where it is none, which has a problem of its own."""
    return int(value) if re.fullmatch("[0-9]{1,18}", value) else default
