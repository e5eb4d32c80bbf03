"""What Slurm recorded of a job: the answer of ``sacct --json`` as types. Pure; standard library only.

The forms are those of data_parser v0.0.42 (Slurm 24.11), as its real sacct prints them; the older ones, in
which a number is no object and a state no list, are read too."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

PARSER = "v0.0.42"
"""The data_parser of 24.11 that does not change with a newer Slurm (sacct(1), --json)."""

_INFINITE = 0xFFFFFFFE

SIGNALS = {
    1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE",
    9: "SIGKILL", 10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM",
    24: "SIGXCPU", 25: "SIGXFSZ",
}  # fmt: skip
"""Names of signals on Linux (signal(7)), the same wherever this runs."""


def sacct_words(job: int | str) -> list[str]:
    """The command that prints ``job`` (``12``, of an array ``12_3``) with its steps as JSON."""
    return ["sacct", f"--json={PARSER}", "--allusers", "--duplicates", f"--jobs={job}"]


@dataclass(frozen=True)
class Ended:
    """How something ended: its exit ``code``, or the ``signal`` that ended it; 0 for none."""

    code: int = 0
    signal: int = 0

    @property
    def said(self) -> str:
        """``exit code 3``, ``signal 11 (SIGSEGV)``."""
        if self.signal:
            return f"signal {self.signal}" + (f" ({SIGNALS[self.signal]})" if self.signal in SIGNALS else "")
        return f"exit code {self.code}"


@dataclass(frozen=True)
class JobStep:
    """A step of a job. ``states`` as Slurm has them, ``tasks`` their number, times in seconds since 1970 (0:
    not yet), ``memory`` the most that one task of it used in bytes, None where it was not measured."""

    name: str
    states: tuple[str, ...]
    ended: Ended
    nodes: str = ""
    tasks: int = 0
    start: int = 0
    end: int = 0
    memory: int | None = None


@dataclass(frozen=True)
class JobRecord:
    """One run of a job. ``nodes`` is Slurm's host list, ``outputs`` are paths as Slurm has them, not
    expanded.

    Times in seconds since 1970 (0: not yet), ``limit_s`` seconds (None: none). ``asked`` and ``had`` are
    TRES by name (``cpu``, ``mem`` in MiB, ``node``, ``gres/gpu``)."""

    job: int
    name: str = ""
    user: str = ""
    account: str = ""
    partition: str = ""
    cluster: str = ""
    states: tuple[str, ...] = ()
    reason: str = ""
    ended: Ended = Ended()
    nodes: str = ""
    failed_node: str = ""
    folder: str = ""
    outputs: tuple[str, ...] = ()
    submit: int = 0
    start: int = 0
    end: int = 0
    limit_s: int | None = None
    array_job: int = 0
    array_task: int | None = None
    restarts: int = 0
    waits: str = ""
    killed_by: str = ""
    command: str = ""
    asked: Mapping[str, int] = field(default_factory=dict)
    had: Mapping[str, int] = field(default_factory=dict)
    steps: tuple[JobStep, ...] = ()

    @property
    def state(self) -> str:
        """Its state in one word; that of a run that was requeued is PENDING to sacct, with a flag beside
        it."""
        if "REQUEUED" in self.states:
            return "REQUEUED"
        return self.states[0] if self.states else "UNKNOWN"

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state not in ("PENDING", "RUNNING", "SUSPENDED", "CONFIGURING", "COMPLETING")

    @property
    def label(self) -> str:
        """``12``, of an array ``12_3``."""
        return f"{self.array_job}_{self.array_task}" if self.array_task is not None else str(self.job)


def parse(text: str) -> list[JobRecord]:
    """The runs of jobs in what ``sacct_words`` printed, in their order; a job that was requeued has several.

    Raises ValueError for what is no answer of sacct.
    """
    data = json.loads(text)
    if not isinstance(data, dict) or not isinstance(data.get("jobs"), list):
        raise ValueError("no list of jobs")
    return [_job(row) for row in data["jobs"] if isinstance(row, dict)]


def find(records: Sequence[JobRecord], job: str) -> JobRecord | None:
    """The one that ``job`` names, as 12 or 12_3. An array's number alone names its first task that
    failed; of a job that was requeued the last run that began is it."""
    labels = dict.fromkeys(
        one.label for one in records if job in (one.label, str(one.job), str(one.array_job))
    )
    last = [_last([one for one in records if one.label == label]) for label in labels]
    bad = next((one for one in last if one.over and one.state != "COMPLETED"), None)
    return bad or next(iter(last), None)


def _last(runs: Sequence[JobRecord]) -> JobRecord:
    """The last of a job's ``runs`` that began: one that waits to be run again says nothing of why it must."""
    ordered = sorted(runs, key=lambda one: one.submit)
    begun = [one for one in ordered if one.start]
    if begun and not ordered[-1].start:
        return replace(begun[-1], waits=ordered[-1].state)
    return ordered[-1]


