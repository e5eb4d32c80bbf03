"""What jobs had and used, from sacct 24.11: sums by account and user, and how well one job used what it had.

Pure: the commands that a controller runs, and what they print.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hpcstate.errors import HpcstateError
from hpcstate.slurm import job_use
from hpcstate.slurm.job_use import JobUse, tres_counts

_SUMS = ("JobIDRaw", "User", "Account", "ElapsedRaw", "AllocTRES")

_SINCE = re.compile(
    r"([0-9]{1,5})([hdw])|([0-9]{4}-[0-9][0-9]-[0-9][0-9](T[0-9][0-9]:[0-9][0-9](:[0-9][0-9])?)?)"
)
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


def starttime(since: str) -> str:
    """``30d``, ``12h``, ``2w``, ``2026-11-01`` or ``2026-11-01T08:00`` as sacct takes it (sacct(1), -S).

    Raises ValueError for anything else.
    """
    match = _SINCE.fullmatch(since)
    if match is None:
        raise ValueError(f"{since!r} is no time")
    number, unit, when = match.group(1, 2, 3)
    return when or f"now-{number}{_UNITS[unit]}"


def sums_command(since: str, users: Sequence[str] = (), accounts: Sequence[str] = ()) -> str:
    """The jobs of ``users`` in ``accounts`` (all, where there are none) since ``since``, a line each.

    Of a job that began before, or that still runs, only the time within counts (``--truncate``); one that was
    requeued has a line for each time that it ran (``--duplicates``).
    """
    words = ["--truncate", "--allocations", "--duplicates", f"--starttime={since}", "--endtime=now"]
    words += [f"--user={','.join(users)}"] if users else ["--allusers"]
    words += [f"--accounts={','.join(accounts)}"] if accounts else []
    return _sacct(_SUMS, words)


def job_command(job: int) -> str:
    """The job with the number ``job`` and its steps, a line each."""
    return f"timeout 120 {shlex.join(job_use.sacct_words(job))}"


def _sacct(columns: Iterable[str], words: Iterable[str]) -> str:
    fixed = ["sacct", "--noheader", "--parsable2", f"--format={','.join(columns)}"]
    return f"timeout 120 {shlex.join([*fixed, *words])}"


@dataclass(frozen=True)
class Usage:
    """What the jobs of a ``user`` in an ``account`` had: hours of CPUs and of GPUs. A job that was requeued
    counts once for each time that it ran.
    """

    account: str
    user: str
    jobs: int = 0
    cpu_hours: float = 0.0
    gpu_hours: float = 0.0


def parse_sums(text: str) -> list[Usage]:
    """What ``sums_command`` printed, a row for each account and user: the most GPUs first, then CPUs.

    A job that never had a node is none. Raises HpcstateError for a line that is no answer of sacct.
    """
    found: dict[tuple[str, str], list[float]] = {}
    for line in text.splitlines():
        _, user, account, elapsed, tres = _cells(line, len(_SUMS))
        counts = tres_counts(tres)
        if not counts:
            continue
        hours = _number(elapsed, line) / 3600
        sums = found.setdefault((account, user), [0, 0.0, 0.0])
        sums[0] += 1
        sums[1] += hours * counts.get("cpu", 0)
        sums[2] += hours * counts.get("gres/gpu", 0)
    rows = [Usage(*key, int(jobs), cpus, gpus) for key, (jobs, cpus, gpus) in found.items()]
    return sorted(rows, key=lambda row: (-row.gpu_hours, -row.cpu_hours, row.account, row.user))


def parse_job(text: str, job: int) -> JobUse | None:
    """What ``job_command`` printed of ``job``; None where it is not recorded.

    Raises HpcstateError for a line that is no answer of sacct.
    """
    try:
        return job_use.parse_job(text, job)
    except ValueError as error:
        raise _no_answer(str(error)) from error


def _cells(line: str, count: int) -> list[str]:
    cells = line.split("|")
    if len(cells) != count:
        raise _no_answer(line)
    return cells


def _number(text: str, line: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise _no_answer(line)
    return int(text)


def _no_answer(line: str) -> HpcstateError:
    return HpcstateError(
        f"this is no answer of sacct 24.11: {line!r}", hint="ask by hand on the controller: sacct --version"
    )
