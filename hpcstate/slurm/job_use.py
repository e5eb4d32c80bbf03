"""What one job had and what it used, from sacct 24.11. Pure: the words to ask with, and what comes back.

Standard library only: ``seff`` on the nodes is made of this file too (hpcstate/slurm/seff.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

COLUMNS = (
    *("JobIDRaw", "User", "Account", "State", "ElapsedRaw", "TimelimitRaw", "AllocTRES"),
    *("TotalCPU", "TRESUsageInTot", "JobID", "Cluster", "Group", "ExitCode", "NNodes"),
)

_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}


def sacct_words(job: int | str) -> list[str]:
    """The command that prints ``job`` (``12``, of an array ``12_3``) and its steps, a line each."""
    columns = ",".join(COLUMNS)
    return ["sacct", "--noheader", "--parsable2", f"--format={columns}", "--allusers", f"--jobs={job}"]


@dataclass(frozen=True)
class JobUse:
    """One job: what it had (``cpus``, ``gpus``, ``memory`` in bytes, ``limit_s`` seconds, None without limit)
    and what it used: ``elapsed_s`` seconds, ``cpu_s`` seconds of all CPUs together, ``memory_used`` in bytes
    of the step that used most, None where Slurm has not measured it: while a job runs, or of a short one.

    ``array_job`` is its name within an array (``12_3``), empty outside of one; ``exit_code`` Slurm's, without
    the signal.
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
    array_job: str = ""
    cluster: str = ""
    group: str = ""
    exit_code: int = 0
    nodes: int = 0

    @property
    def cpu_share(self) -> float | None:
        """The share of the CPUs' time in which they worked for the job; None before it began."""
        return self.cpu_s / (self.cpus * self.elapsed_s) if self.cpus and self.elapsed_s else None

    @property
    def memory_share(self) -> float | None:
        """The share of its memory that it used; None where that is not known."""
        return None if self.memory_used is None or not self.memory else self.memory_used / self.memory


def parse_job(text: str, job: int | str) -> JobUse | None:
    """What ``sacct_words`` printed of ``job``; None where it is not recorded.

    Raises ValueError, with the line, for one that is no answer of sacct.
    """
    lines = [(line, _cells(line)) for line in text.splitlines()]
    name = str(job)
    own = next(((line, cells) for line, cells in lines if name in (cells["JobIDRaw"], cells["JobID"])), None)
    if own is None:
        return None
    line, cells = own
    number, limit = cells["JobIDRaw"], cells["TimelimitRaw"]
    of_steps = [each for _, each in lines if each["JobIDRaw"].startswith(f"{number}.")]
    steps = [tres_counts(each["TRESUsageInTot"]) for each in of_steps]
    measured = [step["mem"] for step in steps if "mem" in step]
    counts = tres_counts(cells["AllocTRES"])
    exit_code, nodes = cells["ExitCode"].partition(":")[0], cells["NNodes"]
    return JobUse(
        job=_number(number, line),
        user=cells["User"],
        account=cells["Account"],
        state=cells["State"],
        cpus=counts.get("cpu", 0),
        gpus=counts.get("gres/gpu", 0),
        memory=counts.get("mem", 0),
        limit_s=int(limit) * 60 if limit.isdecimal() else None,
        elapsed_s=_number(cells["ElapsedRaw"], line),
        cpu_s=cpu_seconds(cells["TotalCPU"]),
        memory_used=max(measured, default=None),
        array_job=cells["JobID"] if "_" in cells["JobID"] else "",
        cluster=cells["Cluster"],
        group=cells["Group"],
        exit_code=int(exit_code) if exit_code.isdecimal() else 0,
        nodes=int(nodes) if nodes.isdecimal() else 0,
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


def _cells(line: str) -> Mapping[str, str]:
    cells = line.split("|")
    if len(cells) != len(COLUMNS):
        raise ValueError(line)
    return dict(zip(COLUMNS, cells, strict=True))


def _number(text: str, line: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(line)
    return int(text)
