"""The state of the nodes, by pyinfra as a program of its own: what it would change, what it changed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcstate.cluster import turn
from hpcstate.errors import HpcstateError
from hpcstate.model import Description
from hpcstate.node.drift import NAMED, STOPS
from hpcstate.node.file_change import FileChange
from hpcstate.node.known_hosts import complete_known_hosts
from hpcstate.paths import ROOT, ClusterPaths, shown
from hpcstate.registry.delivery import WITHOUT
from hpcstate.run import CLEAR_UP_SECONDS, tail
from hpcstate.slurm.change import WAITING
from hpcstate.terminal import ticking

FULL_STACK = "deploys/full_stack.py"
_GENERIC_INVENTORY = ROOT / "inventories" / "chosen.py"
_STARTING = re.compile(r"--> Starting operation: (.*?)\s*$")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_PROGRESS = 10.0
_WITH_US = ("setpriv", "--pdeathsig", "TERM", "--")
"""Ends a program as soon as this process is gone, also by kill -9 (prctl(2), PR_SET_PDEATHSIG): a deploy that
nobody follows would hold up the next one, for ever where it waits for jobs."""

_CAUSE = re.compile(r"\berror\b|\bfailed\b|\brefused\b", re.IGNORECASE)
_INTERRUPTED = (0, -signal.SIGINT, -signal.SIGTERM, 128 + signal.SIGINT)
"""The exit codes of a pyinfra that was interrupted: 0, without an answer, is its own."""


@dataclass(frozen=True)
class Operation:
    """One operation of a deploy: its name, and the hosts by what happened (or would happen) to them."""

    name: str
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    failed: tuple[str, ...]


@dataclass(frozen=True)
class DeployReport:
    """A finished run. ``duration`` is seconds; ``messages`` are what failing operations said; ``named`` is
    what is otherwise than described and was left as it is (docs/drift.md), each with its host. ``files`` are
    those that operations of ours would write or remove, of a plan only.
    """

    operations: tuple[Operation, ...]
    failed_hosts: tuple[str, ...]
    duration: float
    messages: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    files: tuple[FileChange, ...] = ()

    @property
    def changed(self) -> tuple[Operation, ...]:
        """The operations that changed a host."""
        return tuple(operation for operation in self.operations if operation.changed)


@dataclass(frozen=True)
class DeployChoice:
    """What a person may choose for a deploy: how many seconds jobs on a node are awaited (None: 3600),
    whether they are not awaited at all, and whether a node may be rebooted for NVIDIA's driver.
    """

    drain_seconds: float | None = None
    force: bool = False
    reboot: bool = False

    @property
    def data(self) -> tuple[str, ...]:
        """The same as pyinfra takes it (deploys/util/context.py, deploys/nvidia.py): ``key=value``."""
        found = [] if self.drain_seconds is None else [f"slurm_drain_seconds={self.drain_seconds:g}"]
        found += ["slurm_force=true"] if self.force else []
        return (*found, "nvidia_reboot=true") if self.reboot else tuple(found)


AS_USUAL = DeployChoice()


def deploy(
    description: Description,
    say: Callable[[str], None],
    deploy_file: str = FULL_STACK,
    choice: DeployChoice = AS_USUAL,
) -> DeployReport:
    """Bring the nodes into the declared state. Nodes that fail are in the report, the others go on.

    Raises HpcstateError when pyinfra could not run at all, and KeyboardInterrupt when it was interrupted; its
    whole output is in build/<cluster>/deploy.log.
    """
    data = [word for each in choice.data for word in ("--data", each)]
    return _run(description, say, deploy_file, ["-y", *data])


def plan(
    description: Description,
    say: Callable[[str], None],
    deploy_file: str = FULL_STACK,
    *,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
) -> DeployReport:
    """What ``deploy`` would change on nodes that run, all or ``only`` some; changes nothing. ``without``
    names the containers that are not built: what their delivery would change is left out. Machines that are
    smaller than described are no error: they would be changed first.
    """
    limits = [word for name in only for word in ("--limit", name)]
    return _run(
        description, say, deploy_file, ["--dry", "--diff", *limits, "--data", "machines_first=true"], without
    )


def _run(
    description: Description,
    say: Callable[[str], None],
    deploy_file: str,
    options: Sequence[str],
    without: Sequence[str] = (),
) -> DeployReport:
    dry = "--dry" in options
    log = ClusterPaths.of(description.clusters[0].name).root / ("plan.log" if dry else "deploy.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    for cluster in description.clusters:
        complete_known_hosts(cluster)
    begun = time.monotonic()
    pyinfra = Path(sys.executable).with_name("pyinfra")
    words = [*_WITH_US, str(pyinfra), "--json", *options, inventory_file(description.path), deploy_file]
    environment = {**os.environ, "HPCSTATE_CLUSTER_FILE": str(description.path), "PYINFRA_PROGRESS": "off"}
    environment[WITHOUT] = ",".join(without)
    with (
        log.open("w") as sink,
        subprocess.Popen(
            words,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # The turn lasts until pyinfra has ended, too, should this process be killed.
            pass_fds=() if dry else turn.held(),
        ) as process,
        # A plan of nodes that were never deployed is longer than a pipe holds (pipe(7): 64 KiB), and its log
        # ends only when it is written.
        ThreadPoolExecutor(1) as reader,
        # pyinfra names the operations that it executes; while it asks facts it says nothing.
        ticking(say, "comparing the nodes with what they should have", _PROGRESS) if dry else nullcontext(),
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        answer = reader.submit(process.stdout.read)
        try:
            lines = _follow(process.stderr, sink, say, begun)
            output = answer.result()
        except BaseException:
            _end(process)
            raise
    payload = _payload(output)
    if payload is None and process.returncode in _INTERRUPTED:
        # In the foreground Ctrl-C reaches it as well, and may end it before it ends us.
        raise KeyboardInterrupt
    if payload is None:
        causes = [line for line in lines if STOPS in line] or filter(_CAUSE.search, lines)
        cause = next((line.strip() for line in causes), "it gave no answer")
        raise HpcstateError(
            f"{cause}\npyinfra exited with {process.returncode}:\n{tail(chr(10).join(lines), 25)}",
            where=deploy_file,
            hint=f"the whole output is in {shown(log)}; `hpcstate status FILE` shows the nodes",
        )
    operations = _planned(payload["plan"]) if dry else _results(payload["results"]["operations"])
    failed = () if dry else tuple(payload["results"]["failed_hosts"])
    took = time.monotonic() - begun
    files = _files(payload["plan"]) if dry else ()
    return DeployReport(operations, failed, took, _messages(lines, failed), _named(lines), files)


def _end(process: subprocess.Popen[str]) -> None:
    """End pyinfra as Ctrl-C does, and by force when that takes too long: it must not go on changing nodes
    when nobody follows it any more."""
    # What ignores SIGINT (`&` in a script) has handed that on: pyinfra would not notice it either.
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    for number in (signal.SIGTERM if ignored else signal.SIGINT, signal.SIGKILL):
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(CLEAR_UP_SECONDS)
            return


def inventory_file(cluster_file: Path) -> str:
    """pyinfra's inventory of ``cluster_file``: the .py beside it, else the one that reads any file."""
    beside = cluster_file.with_suffix(".py")
    return str(beside if beside.is_file() else _GENERIC_INVENTORY)


