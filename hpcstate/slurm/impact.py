"""What a change of Slurm's configuration asks of the daemons.

Pure: two versions of a file in, an impact out. The classes are data: impact.toml has one for
each key, with its source.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path

from hpcstate import hostlist
from hpcstate.slurm.read import Meaning, Subject, meaning

TABLE = Path(__file__).with_name("impact.toml")


class Level(IntEnum):
    """What one daemon needs. DRAIN: the node's slurmd restarts, and nothing may change while jobs hold it."""

    NONE = 0
    RECONFIGURE = 1
    RESTART = 2
    DRAIN = 3


@dataclass(frozen=True)
class Rule:
    """One row of the table: what each daemon needs when the key changes, and who says so."""

    slurmctld: Level
    slurmd: Level
    source: str


@dataclass(frozen=True)
class Change:
    """One difference. ``key`` is as a person reads it (``NodeName=compute-01 Gres``); ``old`` and ``new`` are
    empty where the key is absent. ``nodes`` are those that ``slurmd`` concerns, None for all; slurmd of any
    other node is reconfigured at most.
    """

    key: str
    old: str
    new: str
    slurmctld: Level
    slurmd: Level
    source: str
    nodes: frozenset[str] | None = None


@dataclass(frozen=True)
class Impact:
    """All the changes of one or more files, and what follows from them."""

    changes: tuple[Change, ...] = ()

    @property
    def slurmctld(self) -> Level:
        """What slurmctld needs."""
        return max((change.slurmctld for change in self.changes), default=Level.NONE)

    def slurmd(self, node: str) -> Level:
        """What slurmd needs on ``node``."""
        return max((_slurmd_on(node, change) for change in self.changes), default=Level.NONE)

    @property
    def level(self) -> str:
        """The class of the whole: none, reconfigure, restart slurmctld, restart slurmd, drain."""
        slurmd = max((change.slurmd for change in self.changes), default=Level.NONE)
        if slurmd is Level.DRAIN:
            return "drain"
        restarts = [
            name
            for name, level in (("slurmctld", self.slurmctld), ("slurmd", slurmd))
            if level is Level.RESTART
        ]
        if restarts:
            return f"restart {' and '.join(restarts)}"
        return max(self.slurmctld, slurmd).name.lower()

    def drained_nodes(self, nodes: Iterable[str]) -> tuple[str, ...]:
        """Those of ``nodes`` that must hold no jobs while this change is made."""
        return tuple(node for node in nodes if self.slurmd(node) is Level.DRAIN)

    def why(self, node: str | None = None) -> str:
        """The changed keys in one line, the strongest first; with ``node`` those that concern its slurmd."""
        ranked = sorted(
            self.changes,
            key=lambda change: -(_slurmd_on(node, change) if node else max(change.slurmctld, change.slurmd)),
        )
        return ", ".join(dict.fromkeys(change.key for change in ranked))


def combine(impacts: Iterable[Impact]) -> Impact:
    """The impact of several files that change together."""
    return Impact(tuple(change for impact in impacts for change in impact.changes))


def impact(old: str, new: str, file_name: str) -> Impact:
    """What changing the content of ``file_name`` (``slurm.conf``, ``cgroup.conf``, ``gres.conf``) asks for.

    An absent file is an empty text. Comments, order of lines, case and grouping do not count.
    Raises HpcstateError when a text is not a configuration file.
    """
    before, after = meaning(old, file_name), meaning(new, file_name)
    return Impact((*_parameter_changes(before, after, file_name), *_record_changes(before, after, file_name)))


def owed(
    applied: Mapping[str, str], current: Mapping[str, str], read: Collection[str], wanted: Mapping[str, str]
) -> Impact:
    """What bringing a host to the files ``wanted`` (name to content) asks of its daemons.

    ``applied`` are those that were recorded when we last had a daemon take them, ``current`` those that lie
    there. Where somebody changed one of them by hand and then started the daemon, or had it read its files
    anew (it is among the names ``read``), the daemon may have either: a file put back would not be enough.
    """
    by_hand = {name: text for name, text in current.items() if name in read}
    return combine(
        impact(text, content, name)
        for name, content in wanted.items()
        for text in dict.fromkeys((applied.get(name, ""), by_hand.get(name, applied.get(name, ""))))
    )


@cache
def table() -> Mapping[tuple[str, str, str], Rule]:
    """The rules by file, kind of record and key in lower case; ``("", "", "")`` is for unknown keys."""
    data = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    rules = {("", "", ""): _rule(data["unknown"])}
    for row in data["rule"]:
        for key in row["keys"]:
            place = (row["file"], row["record"], key.lower())
            if place in rules:
                raise ValueError(f"{TABLE.name}: {place} has two rules")
            rules[place] = _rule(row)
    return rules


def rule_of(file_name: str, record: str, key: str) -> Rule:
    """The rule of ``key`` on lines of kind ``record`` (empty for plain parameters) of ``file_name``."""
    rules = table()
    return rules.get((file_name, record, key.lower()), rules["", "", ""])


def _rule(row: Mapping[str, str]) -> Rule:
    return Rule(Level[row["slurmctld"].upper()], Level[row["slurmd"].upper()], row["source"])


def _slurmd_on(node: str, change: Change) -> Level:
    concerned = change.nodes is None or node in change.nodes
    return change.slurmd if concerned else min(change.slurmd, Level.RECONFIGURE)


def _change(key: str, values: tuple[str, str], rule: Rule, nodes: frozenset[str] | None = None) -> Change:
    old, new = values
    return Change(key, old, new, rule.slurmctld, rule.slurmd, rule.source, nodes)


def _parameter_changes(before: Meaning, after: Meaning, file_name: str) -> Iterator[Change]:
    for key in sorted(before.parameters.keys() | after.parameters.keys()):
        values = before.parameters.get(key, ""), after.parameters.get(key, "")
        if values[0] != values[1]:
            shown = after.spelling.get(key) or before.spelling.get(key, key)
            yield _change(shown, values, rule_of(file_name, "", key))


def _record_changes(before: Meaning, after: Meaning, file_name: str) -> Iterator[Change]:
    ordered = sorted(
        before.records.keys() | after.records.keys(), key=lambda record: (record.kind, record.name)
    )
    for record in ordered:
        title = f"{record.kind}={record.name}"
        old, new = before.records.get(record), after.records.get(record)
        nodes = _concerned(record, old, new)
        if old is None:
            yield _change(f"{title} added", ("", title), rule_of(file_name, record.kind, "added"), nodes)
        elif new is None:
            yield _change(f"{title} removed", (title, ""), rule_of(file_name, record.kind, "removed"), nodes)
        else:
            for key in sorted(old.keys() | new.keys()):
                values = old.get(key, ""), new.get(key, "")
                if values[0] != values[1]:
                    shown = after.spelling.get(key) or before.spelling.get(key, key)
                    yield _change(f"{title} {shown}", values, rule_of(file_name, record.kind, key), nodes)


def _concerned(
    record: Subject, old: Mapping[str, str] | None, new: Mapping[str, str] | None
) -> frozenset[str] | None:
    """The nodes whose slurmd a record is about: a node itself, the old nodes of a partition.

    A partition on ``ALL`` concerns all nodes, and so does a device, because a file has those of one node.
    """
    if record.kind == "NodeName":
        return frozenset((record.name,))
    if record.kind == "PartitionName":
        nodes = (old or new or {}).get("nodes", "")
        return None if nodes.upper() in ("", "ALL") else frozenset(hostlist.expand(nodes))
    return None
