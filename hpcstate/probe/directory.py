"""What a node has of a directory of people: sssd, and whether it is ours and on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from hpcstate import programs
from hpcstate.errors import HpcstateError

PROGRAM = "/usr/sbin/sssd"


class UnitWords(TypedDict):
    """systemctl's words for a unit (``enabled``, ``active``)."""

    enabled: str
    active: str


class DirectoryState(TypedDict):
    """``installed``: there is sssd; ``record``: our note says that it is ours; ``conf``: there is an
    sssd.conf. ``units`` are those that were asked for and exist."""

    installed: bool
    record: bool
    conf: bool
    units: dict[str, UnitWords]


def command(units: Sequence[str], record: str, conf: str, root: str = "") -> str:
    """The program directory.sh. ``root`` is put before each path that it looks at."""
    return programs.command(
        Path(__file__).with_name("directory.sh"),
        arguments=units,
        record=record,
        conf=conf,
        program=PROGRAM,
        root=root,
    )


def parse(text: str) -> DirectoryState:
    """What ``command`` printed; nothing is there for no text. Raises HpcstateError for anything else."""
    state = DirectoryState(installed=False, record=False, conf=False, units={})
    for line in text.splitlines():
        match line.split(" "):
            case ["installed"]:
                state["installed"] = True
            case ["record"]:
                state["record"] = True
            case ["conf"]:
                state["conf"] = True
            case ["unit", name, enabled, active] if name and enabled and active:
                state["units"][name] = UnitWords(enabled=enabled, active=active)
            case _:
                raise HpcstateError(f"this is no answer of directory.sh: {line!r}")
    return state