def _follow(stream: Iterable[str], sink: Any, say: Callable[[str], None], begun: float) -> list[str]:
    """Copy pyinfra's log, and tell every ten seconds which operation runs, and at once whom it waits for.
    Returns the lines.
    """
    lines: list[str] = []
    shown = begun
    for raw in stream:
        line = _ANSI.sub("", raw.rstrip("\n"))
        sink.write(line + "\n")
        sink.flush()
        lines.append(line)
        match = _STARTING.search(line)
        now = time.monotonic()
        if WAITING in line or STOPS in line:
            say(line.strip())
        elif match and now - shown > _PROGRESS:
            shown = now
            say(f"{match[1]} ({now - begun:.0f} s)")
    return lines


def _payload(output: str) -> dict[str, Any] | None:
    try:
        found = json.loads(output)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _results(rows: Iterable[dict[str, Any]]) -> tuple[Operation, ...]:
    return tuple(
        Operation(row["name"], tuple(row["success"]), tuple(row["no_change"]), tuple(row["error"]))
        for row in rows
    )


def _planned(rows: Iterable[dict[str, Any]]) -> tuple[Operation, ...]:
    return tuple(
        Operation(
            row["name"], tuple(row["hosts_with_change"]), tuple(row["hosts_with_conditional_change"]), ()
        )
        for row in rows
    )


def _files(rows: Iterable[dict[str, Any]]) -> tuple[FileChange, ...]:
    """What operations.util.difference put beside the operations of a plan."""
    return tuple(FileChange(**each) for row in rows for each in row.get("files", ()))


def _named(lines: Iterable[str]) -> tuple[str, ...]:
    """The lines that operations.in_force said, without the word by which they are found."""
    return tuple(dict.fromkeys(line.strip().replace(NAMED, "", 1) for line in lines if NAMED in line))


def _messages(lines: list[str], failed: tuple[str, ...]) -> tuple[str, ...]:
    """What failed hosts wrote, of each at most twelve lines: the one that says why comes first, what was
    written last follows."""
    found: list[str] = []
    for host in failed:
        own = [line.strip() for line in lines if f"[{host}]" in line and "No changes" not in line]
        cause = [line for line in own if _CAUSE.search(line)][:1]
        last = own[-12 + len(cause) :]
        found += [*cause, *(line for line in last if line not in cause)]
    return tuple(found)
