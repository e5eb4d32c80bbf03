"""The jobs of a cluster that hold resources now: whose they are, where, and how long they may take."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hpcstate import hostlist, programs
from hpcstate.errors import HpcstateError
from hpcstate.probe.slurm import STATES_HOLDING_RESOURCES

_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?:(?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>\d+)")
_NO_TIME = ("UNLIMITED", "NOT_SET", "INVALID", "")


@dataclass(frozen=True, order=True)
class RunningJob:
    """A job: its number, its user, the nodes that it holds, and the seconds until its time limit ends it;
    None where it has no limit."""

    number: int
    user: str
    nodes: tuple[str, ...]
    seconds_left: int | None

    def __str__(self) -> str:
        """The number, with whose it is and what it may still take: ``7 (alice, 0:12:00 left)``."""
        left = "no limit" if self.seconds_left is None else f"{time_left(self.seconds_left)} left"
        return f"{self.number} ({self.user}, {left})"


def command(applied: str) -> str:
    """The program running_jobs.sh; ``applied`` is the folder with the record of what Slurm runs with."""
    states = ",".join(STATES_HOLDING_RESOURCES)
    return programs.command(Path(__file__).with_name("running_jobs.sh"), arguments=[states, applied])


def parse(text: str) -> tuple[RunningJob, ...]:
    """The jobs of ``command``, by number; none where Slurm was never deployed.

    Raises HpcstateError when slurmctld is silent, and for an answer that cannot be understood: that is not
    the same as no jobs.
    """
    source, *lines = text.strip().splitlines() or [""]
    if source == "absent":
        return ()
    if source != "slurmctld":
        raise HpcstateError(
            "slurmctld does not answer: which jobs run is not known"
            if source == "silent"
            else f"this is no answer about jobs: {source[:80]!r}",
            hint="on the controller: systemctl status slurmctld",
        )
    return tuple(sorted(_job(line) for line in lines if line.strip()))


def _job(line: str) -> RunningJob:
    fields = line.strip().split("|")
    if len(fields) != 4 or not fields[0].isdigit():
        raise HpcstateError(
            f"this is no line of squeue: {line[:80]!r}", hint="squeue --version on the controller"
        )
    number, user, nodes, left = fields
    return RunningJob(int(number), user, hostlist.expand(nodes) if nodes else (), seconds_left(left))


def seconds_left(text: str) -> int | None:
    """The seconds of squeue's ``%L`` (``[[days-]hours:]minutes:seconds``, squeue(1)); None for no limit.

    Raises HpcstateError for another text.
    """
    if text.strip() in _NO_TIME:
        return None
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise HpcstateError(f"squeue has {text[:40]!r} as the time that a job has left")
    days, hours, minutes, seconds = (
        int(found[name] or 0) for name in ("days", "hours", "minutes", "seconds")
    )
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def time_left(seconds: int | None) -> str:
    """``seconds`` as squeue writes them; ``no limit`` for None."""
    if seconds is None:
        return "no limit"
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock
