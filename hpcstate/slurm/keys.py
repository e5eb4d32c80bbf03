"""What Slurm 24.11 knows of the keys of its configuration files: keys.toml as types."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

Kind = Literal[
    "slurm",
    "cgroup",
    "gres",
    "slurmdbd",
    "job_container",
    "mpi",
    "topology",
    "acct_gather",
    "helpers",
    "oci",
]
"""Which of the files, by its name without ``.conf``."""

KINDS: tuple[Kind, ...] = get_args(Kind)
LENIENT: Mapping[Kind, str] = {
    # src/interfaces/mpi.c: the keys that no plugin knows are left aside (PARSE_FLAGS_IGNORE_NEW).
    "mpi": "Slurm ignores it",
    # src/common/oci_config.c, read by slurmstepd for steps with a container.
    "oci": "steps with a container fail",
}
"""Files in which an unknown key stops no daemon, and what comes of it."""
TABLE = Path(__file__).with_name("keys.toml")

_TYPES = ("string", "boolean", "uint16", "uint32", "uint64", "float", "array", "ignored")
Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Key:
    """A key as Slurm spells it, and its type: one of src/common/parse_value.c, or array or ignored."""

    name: str
    type: str


@dataclass(frozen=True)
class WrongKey:
    """Why a known key is wrong wherever it is given: ``says`` ends the sentence that the key begins."""

    severity: Severity
    says: str
    hint: str


@dataclass(frozen=True)
class ValueRule:
    """What a value must be: one of ``one_of`` or of the form ``pattern``; of each part if ``is_list``.

    ``exact``: upper and lower case differ.
    """

    one_of: tuple[str, ...]
    pattern: re.Pattern[str] | None
    is_list: bool
    exact: bool
    severity: Severity
    says: str
    hint: str

    def fits(self, part: str) -> bool:
        """Whether one value, or one part of a list, is right."""
        if self.pattern and self.pattern.fullmatch(part):
            return True
        if self.exact:
            return part in self.one_of
        return part.lower() in {value.lower() for value in self.one_of}


@dataclass(frozen=True)
class Gone:
    """A key that Slurm does not know any more; ``until`` is the last release that did."""

    until: str
    hint: str


@dataclass(frozen=True)
class Family:
    """The plugins of one kind. ``prefix``: a value without the family's name is not found; ``also`` are other
    names of the family that are taken for it.

    ``elsewhere``: those that Debian has in a package of their own (its name) or does not have (empty).
    ``new``: those of later releases, with the first that has them.
    """

    name: str
    also: tuple[str, ...]
    prefix: bool
    names: frozenset[str]
    removed: frozenset[str]
    elsewhere: Mapping[str, str]
    new: Mapping[str, str]
    severity: Severity


@dataclass(frozen=True)
class KnownKeys:
    """Everything known of one kind of file.

    ``lines`` has the keys of each kind of line; "" is for lines of one plain key, the others are named by the
    key that begins them. ``verdicts`` and ``rules`` are by kind of line and key, ``families`` and ``gone`` by
    plain key. ``new`` has the release that first knows a key, by kind of line and key, and ``new_words`` that
    of each word in the list of a key. ``printed`` has what a command prints and is no key, with the hint
    for it. All of them are in lower case.
    """

    lines: Mapping[str, Mapping[str, Key]]
    verdicts: Mapping[tuple[str, str], WrongKey]
    rules: Mapping[tuple[str, str], ValueRule]
    families: Mapping[str, Family]
    gone: Mapping[str, Gone]
    new: Mapping[tuple[str, str], str]
    new_words: Mapping[tuple[str, str], Mapping[str, str]]
    printed: Mapping[tuple[str, str], str]

    @property
    def records(self) -> Mapping[str, str]:
        """The keys that begin a line of several pairs: lower case to Slurm's spelling."""
        return {begins.lower(): begins for begins in self.lines if begins}

    def new_words_of(self, begins: str, lower: str) -> Mapping[str, str]:
        """The words of a key of one kind of line that later releases know, with the first that does."""
        return self.new_words.get((begins, lower), {})


@cache
def keys(kind: Kind) -> KnownKeys:
    """The tables of one kind of file."""
    data = _data()
    lines = {
        row["begins"]: {name.lower(): Key(name, type_) for type_ in _TYPES for name in row.get(type_, ())}
        for row in data["line"]
        if row["kind"] == kind
    }
    verdicts = {
        (row["begins"], name.lower()): WrongKey(row["severity"], row["says"], row["hint"])
        for row, name in _rows(data["key"], kind)
    }
    rules = {(row["begins"], name.lower()): _rule(row) for row, name in _rows(data["value"], kind)}
    families = {
        row["key"].lower(): Family(
            row["family"],
            tuple(row.get("also", ())),
            row["prefix"],
            frozenset(row["names"]),
            frozenset(row.get("removed", ())),
            row.get("elsewhere", {}),
            row.get("new", {}),
            row.get("severity", "error"),
        )
        for row in data["plugin"]
        if kind in row["kind"].split()
    }
    gone = {name.lower(): Gone(row["until"], row["hint"]) for row, name in _rows(data["gone"], kind)}
    later = [row for row in data["new"] if row["kind"] == kind]
    new = {
        (row.get("begins", ""), name.lower()): row["since"] for row in later for name in row.get("keys", ())
    }
    new_words: dict[tuple[str, str], dict[str, str]] = {}
    for row in later:
        words = {word.lower(): row["since"] for word in row.get("words", ())}
        if words:
            new_words.setdefault((row.get("begins", ""), row["words_of"].lower()), {}).update(words)
    printed = {
        (row["begins"], name.lower()): f"{row['by']} prints it, and it is no key: {row['hint']}"
        for row, name in _rows(data["printed"], kind)
    }
    return KnownKeys(lines, verdicts, rules, families, gone, new, new_words, printed)


@cache
def _data() -> Mapping[str, Any]:
    return tomllib.loads(TABLE.read_text(encoding="utf-8"))


def _rows(rows: list[dict[str, Any]], kind: Kind) -> Iterator[tuple[dict[str, Any], str]]:
    for row in rows:
        if kind in row["kind"].split():
            for name in row["keys"]:
                yield row, name


def _rule(row: Mapping[str, Any]) -> ValueRule:
    pattern = row.get("pattern")
    return ValueRule(
        one_of=tuple(row.get("one_of", ())),
        pattern=re.compile(pattern, re.IGNORECASE) if pattern else None,
        is_list=row.get("list", False),
        exact=row.get("exact", False),
        severity=row["severity"],
        says=row.get("says", ""),
        hint=row.get("hint", ""),
    )
