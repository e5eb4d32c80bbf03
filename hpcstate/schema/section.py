"""The walk over a parsed file: typed reads that collect every problem instead of stopping at the first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from hpcstate.errors import Problem, line_of
from hpcstate.schema.declare import AnyKey, EntriesKey, Keys, ListKey, MappingKey, SectionKey, ValueKey
from hpcstate.schema.document import child, item, shown
from hpcstate.schema.keys import sections_with
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
    """A mapping of the file at ``place``, with the keys that the table ``keys`` has.

    Unknown keys are reported as soon as the section is entered. Reading a key whose name is not in ``keys``
    is a mistake in the program and raises KeyError.
    """

    def __init__(self, report: Report, place: str, value: object, keys: type[Keys]) -> None:
        self.report = report
        self.place = place
        self.keys = keys
        self._data: dict[str, Any] = {}
        if isinstance(value, dict):
            self._data = value
            self._check_keys()
        elif value not in NULL:
            report.error(place, f"expected a mapping (key: value), found {_kind(value)}")

    def __contains__(self, key: AnyKey) -> bool:
        return key.name in self._data

    def at(self, key: AnyKey) -> str:
        """The place of ``key`` in this section."""
        return child(self.place, key.name)

    def raw(self, key: AnyKey) -> Any:
        """What stands under ``key``: dict, list or str; the empty text when it is absent."""
        if key.name not in self.keys.rows:
            raise KeyError(key.name)
        return self._data.get(key.name, "")

    def value(self, key: ValueKey[T]) -> T:
        """The value of ``key`` in any of its spellings, or its default when it is absent or wrong.

        Reported are a wrong value, a required key that is missing, and two spellings of one key.
        """
        spelled = self.spelled(key)
        found = self.raw(spelled)
        if spelled in self:
            return read(self.report, self.at(spelled), found, key.leaf, key.default)
        if key.required:
            self.missing(key)
        return key.default

    def spelled(self, key: AnyKey) -> AnyKey:
        """The row of the spelling that the section has of ``key``, itself when it has none."""
        other = self.keys.aliases.get(key.name)
        if other is None or other not in self:
            return key
        if key in self:
            self.report.error(
                self.at(key), f"{key.name} and {other.name} are the same key", "keep one of the two"
            )
            return key
        return other

    def missing(self, key: AnyKey) -> None:
        """Report that ``key`` is missing."""
        hint = f"add {key.name!r}; docs/cluster-file.md lists the keys of {self.keys.title}"
        self.report.error(self.at(key), *(key.missing or ("is missing", hint)))

    def section(self, key: SectionKey) -> Section:
        """The mapping under ``key``; an empty one when it is absent, reported when it is required."""
        if key.required and key not in self:
            self.missing(key)
        return self.under(key, key.table)

    def under(self, key: AnyKey, table: type[Keys]) -> Section:
        """What stands under ``key``, as a mapping with the keys of ``table``."""
        return Section(self.report, self.at(key), self.raw(key), table)

    def sections(self, key: EntriesKey) -> Iterator[Section]:
        """The mappings in the list under ``key``, each entered when it is its turn."""
        for place, value in self.entries(key):
            yield Section(self.report, place, value, key.table)

    def entries(self, key: EntriesKey | ListKey[T]) -> list[tuple[str, Any]]:
        """The entries of the list under ``key``, each with its place; none when it is absent."""
        if key.required and key not in self:
            self.missing(key)
        return entries(self.report, self.at(key), self.raw(key))

    def items(self, key: ListKey[T]) -> list[tuple[str, T]]:
        """The values in the list under ``key``, each with its place; the wrong ones are reported only."""
        found = [
            (place, read(self.report, place, value, key.leaf, None)) for place, value in self.entries(key)
        ]
        return [(place, value) for place, value in found if value is not None]

    def values(self, key: ListKey[T]) -> tuple[T, ...]:
        """The values in the list under ``key``, without the wrong ones (which are reported)."""
        return tuple(value for _, value in self.items(key))

    def pairs(self, key: MappingKey) -> list[tuple[str, str, str]]:
        """The mapping under ``key``: place, key and value of each right entry; others are reported."""
        found = self.raw(key)
        if not isinstance(found, dict):
            if found not in NULL:
                self.report.error(self.at(key), f"expected a mapping (key: value), found {_kind(found)}")
            return []
        pairs = []
        for name, value in found.items():
            place = f"{self.at(key)}.{name}" if name.isidentifier() else self.at(key)
            text = read(self.report, place, value, key.leaf, None)
            if read(self.report, place, name, key.name_leaf, None) is not None and text is not None:
                pairs.append((place, name, text))
        return pairs

    def _check_keys(self) -> None:
        for key, value in self._data.items():
            place = child(self.place, key)
            if key in self.keys.earlier:
                if value not in NULL and value not in ({}, []):
                    self.report.ignored.append(place)
                    note = self.keys.notes.get(key, "")
                    self.report.warning(place, "known key of the earlier system, not used", note)
            elif key not in self.keys.all:
                self.report.error(
                    place, f"unknown key {shown(key)} in {self.keys.title}", self._key_hint(key)
                )

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
