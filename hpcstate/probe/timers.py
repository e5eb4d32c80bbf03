"""The timers of systemd that hpcstate has on a host: their files, and whether they are on."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from hpcstate import programs
from hpcstate.errors import HpcstateError


class TimerState(TypedDict):
    """``sha256`` is the digest of program, service and timer, one behind the other, ``mode`` that of the
    program (octal digits, empty without one); ``enabled`` and ``active`` are systemctl's words for the
    timer."""

    sha256: str
    mode: str
    enabled: str
    active: str


def command(mark: str, units: str, programs_in: str, root: str = "") -> str:
    """The program timers.sh: one round trip. ``root`` is put before each path that it reads."""
    return programs.command(
        Path(__file__).with_name("timers.sh"), mark=mark, units=units, programs=programs_in, root=root
    )


def parse(text: str) -> dict[str, TimerState]:
    """What ``command`` printed, by name without ``.timer``. Raises HpcstateError for anything else."""
    found = {}
    for line in text.splitlines():
        key, *words = line.split("|")
        if key != "timer" or len(words) != 5 or not words[0]:
            raise HpcstateError(f"this is no answer of timers.sh: {line!r}")
        name, sha256, mode, enabled, active = words
        found[name] = TimerState(sha256=sha256, mode=mode, enabled=enabled, active=active)
    return found
