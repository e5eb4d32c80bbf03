"""What the launchers and the watchdogs of a parallel job say of its ranks: which failed first, which one
the others waited for. Pure; standard library only."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from hpcstate.diagnose.lines import LogLine


@dataclass(frozen=True)
class Failed:
    """A task that failed, as its launcher says: ``line`` tells. ``code`` is its exit code, the signal's
    number negative; ``time`` seconds since 1970 where the launcher gives it."""

    line: LogLine
    rank: int | None = None
    node: str = ""
    code: int | None = None
    time: float | None = None
    error: str = ""
    first: bool = False


_HEAD = re.compile(r"^\s*(?P<root>Root Cause \(first observed failure\):|Other Failures:|\[\d+\]:)\s*$")
_FIELD = re.compile(r"^\s*(time|host|rank|exitcode|error_file|traceback)\s*: (.*)$")


def of_torchrun(lines: Sequence[LogLine]) -> list[Failed]:
    """The rows of torchrun's table, by time (torch/distributed/elastic/multiprocessing/errors/__init__.py):
    the one under "Root Cause" is the agent's own first; where agents of several nodes write one, the first
    by time is the first."""
    rows: list[Failed] = []
    current: Failed | None = None
    root = False
    for line in lines:
        if found := _HEAD.match(line.text):
            if found["root"].startswith("Root"):
                root = True
            elif found["root"].startswith("Other"):
                root = False
            if current is not None:
                rows.append(current)
            current = Failed(line, first=root) if found["root"].startswith("[") else None
            continue
        if current is None or not (cell := _FIELD.match(line.text)):
            continue
        current = _with(current, cell[1], cell[2].strip(), line)
    if current is not None:
        rows.append(current)
    known = [row for row in rows if row.rank is not None]
    return sorted(known, key=lambda row: (row.time is None, row.time or 0, not row.first))


def _with(row: Failed, name: str, value: str, line: LogLine) -> Failed:
    number = re.match(r"-?\d+", value)
    if name == "time":
        try:
            # A space or a T, as the version has it; a zone is not given.
            return replace(row, time=datetime.fromisoformat(value.replace("_", "T")).timestamp())
        except ValueError:
            return row
    if name == "host":
        return replace(row, node=value)
    if name == "rank" and number:
        return replace(row, rank=int(number[0]))
    if name == "exitcode" and number:
        return replace(row, code=int(number[0]), line=line)
    if name == "traceback":
        return replace(row, error=value)
    return row


_SRUN = re.compile(
    r"srun: error: (?P<node>\S+): tasks? (?P<ranks>\d[\d,-]*): "
    r"(?P<what>Exited with exit code (?P<code>\d+)|Out Of Memory|Killed|Terminated|Segmentation fault|"
    r"Aborted|"
    r"Bus error|Floating point exception|Illegal instruction|User defined signal \d|[A-Z][\w ()]+)"
)
_MPIRUN = re.compile(
    r"(?:mpirun|prterun|mpiexec) noticed that process rank (?P<rank>\d+) with PID \d+ on node (?P<node>\S+) "
    r"exited on signal (?P<signal>\d+)"
)
_MPIRUN_CODE = re.compile(r"Process name: \[(?:\[\d+,\d+\]|[\w.@-]+),(?P<rank>\d+)\]")
_ABORT = re.compile(
    r"MPI_ABORT was invoked on rank (?P<rank>\d+)|application called MPI_Abort\(.*- process (?P<other>\d+)"
)
_RECEIVED = re.compile(r"^\[(?P<node>[\w.-]+):\d+\] (?:\*\*\* Process received signal|Signal: )")
_ELASTIC = re.compile(r"failed \(exitcode: (?P<code>-?\d+)\) local_rank: (?P<rank>\d+)")
_DEEPSPEED = re.compile(r"\[launch\.py.*(?:exits with return code = (?P<code>-?\d+))")

_SIGNALS = {"Killed": 9, "Terminated": 15, "Segmentation fault": 11, "Aborted": 6, "Bus error": 7}


def of_launchers(lines: Iterable[LogLine]) -> list[Failed]:
    """What srun, mpirun and torchrun's agent say in a line of a task that failed, in their order."""
    found = []
    for line in lines:
        text = line.text
        if said := _SRUN.search(text):
            signal = next((number for word, number in _SIGNALS.items() if said["what"].startswith(word)), 0)
            first = re.search(r"\d+", said["ranks"])
            rank = int(first[0]) if first else None
            code = int(said["code"]) if said["code"] else -signal if signal else None
            found.append(Failed(line, rank, said["node"], code, error=said["what"]))
        elif said := _MPIRUN.search(text):
            found.append(Failed(line, int(said["rank"]), said["node"].rstrip("."), -int(said["signal"])))
        elif said := _ABORT.search(text):
            found.append(Failed(line, int(said["rank"] or said["other"]), error="MPI_ABORT"))
        elif said := _ELASTIC.search(text):
            found.append(Failed(line, None, "", int(said["code"])))
        elif said := _MPIRUN_CODE.search(text):
            found.append(Failed(line, int(said["rank"])))
    return found


