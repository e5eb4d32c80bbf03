"""What was collected (collect.py, sacct) as the lines, records and events that are judged. Pure; standard
library only."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpcstate.diagnose import events, lines
from hpcstate.diagnose.decide import Diagnosis, diagnose, with_sources
from hpcstate.diagnose.lines import LogLine
from hpcstate.diagnose.record import JobRecord

SLURMD_LOG = "/var/log/slurm/slurmd.log"


@dataclass(frozen=True)
class OutputFile:
    """A file of a job's output on ``node``: the numbered lines that were kept of it."""

    path: str
    node: str
    bytes: int
    lines: int
    whole: bool
    rows: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Collected:
    """All that is known of a job."""

    outputs: tuple[OutputFile, ...]
    lines: tuple[LogLine, ...]
    events: tuple[events.JobEvent, ...]
    looked: tuple[str, ...]
    missing: tuple[str, ...]


def request(record: JobRecord, paths: Sequence[str]) -> dict[str, Any]:
    """What collect.py is asked about ``record``; its output is at ``paths``, none of them for a node that
    is not asked for it."""
    return {
        "job": record.job,
        "paths": list(paths),
        "user": record.user,
        "folder": record.folder,
        "since": record.start or record.submit,
        "until": record.end,
    }


def gathered(answers: Mapping[str, Mapping[str, Any]], job: int, missing: Sequence[str] = ()) -> Collected:
    """The ``answers`` of collect.py by node. A file that several nodes have (a shared home) counts once."""
    outputs: dict[tuple[str, int], OutputFile] = {}
    found: list[LogLine] = []
    happened: list[events.JobEvent] = []
    looked, not_read = [], list(missing)
    readable = {str(file["path"]) for answer in answers.values() for file in answer.get("files", ())}
    for node, answer in answers.items():
        for file in answer.get("files", ()):
            key = (str(file["path"]), int(file.get("bytes", 0)))
            if key in outputs:
                continue
            rows = tuple((int(number), str(text)) for number, text in file.get("rows", ()))
            outputs[key] = OutputFile(key[0], node, key[1], int(file["lines"]), bool(file["whole"]), rows)
            looked.append(f"{node} {key[0]}" + ("" if file["whole"] else " (in part)"))
        # A folder of one node is not there on the others: that is told only where nobody has it.
        not_read += [
            f"{node}: {text}"
            for text in answer.get("missing", ())
            if not any(text.startswith(f"{path}:") for path in readable)
        ]
        kernel = [
            LogLine(str(text), "kernel", "kernel log", 0, node, time=float(at))
            for at, text in answer.get("kernel", ())
        ]
        found += of_this_job(kernel, job)
        found += [
            LogLine(
                str(text), "slurm", SLURMD_LOG, int(number), node, time=lines.stamped(str(text).lstrip("["))
            )
            for number, text in answer.get("slurm", ())
        ]
        happened += events.parse(
            [(int(number), str(text)) for number, text in answer.get("events", ())], job, node
        )
        looked.append(f"{node} logs of the node")
    for output in outputs.values():
        found += lines.of_job(output.rows, output.path, output.node)
    return Collected(tuple(outputs.values()), tuple(found), tuple(happened), tuple(looked), tuple(not_read))


_MEMCG = re.compile(r"oom-kill:constraint=(?P<constraint>\w+).*?task_memcg=(?P<group>\S+?),")
_OF_JOB = re.compile(r"/job_(\d+)(?:/|$)")


def of_this_job(kernel: Sequence[LogLine], job: int) -> list[LogLine]:
    """The lines of a kernel without the out-of-memory kills of other jobs and services: the kernel names
    the cgroup of the task (mm/oom_kill.c, dump_global_header), and Slurm's is ``…/job_N/step_…``."""
    kept, other = [], False
    for line in kernel:
        if found := _MEMCG.search(line.text):
            named = _OF_JOB.search(found["group"])
            other = int(named[1]) != job if named else found["constraint"] == "CONSTRAINT_MEMCG"
        elif not re.search(r"[Oo]ut of memory: Killed process|Killed process", line.text):
            kept.append(line)
            continue
        if not other:
            kept.append(line)
    return kept


def judge(collected: Collected, record: JobRecord | None) -> Diagnosis:
    """What all of it comes to."""
    found = diagnose(collected.lines, record, collected.events)
    looked = (*(("sacct",) if record is not None else ()), *collected.looked)
    return with_sources(found, looked, collected.missing)