def _job(row: Mapping[str, Any]) -> JobRecord:
    time, array = _map(row.get("time")), _map(row.get("array"))
    state = _map(row.get("state"))
    tres = _map(row.get("tres"))
    task = _optional(array.get("task_id"))
    limit = _optional(time.get("limit"))
    # Slurm gives both where both are one file; a file is read once.
    # sacct's own expansion knows no task, and of a node only its NodeName: the pattern is what counts.
    paths = [str(row.get(f"std{name}") or row.get(f"std{name}_expanded") or "") for name in ("out", "err")]
    return JobRecord(
        job=_number(row.get("job_id")),
        name=str(row.get("name") or ""),
        user=str(row.get("user") or _map(row.get("association")).get("user") or ""),
        account=str(row.get("account") or ""),
        partition=str(row.get("partition") or ""),
        cluster=str(row.get("cluster") or ""),
        states=_words(state.get("current")),
        reason="" if state.get("reason") in (None, "None") else str(state["reason"]),
        ended=_ended(row.get("exit_code")),
        nodes="" if row.get("nodes") in (None, "None assigned") else str(row["nodes"]),
        failed_node=str(row.get("failed_node") or ""),
        folder=str(row.get("working_directory") or ""),
        outputs=tuple(dict.fromkeys(path for path in paths if path)),
        submit=_number(time.get("submission")),
        start=_number(time.get("start")),
        end=_number(time.get("end")),
        limit_s=limit * 60 if limit is not None else None,
        array_job=_number(array.get("job_id")),
        array_task=task if _number(array.get("job_id")) else None,
        restarts=_number(row.get("restart_cnt")),
        killed_by=str(row.get("kill_request_user") or ""),
        command=str(row.get("submit_line") or ""),
        asked=_tres(tres.get("requested")),
        had=_tres(tres.get("allocated")),
        steps=tuple(_step(step) for step in row.get("steps") or () if isinstance(step, dict)),
    )


def _step(row: Mapping[str, Any]) -> JobStep:
    named, time, nodes = _map(row.get("step")), _map(row.get("time")), _map(row.get("nodes"))
    most = _map(_map(row.get("tres")).get("requested")).get("max")
    return JobStep(
        name=str(
            _map(named.get("id")).get("step_id") or named.get("id") or named.get("name") or ""
        ).rpartition(".")[2],
        states=_words(row.get("state")),
        ended=_ended(row.get("exit_code")),
        nodes=str(nodes.get("range") or ""),
        tasks=_number(_map(row.get("tasks")).get("count")),
        start=_number(time.get("start")),
        end=_number(time.get("end")),
        memory=_tres(most).get("mem"),
    )


def _ended(value: Any) -> Ended:
    row = _map(value)
    return Ended(_number(row.get("return_code")), _number(_map(row.get("signal")).get("id")))


def _tres(value: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in value or ():
        if isinstance(row, dict):
            name = str(row.get("type") or "")
            if row.get("name"):
                name += f"/{row['name']}"
            found[name] = found.get(name, 0) + _number(row.get("count"))
    return {name: count for name, count in found.items() if count > 0}


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _words(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        # Text of older ones: ``CANCELLED by 0``.
        return tuple(value.split()[:1])
    return tuple(str(word) for word in value) if isinstance(value, list) else ()


def _optional(value: Any) -> int | None:
    """A number of data_parser: an object that says whether it is one, or in older forms the number alone."""
    if isinstance(value, dict):
        return _number(value.get("number")) if value.get("set") and not value.get("infinite") else None
    number = _number(value)
    return None if not number or number >= _INFINITE else number


def _number(value: Any) -> int:
    if isinstance(value, dict):
        return _optional(value) or 0
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return int(value)
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?\d+", value) else 0
