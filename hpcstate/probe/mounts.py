"""What a node mounts by units of ours (``storage.mounts``), and what is really mounted there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from hpcstate import programs
from hpcstate.errors import HpcstateError
from hpcstate.probe.homes import HomeMount, HomeUnit, parse_units


class MountFile(TypedDict):
    """A unit file of ours: ``sha256`` of its content, ``place`` of which it is."""

    sha256: str
    place: str


class MountsState(TypedDict):
    """``files`` are unit files of ours by name, whether the cluster file has them or not; ``units`` what
    systemd says of the units asked for; ``mounts`` are those at a place, the lowest first."""

    files: dict[str, MountFile]
    units: dict[str, HomeUnit]
    mounts: dict[str, list[HomeMount]]


def command(places: Sequence[str], automounts: Sequence[str], mark: str, units: str, root: str = "") -> str:
    """The program mounts.sh: one round trip. ``root`` is put before each path that it reads."""
    return programs.command(
        Path(__file__).with_name("mounts.sh"),
        arguments=(*places, "--", *automounts),
        mark=mark,
        units=units,
        root=root,
    )


def parse(text: str) -> MountsState:
    """What ``command`` printed. Raises HpcstateError for anything else."""
    state = MountsState(files={}, units={}, mounts={})
    lines: list[str] = []
    for line in text.splitlines():
        key, _, rest = line.partition(" ")
        words = rest.split()
        if key == "unit":
            lines.append(rest)
        elif key == "file" and len(words) == 3:
            state["files"][words[0]] = MountFile(sha256=words[1], place=words[2])
        elif key == "mount" and len(words) == 4:
            place, kind, source, options = words
            mount = HomeMount(type=kind, source=source, options=options.split(","))
            state["mounts"].setdefault(place, []).append(mount)
        else:
            raise HpcstateError(f"this is no answer of mounts.sh: {line!r}")
    state["units"] = parse_units(lines, "mounts.sh")
    return state
