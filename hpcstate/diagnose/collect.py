"""Reads on a node what it knows of a job: the job's output, slurmd's log, the kernel's, prolog and epilog.

A program: ``python3 -I collect.py '{"job": 12, ...}'`` prints one JSON object. It needs Debian's Python
alone and nothing of hpcstate: ``hpcstate diagnose`` sends its text over SSH, diagnose_training_failure
imports it. It changes nothing. Its memory is bounded: of a large file it keeps the first lines, the last
ones and windows around what may be a message. A job's output is opened as the job's user: its path is that
user's word, and root may be nobody on his file server."""

from __future__ import annotations

import glob
import json
import os
import pwd
import re
import socket
import stat
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

HEAD, TAIL, WINDOWS = 60, 600, 2400
"""Lines that are kept: the first, the last, and of those between in windows around what may be a message."""
BEFORE, AFTER = 6, 30
LONGEST = 8000
"""Bytes of a line; a line may be a gigabyte of dots."""
MOST = 512 << 20
"""Bytes of a file that are read; of a larger one the last sixteenth of it and what is in front."""
SECONDS = 60
LOG_LINES = 400
MARGIN = 120
"""Seconds around a job in which a line of the kernel may be about it."""

TRIGGER = re.compile(
    rb"error|exception|traceback|fatal|fail|kill|abort|signal|cancel|denied|no such|not found|cannot|can't|"
    rb"could not|unable|timed? ?out|terminat|out of|xid|no space|quota|refused|reset by|stale|"
    rb"assert|segv|panic|corrupt|unreachable|in use|warn:|nccl warn|exit|oom|unavailable|invalid",
    re.I,
)
KERNEL = re.compile(
    r"oom-kill|Out of memory|out of memory|Killed process|NVRM: Xid|SXid|segfault at|general protection|"
    r"I/O error|"
    r"EXT4-fs.*error|XFS.*(?:error|Corruption)|BTRFS.*error|critical (?:medium|target)|"
    r"nvme.*(?:timeout|reset)|"
    r"read-only|not responding|mlx[45]|NIC Link is Down|Link is Down|PCIe Bus Error|AER:|mce:|EDAC|"
    r"invalid opcode"
)


def collect(asked: dict[str, Any]) -> dict[str, Any]:
    """What this node knows. ``asked``: ``job`` (number), ``paths`` of its output (may have wildcards of
    glob), ``user`` and ``folder`` of the job, ``since`` and ``until`` (seconds since 1970; until 0:
    now)."""
    found: dict[str, Any] = {"node": socket.gethostname().partition(".")[0], "files": [], "missing": []}
    with _as_user(str(asked.get("user") or ""), found["missing"]):
        names: list[str] = []
        for path in asked.get("paths") or ():
            full = str(Path(str(asked.get("folder") or "/"), str(path)))
            # Path.glob takes no pattern that begins at /.
            names += sorted(glob.glob(full))[:64] if glob.has_magic(full) else [full]  # noqa: PTH207
        for name in dict.fromkeys(names):
            try:
                found["files"].append(read(name))
            except OSError as error:
                found["missing"].append(f"{name}: {error.strerror or error}")
    found["slurm"] = _slurm(int(asked["job"]), found["missing"])
    found["kernel"] = _kernel(int(asked.get("since") or 0), int(asked.get("until") or 0), found["missing"])
    found["events"] = _events(int(asked["job"]), found["missing"])
    return found


def read(name: str) -> dict[str, Any]:
    """The lines of the file ``name`` that are kept, each with its number. Raises OSError, also for what is
    no plain file (a pipe would never end)."""
    # Without O_NONBLOCK a pipe that nobody writes to would be waited for.
    handle = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "is no plain file")
        head, windows, tail, last, whole = _kept(file, status.st_size)
    rows = {number: text for part in (head, windows, tail) for number, text in part}
    return {
        "path": name,
        "bytes": status.st_size,
        "modified": int(status.st_mtime),
        "lines": last,
        "whole": whole and len(rows) == last,
        "rows": sorted(rows.items()),
    }


_Rows = list[tuple[int, str]]


