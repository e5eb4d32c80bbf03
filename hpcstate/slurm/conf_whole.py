"""A Slurm configuration file as a whole: the values that count, and the records with their defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hpcstate import hostlist
from hpcstate.errors import HpcstateError, Problem
from hpcstate.slurm.conf_lines import Statement

_DEFAULT = "default"
_MAX_RANGE = 64 * 1024
"""The longest range that Slurm expands (src/common/hostlist.c, MAX_RANGE)."""


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
                if name.lower() == _DEFAULT:
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
        return [record for record in self.records.get(begins, ()) if record.name.lower() != _DEFAULT]

    def problem(
        self, key: str, message: str, hint: str = "", severity: Literal["error", "warning"] = "error"
    ) -> Problem:
        """A problem at a plain key, without a line where the key is absent."""
        if key.lower() not in self.values:
            return Problem(0, key, message, hint, severity)
        statement = self.values[key.lower()][1]
        return Problem(statement.line, statement.place(key), message, hint, severity)


def names(expression: str) -> tuple[str, ...] | None:
    """The names of a hostlist expression; None when it is of a form that is not looked into.

    Slurm knows forms that hpcstate does not write (several brackets in one name, functions in braces).
    """
    bounds = re.findall(r"(\d+)-(\d+)", expression)
    if "{" in expression or any(len(high) > 9 or int(high) - int(low) > _MAX_RANGE for low, high in bounds):
        return None
    try:
        return hostlist.expand(expression)
    except (HpcstateError, ValueError):
        return None


def is_broken(expression: str) -> bool:
    """Whether the brackets of a hostlist expression do not match (src/common/hostlist.c)."""
    depth = 0
    for character in expression:
        depth += (character == "[") - (character == "]")
        if depth not in (0, 1):
            return True
    return depth != 0


def number(value: str, default: int) -> int:
    """The number that ``value`` is; ``default`` where it is none, which has a problem of its own."""
    return int(value) if re.fullmatch("[0-9]{1,18}", value) else default