@dataclass
class _Group:
    """What the ranks of one process group said of their collectives."""

    reported: dict[int, LogLine] = field(default_factory=dict)
    enqueued: dict[int, int] = field(default_factory=dict)
    operations: dict[int, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))


_TIMEOUT = re.compile(
    r"Watchdog caught collective operation timeout: WorkNCCL\((?:SeqNum=(?P<seq>\d+), )?OpType=(?P<op>\w+)"
)
_QUEUE = re.compile(
    r"(?:\[(?:PG (?P<group>ID \d+|\d+|\w+)[^\]]*?)?\s*Rank \d+\])"
    r".*last enqueued(?: NCCL)? work: (?P<last>-?\d+)"
)
_WORLD = re.compile(
    r"(?:world[ _]?size|nranks|WORLD_SIZE|num_processes|num_gpus)\W{1,3}(\d+)|rank \d+ nranks (\d+)", re.I
)


@dataclass(frozen=True)
class Waited:
    """Ranks that waited in a collective operation: ``reported`` said so, the ``suspects`` did not, or were
    behind. ``why`` says by what they are suspected; empty where nobody can be named."""

    reported: tuple[int, ...]
    suspects: tuple[int, ...]
    why: str
    line: LogLine


def waited(lines: Sequence[LogLine], tasks: int = 0) -> Waited | None:
    """Who kept the others waiting, where NCCL's watchdog of PyTorch timed out; None where it did not.
    ``tasks`` is the number of ranks where it is known."""
    groups: dict[str, _Group] = defaultdict(_Group)
    first: LogLine | None = None
    world = tasks
    whole = _Group()
    for line in lines:
        if size := _WORLD.search(line.text):
            world = max(world, int(size[1] or size[2]))
        if line.rank is None:
            continue
        if timeout := _TIMEOUT.search(line.text):
            first = first or line
            whole.reported.setdefault(line.rank, line)
            if timeout["seq"]:
                whole.operations[int(timeout["seq"])].setdefault(line.rank, timeout["op"])
        elif queue := _QUEUE.search(line.text):
            groups[queue["group"] or ""].enqueued.setdefault(line.rank, int(queue["last"]))
    if first is None:
        return None
    reported = tuple(sorted(whole.reported))
    silent = tuple(rank for rank in range(world) if rank not in whole.reported)
    if world > 1 and silent and len(silent) <= len(reported):
        return Waited(reported, silent, "the others reported a timeout, it did not", first)
    for group in groups.values():
        least, most = min(group.enqueued.values()), max(group.enqueued.values())
        behind = tuple(rank for rank, last in sorted(group.enqueued.items()) if last == least)
        if least < most and len(behind) * 2 <= len(group.enqueued):
            return Waited(reported, behind, f"it had begun {least} operations, others {most}", first)
    for number, by_rank in sorted(whole.operations.items()):
        names = sorted(set(by_rank.values()))
        if len(names) > 1:
            few = min(names, key=lambda name: sum(value == name for value in by_rank.values()))
            odd = tuple(rank for rank, name in sorted(by_rank.items()) if name == few)
            return Waited(
                reported, odd, f"operation {number} is {' on one and '.join(names)} on another rank", first
            )
    low = min(whole.operations, default=0)
    ranks = tuple(sorted(whole.operations.get(low, {})))
    if len(whole.operations) > 1 and len(ranks) * 2 <= len(reported):
        return Waited(
            reported, ranks, f"it still waited for operation {low}, the others for later ones", first
        )
    return Waited(reported, (), "", first)
