"""A program of the throwaway root: how hpcstate.judge.inside starts one, hears it and ends it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/mnt")
"""Where the throwaway root is mounted: a folder that every system has, covered in this namespace only."""

SLURM = "slurm"
"""The user of Debian's packages, which the image has."""

START_SECONDS = 10.0
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Said:
    """What one daemon said: ``program`` and the ``node`` it stood for, its exit code, None if it ran on."""

    program: str
    node: str
    code: int | None
    output: str


class Program:
    """A program of the throwaway root that runs as ``user``; its output is kept in memory."""

    def __init__(self, words: Sequence[str], user: str, **environment: str) -> None:
        uid, gid = _ids(user)
        enter = ["unshare", "--user", f"--map-user={uid}", f"--map-group={gid}", f"--root={ROOT}", "--wd=/"]
        self._log = os.memfd_create("output")
        self._process = subprocess.Popen(
            [*enter, *words],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", **environment},
        )

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def ended(self) -> bool:
        """Whether it runs no more."""
        return self._process.poll() is not None

    def output(self) -> str:
        """Everything that it said so far."""
        return os.pread(self._log, os.fstat(self._log).st_size, 0).decode(errors="replace")

    def said(self, program: str, node: str = "") -> Said:
        """What it said, and its exit code if it ended; ``program`` is how it is called in messages."""
        return Said(program, node, self._process.poll(), self.output())

    def stop(self) -> None:
        """Ask it to end, as systemd does, and wait for it."""
        if not self.ended:
            self._process.terminate()
            until(lambda: self.ended, START_SECONDS)

    def close(self) -> None:
        """End it at once if it still runs, and forget what it said."""
        if not self.ended:
            self._process.kill()
        self._process.wait()
        os.close(self._log)


def _ids(user: str) -> tuple[str, str]:
    """User and group number of ``user`` (name or number) in the image; of slurm where it is not there."""
    rows = [line.split(":") for line in (ROOT / "etc/passwd").read_text().splitlines()]
    found = {name: (row[2], row[3]) for row in rows if len(row) > 3 for name in (row[2], row[0])}
    return found.get(user) or found[SLURM]


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until ``condition`` holds, at most so many ``seconds``. Whether it did."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def call(*words: str, check: bool = True) -> int:
    """Run a program of this machine and return its exit code; with ``check``, raise OSError for one but 0."""
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")
    return done.returncode
