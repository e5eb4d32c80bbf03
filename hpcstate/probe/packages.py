"""The Debian packages of a host that the cluster file adds, and hpcstate's record of what it installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from hpcstate import programs
from hpcstate.errors import HpcstateError


class PackagesState(TypedDict):
    """``own`` was installed for the cluster file, ``along`` with one of those; ``installed`` are those of
    both, and of the names that were asked for, that are. ``needs`` has, by each of ``own`` that was not asked
    for, the packages that apt would remove with it."""

    own: list[str]
    along: list[str]
    installed: list[str]
    needs: dict[str, list[str]]


def command(names: Sequence[str] = (), record: str = "") -> str:
    """The program packages.sh: about ``names`` and those of ``record``."""
    return programs.command(Path(__file__).with_name("packages.sh"), arguments=names, record=record)


def parse(text: str) -> PackagesState:
    """What the program said; all of it is empty for no text.

    Raises HpcstateError for a line that is none of the program's.
    """
    state = PackagesState(own=[], along=[], installed=[], needs={})
    for line in text.splitlines():
        match line.split(" "):
            case ["own", name]:
                state["own"].append(name)
            case ["with", name]:
                state["along"].append(name)
            case ["installed", name]:
                state["installed"].append(name)
            case ["needs", name, other]:
                state["needs"].setdefault(name, []).append(other)
            case _:
                raise HpcstateError(f"this is no answer of packages.sh: {line!r}")
    return state
