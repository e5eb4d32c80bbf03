"""The rules, as types: rules.toml. Standard library only."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from hpcstate.diagnose.lines import LogLine

TABLE = Path(__file__).with_name("rules.toml")

Tier = Literal["cause", "program", "effect", "end"]
Sure = Literal["certain", "likely", "possible", "unknown"]
Blame = Literal["user", "node", "cluster", "unknown"]

TIERS: tuple[Tier, ...] = ("cause", "program", "effect", "end")


@dataclass(frozen=True)
class Cause:
    """What may have failed: a ``title``, who can mend it, and the ``steps``."""

    name: str
    title: str
    blame: Blame
    steps: str


@dataclass(frozen=True)
class CauseRule:
    """What a line means that has ``pattern`` and not ``unless``, in one of the sources ``within``. ``origin``
    is where the text comes from, ``steps`` stand for the cause's own where they are not empty."""

    number: int
    cause: Cause
    tier: Tier
    sure: Sure
    within: frozenset[str]
    pattern: re.Pattern[str]
    unless: re.Pattern[str] | None
    steps: str
    origin: str

    def fits(self, line: LogLine) -> re.Match[str] | None:
        """The match in ``line``, if it is what the rule is about."""
        if line.source not in self.within:
            return None
        found = self.pattern.search(line.text)
        return found if found and not (self.unless and self.unless.search(line.text)) else None


@cache
def causes() -> Mapping[str, Cause]:
    """The causes by name."""
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))["cause"]
    return {name: Cause(name, row["title"], row["blame"], row["steps"]) for name, row in table.items()}


@cache
def rules() -> tuple[CauseRule, ...]:
    """The rules in their order."""
    known = causes()
    return tuple(
        CauseRule(
            number,
            known[row["cause"]],
            row["tier"],
            row["sure"],
            frozenset(row.get("in", ("job",))),
            re.compile(row["pattern"]),
            re.compile(row["unless"]) if "unless" in row else None,
            row.get("steps", ""),
            row["from"],
        )
        for number, row in enumerate(tomllib.loads(TABLE.read_text(encoding="utf-8"))["rule"])
    )
