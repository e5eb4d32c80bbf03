"""The tables of accounting, and what the slurmdbd that is installed says of them.

Written against Slurm 24.11 and MariaDB 11.8. Everything that could wait has a time limit.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from hpcstate import programs
from hpcstate.errors import HpcstateError


class TablesState(TypedDict):
    """``answers``: MariaDB does. ``there``: slurmdbd has made its tables; ``version`` is the number that it
    keeps of them (CONVERT_VERSION in as_mysql_convert.c), 0 where there is none. ``code`` and ``said`` are
    exit code and last line of `slurmdbd -u`, which is asked only where they are there."""

    answers: bool
    there: bool
    version: int
    code: int
    said: str


def command(database: str, user: str) -> str:
    """The program tables.sh, for the database and slurmdbd's user."""
    return programs.command(Path(__file__).with_name("tables.sh"), database=database, user=user)


def parse(text: str) -> TablesState:
    """What ``command`` printed. Raises HpcstateError for anything else."""
    state = TablesState(answers=True, there=False, version=0, code=0, said="")
    for line in text.splitlines():
        key, _, rest = line.partition(" ")
        number = int(rest) if rest.isascii() and rest.isdecimal() else None
        if line == "silent":
            state["answers"] = False
        elif line == "there":
            state["there"] = True
        elif key == "version" and number is not None:
            state["version"] = number
        elif key == "code" and number is not None:
            state["code"] = number
        elif key == "said":
            state["said"] = rest
        else:
            raise HpcstateError(
                f"this is no answer of tables.sh: {line!r}", hint="ask it by hand on the controller"
            )
    return state
