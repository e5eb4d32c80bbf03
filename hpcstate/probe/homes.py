"""Where the homes of a host come from: mounts, their units, and the NFS server of a controller."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypedDict

from hpcstate import programs
from hpcstate.errors import HpcstateError


class HomeMount(TypedDict):
    """One mount: ``type`` as the kernel calls it (``nfs4``, ``autofs``), ``options`` are all."""

    type: str
    source: str
    options: list[str]


class HomeUnit(TypedDict):
    """One systemd unit, in the words of systemctl(1): ``active``, ``enabled``, ``loaded`` and others."""

    load: str
    active: str
    enabled: str


class HomesState(TypedDict):
    """``way`` is the home of the account that hpcstate logs in with, empty without one. ``mounts`` are those
    at /home, the lowest first; ``kind`` is the type that its unit in /etc mounts there, ``none`` for a bind,
    empty without one; ``tags`` are the folders of the hypervisor that the machine has. ``programs`` are those
    of NFS that are installed. ``versions`` are those that the server speaks (``+4.2``), none where it does
    not run; ``exports`` is each path that it exports, with its clients. ``files`` are those asked for that
    are there.
    """

    way: str
    mounts: list[HomeMount]
    kind: str
    tags: list[str]
    units: dict[str, HomeUnit]
    programs: list[str]
    versions: list[str]
    exports: dict[str, list[str]]
    files: list[str]


def command(user: str, home: str, units: Sequence[str], files: Sequence[str] = (), root: str = "") -> str:
    """The program homes.sh: one round trip. ``root`` is put before each path that it reads."""
    return programs.command(
        Path(__file__).with_name("homes.sh"), arguments=(user, home, *units), files=" ".join(files), root=root
    )


def parse(text: str) -> HomesState:
    """What ``command`` printed. Raises HpcstateError for anything else."""
    state = HomesState(
        way="", mounts=[], kind="", tags=[], units={}, programs=[], versions=[], exports={}, files=[]
    )
    units: list[str] = []
    for line in text.splitlines():
        key, _, rest = line.partition(" ")
        words = rest.split()
        if key == "unit":
            units.append(rest)
        elif key == "way" and rest:
            state["way"] = rest
        elif key == "mount" and len(words) == 3:
            kind, source, options = words
            state["mounts"].append(HomeMount(type=kind, source=source, options=options.split(",")))
        elif key == "kind" and len(words) == 1:
            state["kind"] = rest
        elif key == "tag" and rest:
            state["tags"].append(rest)
        elif key == "program" and len(words) == 1:
            state["programs"].append(rest)
        elif key == "versions" and words:
            state["versions"] = words
        elif key == "export" and len(words) == 2:
            state["exports"].setdefault(words[0], []).append(words[1])
        elif key == "file" and rest:
            state["files"].append(rest)
        else:
            raise HpcstateError(f"this is no answer of homes.sh: {line!r}")
    state["units"] = parse_units(units, "homes.sh")
    return state


def parse_units(lines: Iterable[str], program: str) -> dict[str, HomeUnit]:
    """Units by name, from lines NAME=VALUE of ``program``; an empty one ends a unit. Raises HpcstateError."""
    units: dict[str, HomeUnit] = {}
    fields: dict[str, str] = {}
    for line in (*lines, ""):
        name, equals, value = line.partition("=")
        if equals:
            fields[name] = value
        elif line:
            raise HpcstateError(f"this is no answer of {program}: {line!r}")
        elif fields:
            units[fields.get("Id", "")] = HomeUnit(
                load=fields.get("LoadState", ""),
                active=fields.get("ActiveState", ""),
                enabled=fields.get("UnitFileState", ""),
            )
            fields = {}
    return units
