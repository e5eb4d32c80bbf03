"""The reservations of a Slurm cluster, as slurmctld has them.

Written against scontrol 24.11.5 (data_parser v0.0.42). Its JSON lacks Comment and the flag REPLACE_DOWN, and
its times are no local ones; these come from the lines of `--oneliner`
(src/api/reservation_info.c, slurm_sprint_reservation_info).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, TypedDict

from hpcstate import programs
from hpcstate.errors import HpcstateError

MARK = "hpcstate:"
"""A comment that begins so is ours. slurmctld keeps it with the reservation, in its state."""

_LINE = re.compile(r"ReservationName=(.*?) StartTime=(\S+) EndTime=(\S+) .*? Flags=(\S*) (.*)")
_FLAGS = {"NO_HOLD_JOBS_AFTER_END": "NO_HOLD_JOBS_AFTER", "STATIC": "STATIC_ALLOC"}
"""Flags as slurmctld shows them, and as it takes them (slurm_protocol_defs.c, reservation_flags_string;
proc_args.c, parse_resv_flags)."""


class FoundReservation(TypedDict):
    """A reservation. ``mark`` is what follows MARK in its comment, None where it has another or none. Times
    are the controller's own; ``nodes`` is a host list."""

    mark: str | None
    start: str
    end: str
    users: list[str]
    groups: list[str]
    accounts: list[str]
    nodes: str
    node_count: int
    partition: str
    flags: list[str]


class ReservationsState(TypedDict):
    """``now`` by the controller's clock, and the reservations by name. ``used`` are those that jobs name,
    None where slurmctld does not say. Nothing counts but with ``answers``."""

    now: str
    found: dict[str, FoundReservation]
    used: list[str] | None
    answers: bool


def command() -> str:
    """The program reservations.sh."""
    return programs.command(Path(__file__).with_name("reservations.sh"))


def parse(text: str) -> ReservationsState:
    """What ``command`` printed. Raises HpcstateError for anything else."""
    state = ReservationsState(now="", found={}, used=[], answers=False)
    for line in text.splitlines():
        try:
            _take(state, *line.partition(" ")[::2])
        except (KeyError, TypeError, ValueError) as error:
            raise HpcstateError(
                f"this is no answer of reservations.sh: {line[:200]!r}",
                hint="ask it by hand on the controller",
            ) from error
    return state


def _take(state: ReservationsState, key: str, rest: str) -> None:
    if key == "now":
        state["now"] = rest
    elif key == "json":
        for item in json.loads(rest)["reservations"]:
            state["found"][str(item["name"])] = _found(item)
    elif key == "line":
        _add_line(state, rest)
    elif key == "job":
        used = state["used"] if state["used"] is not None else []
        used += [name for name in rest.split(",") if name not in (*used, "(null)")]
    elif key == "silent":
        state["used"] = None
    elif key == "answers":
        # One that was made between the two questions has no line.
        state["found"] = {name: each for name, each in state["found"].items() if each["start"]}
        state["answers"] = True
    else:
        raise ValueError(key)


def _found(item: Any) -> FoundReservation:
    return FoundReservation(
        mark=None,
        start="",
        end="",
        users=_names(item["users"]),
        groups=_names(item["groups"]),
        accounts=_names(item["accounts"]),
        nodes=str(item["node_list"]),
        node_count=int(item["node_count"]),
        partition=str(item["partition"]),
        flags=[],
    )


def _names(text: str) -> list[str]:
    return sorted(name for name in text.split(",") if name)


def _add_line(state: ReservationsState, line: str) -> None:
    match = _LINE.fullmatch(line)
    if not match or match[1] not in state["found"]:
        return  # a comment may have line breaks
    name, start, end, flags, rest = match.groups()
    comment = rest.partition(" Comment=")[2]
    each = state["found"][name]
    each["start"], each["end"] = start, end
    each["flags"] = sorted(_FLAGS.get(flag, flag) for flag in flags.split(",") if flag)
    each["mark"] = comment.removeprefix(MARK) if comment.startswith(MARK) else None
