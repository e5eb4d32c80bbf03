"""What jobs had and used, from sacct 24.11: sums by account and user, and how well one job used what it had.

Pure: the commands that a controller runs, and what they print.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hpcstate.errors import HpcstateError

_SUMS = ("JobIDRaw", "User", "Account", "ElapsedRaw", "AllocTRES")
_ONE = (
    *("JobIDRaw", "User", "Account", "State", "ElapsedRaw", "TimelimitRaw", "AllocTRES"),
    *("TotalCPU", "TRESUsageInTot"),
)

_SINCE = re.compile(
    r"([0-9]{1,5})([hdw])|([0-9]{4}-[0-9][0-9]-[0-9][0-9](T[0-9][0-9]:[0-9][0-9](:[0-9][0-9])?)?)"
)
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}


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
    return _sacct(_ONE, ["--allusers", f"--jobs={job}"])


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


@dataclass(frozen=True)
class JobUse:
    """One job: what it had (``cpus``, ``gpus``, ``memory`` in bytes, ``limit_s`` seconds, None without limit)
    and what it used: ``elapsed_s`` seconds, ``cpu_s`` seconds of all CPUs together, ``memory_used`` in bytes
    of the step that used most, None where Slurm has not measured it: while a job runs, or of a short one.
    """

    job: int
    user: str
    account: str
    state: str
    cpus: int
    gpus: int
    memory: int
    limit_s: int | None
    elapsed_s: int
    cpu_s: float
    memory_used: int | None

    @property
    def cpu_share(self) -> float | None:
        """The share of the CPUs' time in which they worked for the job; None before it began."""
        return self.cpu_s / (self.cpus * self.elapsed_s) if self.cpus and self.elapsed_s else None

    @property
    def memory_share(self) -> float | None:
        """The share of its memory that it used; None where that is not known."""
        return None if self.memory_used is None or not self.memory else self.memory_used / self.memory


def parse_job(text: str, job: int) -> JobUse | None:
    """What ``job_command`` printed of ``job``; None where it is not recorded.

    Raises HpcstateError for a line that is no answer of sacct.
    """
    lines = [(line, _cells(line, len(_ONE))) for line in text.splitlines()]
    own = next(((line, cells) for line, cells in lines if cells[0] == str(job)), None)
    if own is None:
        return None
    line, (_, user, account, state, elapsed, limit, tres, cpu, _) = own
    steps = [tres_counts(cells[-1]) for _, cells in lines if cells[0].startswith(f"{job}.")]
    measured = [step["mem"] for step in steps if "mem" in step]
    counts = tres_counts(tres)
    return JobUse(
        job=job,
        user=user,
        account=account,
        state=state,
        cpus=counts.get("cpu", 0),
        gpus=counts.get("gres/gpu", 0),
        memory=counts.get("mem", 0),
        limit_s=int(limit) * 60 if limit.isdecimal() else None,
        elapsed_s=_number(elapsed, line),
        cpu_s=cpu_seconds(cpu),
        memory_used=max(measured, default=None),
    )


def tres_counts(text: str) -> Mapping[str, int]:
    """Slurm's TRES as numbers (``cpu=2,mem=1.50G,gres/gpu:a=1``), memory in bytes; what is no number is left
    out (``fs/disk=12M`` is one, ``node=?`` is none)."""
    found = {}
    for item in text.split(","):
        name, _, value = item.partition("=")
        if match := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([KMGTP]?)", value):
            found[name] = round(float(match[1]) * _BYTES[match[2]])
    return found


def cpu_seconds(text: str) -> float:
    """Slurm's time of CPUs in seconds: ``[DD-[HH:]]MM:SS[.mmm]``; 0 for none."""
    days, _, rest = text.rpartition("-")
    try:
        seconds = sum(
            float(part) * weight
            for part, weight in zip(reversed(rest.split(":")), (1, 60, 3600), strict=False)
        )
        return seconds + int(days or 0) * 86400
    except ValueError:
        return 0.0


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