def _kept(file: BinaryIO, size: int) -> tuple[_Rows, _Rows, _Rows, int, bool]:
    """The first lines, those around what may be a message, and the last, each with its number; how many lines
    there were, and whether all of them were read."""
    head: _Rows = []
    windows: _Rows = []
    tail: deque[tuple[int, str]] = deque(maxlen=TAIL)
    before: deque[tuple[int, str]] = deque(maxlen=BEFORE)
    after, number, whole = 0, 0, True
    end = time.monotonic() + SECONDS
    for raw in _lines(file, size):
        number += 1
        if raw is None:
            whole = False
            continue
        text = raw.decode("utf-8", "replace")
        row = (number, text)
        tail.append(row)
        if len(head) < HEAD:
            head.append(row)
        if len(windows) < WINDOWS:
            if TRIGGER.search(raw):
                windows.extend(before)
                before.clear()
                after = AFTER
            if after > 0:
                windows.append(row)
                after -= 1
            else:
                before.append(row)
        if not number % 4096 and time.monotonic() > end:
            whole = False
            break
    return head, windows, list(tail), number, whole


def _lines(file: BinaryIO, size: int) -> Iterator[bytes | None]:
    """The lines, cut where they are too long; None where a part of a large file was left out."""
    skip = MOST - MOST // 16 if size > MOST else 0
    while raw := file.readline(LONGEST):
        piece = raw
        while not piece.endswith(b"\n") and len(piece) == LONGEST:
            if not (piece := file.readline(LONGEST)):
                break
            # The end of an overwritten line is what a terminal shows.
            raw = raw[: LONGEST // 2] + piece[-LONGEST // 2 :]
        yield raw.rstrip(b"\n")
        if skip and file.tell() > skip:
            file.seek(size - MOST // 16)
            file.readline(LONGEST)
            skip = 0
            yield None


@contextmanager
def _as_user(user: str, missing: list[str]) -> Iterator[None]:
    """As ``user``, where this runs as root: with his groups, as he would read the file himself."""
    if os.geteuid() != 0 or not user:
        yield
        return
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        missing.append(f"the job's output: this node does not know the user {user}")
        entry = pwd.getpwnam("nobody")
    groups = os.getgroups()
    os.initgroups(entry.pw_name, entry.pw_gid)
    os.setegid(entry.pw_gid)
    os.seteuid(entry.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


SLURMD_LOG = "/var/log/slurm/slurmd.log"
EVENTS = "/var/log/slurm/job_events.jsonl"


def _slurm(job: int, missing: list[str]) -> list[tuple[int, str]]:
    """The lines about ``job`` of slurmd's log and the one before it: newest last."""
    of_job = re.compile(rf"(?:StepId=|JobId=|job |\[){job}\b")
    return _grep(SLURMD_LOG, of_job, missing)


def _events(job: int, missing: list[str]) -> list[tuple[int, str]]:
    return _grep(EVENTS, re.compile(rf'"job": ?"?{job}\b'), missing, optional=True)


def _grep(
    path: str, pattern: re.Pattern[str], missing: list[str], *, optional: bool = False
) -> list[tuple[int, str]]:
    rows: deque[tuple[int, str]] = deque(maxlen=LOG_LINES)
    try:
        for name in (f"{path}.1", path):
            if name != path and not Path(name).exists():
                continue
            with Path(name).open("rb") as file:
                for number, raw in enumerate(_lines(file, os.fstat(file.fileno()).st_size), 1):
                    if raw is not None and pattern.search(text := raw.decode("utf-8", "replace")):
                        rows.append((number if name == path else 0, text))
    except OSError as error:
        if not (optional and isinstance(error, FileNotFoundError)):
            missing.append(f"{path}: {error.strerror}")
    return list(rows)


def _kernel(since: int, until: int, missing: list[str]) -> list[tuple[int, str]]:
    """The kernel's lines of that time that may be about a job; the number is the line's time."""
    words = ["journalctl", "--dmesg", "--boot=all", "--no-pager", "--quiet", "--output=short-unix"]
    words += [f"--since=@{max(0, since - MARGIN)}"] if since else []
    words += [f"--until=@{until + MARGIN}"] if until else []
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        missing.append(f"the kernel's log: {error}")
        return []
    if done.returncode or b"permission" in done.stderr.lower():
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        missing.append(
            f"the kernel's log: {said[-1] if said else f'journalctl ended with {done.returncode}'}"
        )
    rows: deque[tuple[int, str]] = deque(maxlen=LOG_LINES)
    for text in done.stdout.decode("utf-8", "replace").splitlines():
        stamp, _, rest = text.partition(" ")
        if KERNEL.search(rest) and re.fullmatch(r"\d+(?:\.\d+)?", stamp):
            rows.append((int(float(stamp)), rest))
    return list(rows)


if __name__ == "__main__":
    json.dump(collect(json.loads(sys.argv[1])), sys.stdout)
