"""The walk over a parsed file: typed reads that collect every problem instead of stopping at the first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from hpcstate.errors import Problem, line_of
from hpcstate.schema.document import child, item, shown
from hpcstate.schema.keys import Keys, sections_with
from hpcstate.schema.leaf import Leaf, LeafError, closest

T = TypeVar("T")

NULL = ("", "null", "~", "Null", "NULL")
"""How YAML writes "nothing"; strictyaml leaves it as text."""


class Report:
    """The problems found so far, each with the line of its place."""

    def __init__(self, lines: Mapping[str, int]) -> None:
        self._lines = lines
        self._problems: dict[Problem, None] = {}
        self.ignored: list[str] = []

    def error(self, place: str, message: str, hint: str = "") -> None:
        """The file cannot be used as it is."""
        self._problems[Problem(self.line(place), place, message, hint)] = None

    def warning(self, place: str, message: str, hint: str = "") -> None:
        """Worth knowing; the file is used."""
        self._problems[Problem(self.line(place), place, message, hint, "warning")] = None

    def line(self, place: str) -> int:
        """The line of ``place``."""
        return line_of(self._lines, place)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All of them, in the order of the file."""
        return tuple(sorted(self._problems))

    @property
    def failed(self) -> bool:
        """Whether an error was reported."""
        return any(problem.severity == "error" for problem in self._problems)


class Section:
    """A mapping of the file at ``place``, with the keys it may have.

    Unknown keys are reported as soon as the section is entered. Reading a key that is not in ``keys`` is
    a mistake in the program and raises KeyError.
    """

    def __init__(self, report: Report, place: str, value: object, keys: Keys) -> None:
        self.report = report
        self.place = place
        self.keys = keys
        self._data: dict[str, Any] = {}
        if isinstance(value, dict):
            self._data = value
            self._check_keys()
        elif value not in NULL:
            report.error(place, f"expected a mapping (key: value), found {_kind(value)}")

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def at(self, key: str) -> str:
        """The place of ``key`` in this section."""
        return child(self.place, key)

    def raw(self, key: str) -> Any:
        """What stands under ``key``: dict, list or str; the empty text when it is absent."""
        if key not in self.keys.used:
            raise KeyError(key)
        return self._data.get(key, "")

    def value(self, key: str, leaf: Leaf[T], default: T) -> T:
        """The value of ``key``, or ``default`` when it is absent or wrong (then it is reported)."""
        found = self.raw(key)
        return read(self.report, self.at(key), found, leaf, default) if key in self._data else default

    def required(self, key: str, leaf: Leaf[T], fallback: T) -> T:
        """Like ``value``, and a missing key is reported. ``fallback`` lets the walk go on."""
        if key not in self._data:
            self.missing(key)
        return self.value(key, leaf, fallback)

    def missing(self, key: str) -> None:
        """Report that ``key`` is missing."""
        self.report.error(
            self.at(key),
            "is missing",
            f"add {key!r}; docs/cluster-file.md lists the keys of {self.keys.name}",
        )

    def section(self, key: str, keys: Keys) -> Section:
        """The mapping under ``key``; an empty one when it is absent."""
        return Section(self.report, self.at(key), self.raw(key), keys)

    def entries(self, key: str) -> list[tuple[str, Any]]:
        """The entries of the list under ``key``, each with its place; none when it is absent."""
        return entries(self.report, self.at(key), self.raw(key))

    def values(self, key: str, leaf: Leaf[T]) -> tuple[T, ...]:
        """The list of plain values under ``key``, without the wrong ones (which are reported)."""
        found = [read(self.report, place, value, leaf, None) for place, value in self.entries(key)]
        return tuple(value for value in found if value is not None)

    def _check_keys(self) -> None:
        for key, value in self._data.items():
            place = self.at(key)
            if key in self.keys.earlier:
                if value not in NULL and value not in ({}, []):
                    self.report.ignored.append(place)
                    self.report.warning(place, "known key of the earlier system, not used")
            elif key not in self.keys.all:
                self.report.error(place, f"unknown key {shown(key)} in {self.keys.name}", self._key_hint(key))

    def _key_hint(self, key: str) -> str:
        if elsewhere := sections_with(key):
            return f"this key belongs to {' or '.join(elsewhere)}"
        near = closest(key, self.keys.used + self.keys.labels)
        return near or f"keys here: {', '.join(self.keys.used + self.keys.labels)}"


def read(report: Report, place: str, found: object, leaf: Leaf[T], default: T) -> T:
    """``found`` as ``leaf`` reads it; ``default`` when it is no such value (then it is reported)."""
    try:
        if isinstance(found, str):
            return leaf(found)
        leaf("")  # a collection: ask the leaf what it expects
        raise LeafError("a single value")
    except LeafError as error:
        what = _kind(found) if not isinstance(found, str) else shown(found) if found else "nothing"
        report.error(place, f"expected {error.expected}, found {what}", error.hint)
        return default


def entries(report: Report, place: str, found: object) -> list[tuple[str, Any]]:
    """The entries of a list, each with its place; empty, and reported, when ``found`` is no list."""
    if isinstance(found, list):
        return [(item(place, position), value) for position, value in enumerate(found)]
    if found not in NULL:
        report.error(place, f"expected a list (- entry), found {_kind(found)}")
    return []


def _kind(value: object) -> str:
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list) else shown(value)
