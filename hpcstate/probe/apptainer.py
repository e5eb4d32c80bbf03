"""Apptainer on a host: its version, the settings in force, and what an ordinary user can do with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypedDict

from hpcstate import programs
from hpcstate.errors import HpcstateError

PROGRAMS = (
    "squashfuse",
    "fuse-overlayfs",
    "fuse2fs",
    "fusermount3",
    "mksquashfs",
    "newuidmap",
    "newgidmap",
)
"""What Apptainer starts for a user: FUSE mounts of a .sif, of an overlay and of an ext3 image, and the maps
of subordinate numbers."""

_SYSCTLS = {
    "kernel/unprivileged_userns_clone": "1",
    "kernel/apparmor_restrict_unprivileged_userns": "0",
    "user/max_user_namespaces": "",
}
"""Below /proc/sys: what decides whether users may make user namespaces, and the value that allows it (empty:
any but 0). The first is Debian's, the second AppArmor's; a kernel without one does not restrict it there."""


class SubidRange(TypedDict):
    """A line of /etc/subuid or /etc/subgid (subuid(5)): ``user`` is a name or a number."""

    user: str
    start: int
    count: int


class Apptainer(TypedDict):
    """``version`` is empty where Apptainer is absent. ``settings`` are the directives of apptainer.conf in
    force, each with its values in the order of the file. ``user_namespaces``: an ordinary user may make one.
    ``fuse_mode`` is the mode of /dev/fuse, octal, empty without it. ``programs`` are those of PROGRAMS that
    are there. ``setuid`` are starters that run with root's rights. ``subuid`` and ``subgid`` are the ranges.
    """

    version: str
    settings: dict[str, list[str]]
    user_namespaces: bool
    fuse_mode: str
    programs: list[str]
    setuid: list[str]
    subuid: list[SubidRange]
    subgid: list[SubidRange]


def command(root: str = "") -> str:
    """The program apptainer.sh; ``root`` is put before each path."""
    return programs.command(
        Path(__file__).with_name("apptainer.sh"),
        root=root,
        sysctls=" ".join(_SYSCTLS),
        programs=" ".join(PROGRAMS),
    )


def parse(text: str) -> Apptainer:
    """What ``command`` printed.

    Raises HpcstateError for a line it does not print: what a user can do is then unknown.
    """
    found = Apptainer(
        version="",
        settings={},
        user_namespaces=True,
        fuse_mode="",
        programs=[],
        setuid=[],
        subuid=[],
        subgid=[],
    )
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == "version":
            found["version"] = value
        elif key == "apptainer" and value.startswith("version "):
            found["version"] = value.removeprefix("version ")
        elif key == "setting":
            name, equals, values = value.partition("=")
            if not equals:
                raise HpcstateError(f"this is no directive of apptainer.conf: {value!r}")
            found["settings"].setdefault(name.strip(), []).append(values.strip())
        elif key == "sysctl" and value.count(" ") == 1:
            name, number = value.split()
            wanted = _SYSCTLS.get(name)
            found["user_namespaces"] &= number == wanted if wanted else number != "0"
        elif key == "fuse":
            found["fuse_mode"] = value
        elif key == "program":
            found["programs"].append(value)
        elif key == "setuid":
            found["setuid"].append(value)
        elif key == "subuid" and value:
            found["subuid"].append(_range(value))
        elif key == "subgid" and value:
            found["subgid"].append(_range(value))
        elif key == "unreadable":
            raise HpcstateError("the file cannot be read", where=value, hint="its mode should be 644")
        elif key not in ("subuid", "subgid"):
            raise HpcstateError(f"this is nothing about Apptainer: {line!r}")
    return found


def _range(line: str) -> SubidRange:
    parts = line.split(":")
    if len(parts) != 3 or not parts[1].isdecimal() or not parts[2].isdecimal():
        raise HpcstateError(f"this is no range of subordinate numbers (subuid(5)): {line!r}")
    return SubidRange(user=parts[0], start=int(parts[1]), count=int(parts[2]))


def is_at_least(version: str, least: str) -> bool:
    """Whether a version of Apptainer, Debian's (``1.4.5-2``) or its own, is ``least`` or newer; an empty one
    is not."""
    return bool(version) and _numbers(version) >= _numbers(least)


def _numbers(version: str) -> list[int]:
    upstream = version.rpartition(":")[2].partition("-")[0]
    return [int(number) for number in re.findall(r"\d+", upstream)]
