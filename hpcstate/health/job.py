"""Prolog and epilog: short looks at a node beside a job, and a line of JSON for each.

They ask Slurm nothing (slurm.conf(5), Prolog): what they know is in their environment and on the node. A
prolog that fails drains the node, and its job waits again: it fails for what health would drain the node for,
and for nothing else. An epilog never fails. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hpcstate.health import gpus, processes
from hpcstate.health.checks import CHECKS
from hpcstate.health.decide import Look, refuses
from hpcstate.health.node import REFUSED, append, now, read_memory, write
from hpcstate.health.run import NodeCheck, due, read_config, run

EVENTS = Path("/var/log/slurm/job_events.jsonl")
JOBS = Path("/var/spool/hpcstate/jobs")
"""A folder for each job that runs here; what its tasks leave is in ``tasks``, which is the user's."""

REFUSES = 7
"""The exit code that prolog.sh makes a failure of: no accident ends with it."""

LONGEST = 50.0
_MOST_STEPS = 50
_LARGEST = 16 * 1024


def main(arguments: Sequence[str]) -> int:
    """``prolog`` or ``epilog``, of the job in the environment."""
    context = arguments[0]
    words, checks = read_config()
    job = int(os.environ["SLURM_JOB_ID"])
    uid, gid = int(os.environ["SLURM_JOB_UID"]), int(os.environ.get("SLURM_JOB_GID", "-1"))
    event = {
        "time": now(),
        "event": context,
        "job": job,
        "node": os.environ.get("SLURMD_NODENAME", words["node"]),
        "user": os.environ.get("SLURM_JOB_USER", str(uid)),
    }
    if context == "epilog":
        return epilog(event, words, checks, job, uid)
    return prolog(event, words, checks, job, uid, gid)


def prolog(
    event: dict[str, Any],
    words: Mapping[str, Any],
    checks: Sequence[NodeCheck],
    job: int,
    uid: int,
    gid: int,
) -> int:
    """Make the folder of the job, and look at the node."""
    folder = JOBS / str(job)
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    tasks = folder / "tasks"
    with contextlib.suppress(FileExistsError):
        tasks.mkdir(mode=0o700)
        os.chown(tasks, uid, gid)
    jobs = processes.running_jobs()
    results = run(due(checks, "prolog", jobs), words, CHECKS, context="prolog", longest=LONGEST)
    refused = refuses([check.rule for check in checks], results, read_memory().paused)
    append(EVENTS, {**event, **told(results), "gpus": gpus.state(), "remains": [], "mpi": {}})
    if refused is None:
        return 0
    write(REFUSED, asdict(refused))
    return REFUSES


def epilog(
    event: dict[str, Any], words: Mapping[str, Any], checks: Sequence[NodeCheck], job: int, uid: int
) -> int:
    """Look at what the job left, record what its tasks said, and remove its folder."""
    jobs = processes.running_jobs() - {job}
    remains = processes.remains(words, jobs=jobs, ended=job, uid=uid)
    own = [check for check in due(checks, "epilog", jobs) if check.own]
    results = run(own, words, CHECKS, context="epilog", longest=LONGEST)
    if any(check.name == "leftover" and "epilog" in check.contexts for check in checks):
        left = Look("leftover", "failed", "; ".join(remains)[:300], "user")
        results.insert(0, left if remains else Look("leftover", "ok"))
    tasks = sorted(steps(JOBS / str(job) / "tasks", uid), key=lambda found: found[0])
    for time, step, mpi in tasks:
        said = {"checks": [], "gpus": [], "remains": [], "mpi": mpi}
        append(EVENTS, {**event, "time": time, "event": "task_prolog", "step": step, **said})
    shutil.rmtree(JOBS / str(job), ignore_errors=True)
    append(EVENTS, {**event, **told(results), "gpus": gpus.state(), "remains": remains, "mpi": {}})
    return 0


def told(results: Sequence[Look]) -> dict[str, Any]:
    """The checks as an event has them."""
    return {"checks": [asdict(each) for each in results]}


def steps(folder: Path, uid: int) -> Iterator[tuple[str, str, dict[str, str]]]:
    """What the first task of each step left: when, the step, and what MPI was told. The folder is a user's:
    what is not a small plain file of the user is passed over."""
    try:
        names = sorted(path.name for path in folder.iterdir() if path.name.isdecimal())[:_MOST_STEPS]
    except OSError:
        return
    for name in names:
        try:
            descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue
        try:
            seen = os.fstat(descriptor)
            if not stat.S_ISREG(seen.st_mode) or seen.st_uid != uid:
                continue
            text = os.read(descriptor, _LARGEST).decode(errors="replace")
        finally:
            os.close(descriptor)
        time, mpi = step(text)
        yield time or now(), name, mpi


def step(text: str) -> tuple[str, dict[str, str]]:
    """What a task left, as ``NAME=VALUE`` lines, with its time."""
    pairs = dict(
        line.split("=", 1) for line in text.splitlines() if re.match(r"[A-Za-z_][A-Za-z0-9_]*=", line)
    )
    time = pairs.pop("time", "")
    return time if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", time) else "", pairs


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
