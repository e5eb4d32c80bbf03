"""HealthCheckProgram: looks at its node, and has slurmctld drain it, or end the drain that it made.

slurmd runs it as root again and again, also before the node is registered, and kills it after 60 s; what it
exits with means nothing to Slurm (slurm.conf(5), HealthCheckProgram). Standard library only.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import syslog
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hpcstate.health.checks import CHECKS
from hpcstate.health.decide import SINFO, AtSlurm, Consequence, Look, Memory, has_to_ask, parse, plan
from hpcstate.health.processes import running_jobs
from hpcstate.health.run import due, read_config, run

STATE = Path("/var/lib/hpcstate/health")
"""What a node remembers; root's alone."""

MEMORY = STATE / "memory.json"
REFUSED = STATE / "refused.json"
RECORD = Path("/var/log/slurm/health.jsonl")
"""A line for each look that found something."""

LONGEST = 35.0
"""Seconds for all checks; slurmd kills this program after 60."""

SLURM_SECONDS = 10


def main(arguments: Sequence[str] = ()) -> int:
    """One look; ``--look`` prints what it found as JSON and changes nothing. Exit code: 0, 1 where
    ``--look`` found something failed, 2 where it could not look."""
    look = list(arguments) == ["--look"]
    words, checks = read_config()
    node = os.environ.get("SLURMD_NODENAME", words["node"])
    jobs = running_jobs()
    STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    if look:
        results = run(due(checks, "periodic", jobs), words, CHECKS, context="periodic", longest=LONGEST)
        print(json.dumps([asdict(each) for each in results]))
        return int(any(each.result == "failed" for each in results))
    with (STATE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return 0  # the look before this one is still under way
        results = run(due(checks, "periodic", jobs), words, CHECKS, context="periodic", longest=LONGEST)
        memory = read_memory()
        nodes = ask() if has_to_ask(results, memory) else None
        found = plan([check.rule for check in checks], results, memory, node, nodes)
        done = act(node, found)
        write(MEMORY, {**asdict(found.memory), "refused": None, "told": found.memory.told or not done})
        if nodes is not None:
            REFUSED.unlink(missing_ok=True)
        record(node, results, found)
    return 0


def read_memory() -> Memory:
    """What the look before this one, and a prolog since then, have left; nothing where that is not to be
    read: then slurmctld is asked."""
    try:
        kept = json.loads(MEMORY.read_text(encoding="utf-8"))
        memory = Memory(dict(kept["failed"]), tuple(kept["paused"]), bool(kept["told"]))
    except (OSError, ValueError, KeyError, TypeError):
        memory = Memory()
    try:
        refused = Look(**json.loads(REFUSED.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return memory
    return Memory(memory.failed, memory.paused, memory.told, refused)


def write(path: Path, value: Any) -> None:
    """``value`` as JSON at ``path``, in one step."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps(value), encoding="utf-8")
    new.replace(path)


def ask() -> dict[str, AtSlurm] | None:
    """The nodes as slurmctld has them; None where it does not answer in time."""
    try:
        done = subprocess.run(
            SINFO,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SLURM_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return parse(done.stdout)


def act(node: str, found: Consequence) -> bool:
    """Tell slurmctld; whether it took it."""
    words = []
    if found.comment is not None:
        words.append(f"comment={found.comment}")
    if found.drain:
        words += ["state=drain", f"reason={found.drain}"]
    if found.resume:
        words += ["state=resume", "reason=none"]  # Slurm keeps the reason of a drain that is over
    if not words:
        return True
    done = slurm("scontrol", "update", f"nodename={node}", *words) is not None
    if done and found.requeue:
        listed = slurm("squeue", "--noheader", f"--nodelist={node}", "--states=R", "--format=%A") or ""
        for job in listed.split():
            slurm("scontrol", "requeue", job)
    return done


def slurm(*words: str) -> str | None:
    """What a command of Slurm printed; None where it failed, or did not end in time."""
    try:
        return subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SLURM_SECONDS,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or type(error).__name__
        syslog.syslog(syslog.LOG_WARNING, f"{' '.join(words)}: {said}")
        return None


def record(node: str, results: Sequence[Look], found: Consequence) -> None:
    """What was found and done, to the system's log and to a file of JSON lines, where it is anything."""
    said = list(found.said)
    if found.drain:
        said.append(f"{node} is drained: {found.drain}")
    if found.resume:
        said.append(f"{node} gets jobs again")
    if not said:
        return
    syslog.openlog("hpcstate-health", 0, syslog.LOG_DAEMON)
    for line in said:
        syslog.syslog(syslog.LOG_WARNING, line)
    append(
        RECORD,
        {
            "time": now(),
            "node": node,
            "checks": [asdict(each) for each in results],
            "said": said,
            "drain": found.drain,
            "resume": found.resume,
            "paused": list(found.memory.paused),
        },
    )


def now() -> str:
    """This moment in UTC, ISO 8601."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def append(path: Path, value: Any) -> None:
    """``value`` as a line of JSON behind ``path``, which is root's, and readable for the group adm. In one
    write: several may do so at once. What cannot be written is left: it fails no job."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o640)
        try:
            if os.fstat(descriptor).st_size == 0:
                os.fchmod(descriptor, 0o640)
                os.fchown(descriptor, 0, _adm())
            os.write(descriptor, (json.dumps(value, ensure_ascii=False) + "\n").encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        syslog.syslog(syslog.LOG_WARNING, f"{path}: {error.strerror}")


def _adm() -> int:
    # grp would ask a directory server where there is one.
    for line in Path("/etc/group").read_text(encoding="utf-8").splitlines():
        if line.startswith("adm:"):
            return int(line.split(":")[2])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
