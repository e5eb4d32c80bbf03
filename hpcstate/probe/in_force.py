"""What is in force on a host: names, accounts, modes, the kernel, units, firewall rules, clock sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypedDict, TypeVar

from hpcstate import programs
from hpcstate.errors import HpcstateError

_T = TypeVar("_T")


class PasswdEntry(TypedDict):
    """One account, as passwd(5) has it."""

    uid: int
    gid: int
    home: str
    shell: str


class PathState(TypedDict):
    """A file or folder; links are followed. ``mode`` is octal (``755``), ``owner`` is ``user:group`` (UNKNOWN
    where a number has no name), ``kind`` as stat(1) has it (``directory``)."""

    mode: str
    owner: str
    kind: str


class UnitState(TypedDict):
    """One systemd unit. ``load`` is ``loaded``, ``masked`` or ``not-found``; ``reload`` says that its files
    are newer than what systemd has read; ``fragment`` is the path of its unit file, empty when there is none.
    """

    load: str
    reload: bool
    fragment: str
    drop_ins: list[str]


class HostInForce(TypedDict):
    """What is in force on one host.

    ``named`` is the name in /etc/hostname. ``kernel`` are the values of sysctl(8) by key. ``rules_loaded``
    and ``rules_file`` are sha256 of the firewall's table, as loaded and as its file would load it: empty
    without a table, without a file that can be loaded, or without nft. ``sources`` are the addresses that
    chronyd follows, None when it does not answer. ``beside`` and ``sets`` are paths.
    """

    host: str
    named: str
    accounts: dict[str, PasswdEntry]
    places: dict[str, PathState]
    kernel: dict[str, str]
    units: dict[str, UnitState]
    rules_loaded: str
    rules_file: str
    sources: list[str] | None
    beside: list[str]
    sets: list[str]


NO_TEXT = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""The sha256 of nothing: what nft lists where there is no table."""


def command(
    places: Sequence[str] = (),
    accounts: Sequence[str] = (),
    kernel: Sequence[str] = (),
    units: Sequence[str] = (),
    table: str = "",
    rules: str = "",
    beside: Sequence[str] = (),
    sets: str = "",
    root: str = "",
) -> str:
    """The program in_force.sh: one round trip. ``root`` is put before each path but ``places``."""
    return programs.command(
        Path(__file__).with_name("in_force.sh"),
        arguments=places,
        accounts=" ".join(accounts),
        kernel=" ".join(kernel),
        units=" ".join(units),
        table=table,
        rules=rules,
        beside=" ".join(beside),
        sets=sets,
        root=root,
    )


def parse(text: str) -> HostInForce:
    """What the program said; all of it is empty for no text.

    Raises HpcstateError for a line that is none of the program's.
    """
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key not in _KEYS:
            raise HpcstateError(f"this is no answer of in_force.sh: {line!r}")
        found.setdefault(key, []).append(value)
    rules = dict(_each(_pair, found.get("rules", ())))
    return HostInForce(
        host="".join(found.get("host", ())),
        named="".join(found.get("named", ())),
        accounts=dict(_each(_account, found.get("account", ()))),
        places=dict(_each(_place, found.get("place", ()))),
        kernel=dict(_each(_pair, found.get("kernel", ()))),
        units=_units(found.get("unit", ())),
        rules_loaded=_digest(rules.get("loaded", "")),
        rules_file=_digest(rules.get("file", "")),
        sources=list(_each(_source, found.get("source", ()))) if "clock" in found else None,
        beside=found.get("beside", []),
        sets=found.get("sets", []),
    )


_KEYS = frozenset(
    ("host", "named", "account", "place", "kernel", "unit", "rules", "clock", "source", "beside", "sets")
)


def _each(read: Callable[[str], _T], values: Iterable[str]) -> Iterator[_T]:
    for value in values:
        try:
            yield read(value)
        except ValueError as error:
            raise HpcstateError(f"this is no answer of in_force.sh: {value!r}") from error


def _pair(value: str) -> tuple[str, str]:
    key, rest = value.split(" ", 1)
    return key, rest


def _account(value: str) -> tuple[str, PasswdEntry]:
    name, _, uid, gid, _, home, shell = value.split(":")
    return name, PasswdEntry(uid=int(uid), gid=int(gid), home=home, shell=shell)


def _place(value: str) -> tuple[str, PathState]:
    fields, path = value.split("|", 1)
    mode, owner, kind = fields.split(" ", 2)
    return path, PathState(mode=mode, owner=owner, kind=kind)


def _source(value: str) -> str:
    """chronyc(1), -c: mode, state, address, stratum, … separated by commas."""
    _, _, address, *_ = value.split(",")
    return address


def _digest(value: str) -> str:
    digest = value.partition(" ")[0]
    return "" if digest == NO_TEXT else digest


def _units(lines: Iterable[str]) -> dict[str, UnitState]:
    """Units by name without ``.service``, from lines NAME=VALUE; an empty one ends a unit."""
    units: dict[str, UnitState] = {}
    fields: dict[str, str] = {}
    for line in (*lines, ""):
        name, _, value = line.partition("=")
        if name:
            fields[name] = value
        elif fields:
            units[fields.get("Id", "").removesuffix(".service")] = UnitState(
                load=fields.get("LoadState", ""),
                reload=fields.get("NeedDaemonReload") == "yes",
                fragment=fields.get("FragmentPath", ""),
                drop_ins=fields.get("DropInPaths", "").split(),
            )
            fields = {}
    return units
