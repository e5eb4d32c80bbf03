"""Runs checks side by side, each in a process of its own that is ended after its time.

Standard library only: it runs on nodes.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from hpcstate.health.decide import Look, Policy

CONFIG = Path("/etc/hpcstate/health.json")
"""What the deploy says of this node; the last file to be removed."""

OWN = Path("/etc/hpcstate/health.d")
"""The user's own checks."""

_LONGEST = 300
"""Characters of what a check says."""


@dataclass(frozen=True)
class NodeCheck:
    """A check of the declared list as the node has it: see hpcstate.model.HealthCheck."""

    name: str
    contexts: tuple[str, ...]
    on_fail: str
    timeout_s: int
    after: int
    states: tuple[str, ...]
    own: bool

    @property
    def rule(self) -> Policy:
        """What decides about it."""
        return Policy(self.name, self.on_fail, self.after)


def read_config(path: Path = CONFIG) -> tuple[dict[str, Any], tuple[NodeCheck, ...]]:
    """What the deploy wrote: words about the node, and its checks. Raises OSError, ValueError, TypeError."""
    words = json.loads(path.read_text(encoding="utf-8"))
    checks = tuple(
        NodeCheck(**{**each, "contexts": tuple(each["contexts"]), "states": tuple(each["states"])})
        for each in words["checks"]
    )
    return words, checks


def due(checks: Iterable[NodeCheck], context: str, jobs: Sequence[int] | set[int]) -> tuple[NodeCheck, ...]:
    """The checks of ``context``, of those that may run beside ``jobs``."""
    state = "allocated" if jobs else "idle"
    return tuple(
        check for check in checks if context in check.contexts and (not check.states or state in check.states)
    )


def run(
    checks: Sequence[NodeCheck],
    words: Mapping[str, Any],
    ours: Mapping[str, Callable[[Mapping[str, Any]], Iterable[Any]]],
    *,
    context: str,
    longest: float,
) -> list[Look]:
    """What the ``checks`` found, in their order; all of them within ``longest`` seconds.

    One that does not end, dies, raises, or is not known is ``broken``. A process that cannot be ended, for
    the kernel waits for a device, is left behind: nobody waits for it.
    """
    begun = time.monotonic()
    started: dict[int, tuple[NodeCheck, int, float]] = {}
    for check in checks:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            _child(check, words, ours, context, writing)
        os.close(writing)
        started[reading] = (check, pid, begun + min(check.timeout_s, longest))
    said: dict[str, bytes] = {check.name: b"" for check in checks}
    over: set[str] = set()
    while started:
        wait = min(limit for _, _, limit in started.values()) - time.monotonic()
        ready, _, _ = select.select(list(started), [], [], max(wait, 0))
        for reading in ready:
            part = os.read(reading, 65536)
            check, pid, _ = started[reading]
            said[check.name] += part
            if not part:
                os.close(reading)
                del started[reading]
                _reap(pid)
        for reading, (check, pid, limit) in list(started.items()):
            if time.monotonic() >= limit:
                over.add(check.name)
                os.close(reading)
                del started[reading]
                _reap(pid)
    return [
        _result(check, said[check.name], check.name in over, time.monotonic() - begun) for check in checks
    ]


def _reap(pid: int) -> None:
    """End the whole group of a child, and take note of its end if it is one."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(OSError):
            kill(pid, signal.SIGKILL)
    for _ in range(20):
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return
        except OSError:
            return
        time.sleep(0.01)


def _child(
    check: NodeCheck,
    words: Mapping[str, Any],
    ours: Mapping[str, Callable[[Mapping[str, Any]], Iterable[Any]]],
    context: str,
    writing: int,
) -> NoReturn:
    """Run ``check``, write what it found as JSON, and end. Whatever it prints goes nowhere."""
    found: dict[str, str]
    try:
        os.setpgid(0, 0)
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)
        found = _own(check, context) if check.own else _ours(check, words, ours)
    except BaseException:
        kind, error, _ = sys.exc_info()
        where = traceback.extract_tb(sys.exc_info()[2])[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        name = kind.__name__ if kind else "error"
        found = {"result": "broken", "detail": f"{name} in {place}: {error}", "blame": "node"}
    try:
        os.write(writing, json.dumps(found).encode())
    finally:
        os._exit(0)


def _ours(
    check: NodeCheck,
    words: Mapping[str, Any],
    ours: Mapping[str, Callable[[Mapping[str, Any]], Iterable[Any]]],
) -> dict[str, str]:
    wrong = list(islice(ours[check.name](words), 10))
    # The node's problem stands first, where both have one.
    wrong.sort(key=lambda each: each.blame != "node")
    if not wrong:
        return {"result": "ok", "detail": "", "blame": "node"}
    same = [each for each in wrong if each.blame == wrong[0].blame]
    return {"result": "failed", "detail": "; ".join(each.detail for each in same), "blame": wrong[0].blame}


def _own(check: NodeCheck, context: str) -> dict[str, str]:
    """A program of the user's: 0 is sound, 1 failed, anything else broken."""
    done = subprocess.run(
        (str(OWN / check.name),),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HEALTH_CONTEXT": context,
            **{name: value for name, value in os.environ.items() if name.startswith("SLURM")},
        },
        check=False,
    )
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    line = lines[0] if lines else ""
    result = {0: "ok", 1: "failed"}.get(done.returncode, "broken")
    if result == "broken":
        said = line or done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return {"result": result, "detail": f"it ended with {done.returncode}: {said}", "blame": "node"}
    blame = "user" if line.startswith("user:") else "node"
    return {"result": result, "detail": line.removeprefix("user:").strip(), "blame": blame}


def _result(check: NodeCheck, said: bytes, over: bool, seconds: float) -> Look:
    if over:
        return Look(check.name, "broken", f"it did not end in {min(check.timeout_s, seconds):.0f} s")
    try:
        found = json.loads(said)
    except ValueError:
        return Look(check.name, "broken", "it died")
    detail = " ".join(str(found["detail"]).split())
    return Look(check.name, found["result"], detail[:_LONGEST], found["blame"])
