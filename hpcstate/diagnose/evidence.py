"""What speaks for which cause, and how much: a job's lines, its nodes' kernels, its prolog and epilog, what
Slurm recorded of it, its launchers. Pure; standard library only.

Which cause it was decides hpcstate.diagnose.decide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from hpcstate.diagnose.events import JobEvent
from hpcstate.diagnose.lines import LogLine
from hpcstate.diagnose.python import Traceback
from hpcstate.diagnose.ranks import Failed
from hpcstate.diagnose.record import SIGNALS, Ended, JobRecord
from hpcstate.diagnose.rules import Cause, CauseRule, Sure, Tier, causes, rules
from hpcstate.gpu.xids import judged

WEIGHTS = {
    "recorded": 100,  # by Slurm or the kernel, of this job
    "hardware": 95,
    "node": 90,
    "traceback": 85,  # an exception that ended a program, and says what failed
    "cause": 80,
    "weak-late": 55,
    "waiting": 50,
    "limit": 45,
    "signal-in-traceback": 44,
    "program": 40,
    "cancelled": 38,
    "crash": 30,
    "code": 28,
    "weak-early": 25,
    "killed": 20,
    "effect": 15,
    "exit": 10,
}
"""How much each kind of evidence counts."""

_WEAK = ("missing-file", "missing-software", "permission")
"""What scripts say of things that they can do without: it counts where it ended a program, or stands at the
end."""

WAITING = ("collective-timeout", "network")
"""Causes that are a symptom of something before them, where there is something."""

_LATE = 40
"""Lines before the end within which such a message is the last thing that was said."""

KEPT = 4
"""Lines of evidence for each rule."""


@dataclass(frozen=True)
class Evidence:
    """A line (or what Slurm recorded: a line of source ``record``) that speaks for ``cause``, with
    ``weight``. ``origin`` is the rule's source, ``index`` its place among all lines."""

    cause: Cause
    tier: Tier
    sure: Sure
    weight: int
    line: LogLine
    index: int
    origin: str = ""
    node: str = ""
    rank: int | None = None
    steps: str = ""
    place: str = ""


@dataclass
class Weighed:
    """What was ``found`` so far, and ``notes`` on what else should be known."""

    found: list[Evidence] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def succeeded(record: JobRecord) -> bool:
    """Whether the job of ``record`` ended well."""
    return record.state == "COMPLETED" and not record.ended.code and not record.ended.signal


LAUNCH = re.compile(r"launch.?fail|JobHoldMaxRequeue|prolog|BadConstraints.*held|JobHeldAdmin", re.I)
"""Reasons of a job that could not be started."""


def by_rules(
    lines: Sequence[LogLine], own: Sequence[LogLine], traced: Sequence[Traceback], weighed: Weighed
) -> None:
    """What the rules say of ``lines``; ``own`` are those of the job's output, ``traced`` its exceptions."""
    ends = {id(one.line): one for one in traced}
    last = _last_lines(own)
    counted: dict[tuple[int, int | None], int] = {}
    for index, line in enumerate(lines):
        traceback = ends.get(id(line))
        rule, match = _rule(line)
        if rule is None or match is None:
            if traceback is not None:
                weighed.found.append(_of_traceback(traceback, index))
            continue
        named = match.groupdict()
        key = (rule.number, line.rank)
        counted[key] = counted.get(key, 0) + 1
        if counted[key] > KEPT:
            continue
        weighed.found.append(
            Evidence(
                rule.cause,
                rule.tier,
                rule.sure,
                _weight(rule, line, traceback, last.get(line.path, 0)),
                line,
                index,
                rule.origin,
                named.get("node") or line.node,
                int(named["rank"]) if named.get("rank") else line.rank,
                rule.steps,
                traceback.place if traceback else "",
            )
        )


_COUNTED = re.compile(
    r"\b(?:no|0|zero) (?:error|failure|exception|fatal|killed|warning|abort)|"
    r"(?:error|failure|exception)s?\s*[:=]\s*0\b",
    re.I,
)
"""Programs that count, and found none."""


def _rule(line: LogLine) -> tuple[CauseRule | None, re.Match[str] | None]:
    if _COUNTED.search(line.text):
        return None, None
    for rule in rules():
        if match := rule.fits(line):
            return rule, match
    return None, None


def _last_lines(lines: Iterable[LogLine]) -> dict[str, int]:
    """The number of the last line of each file that has something to say."""
    return {line.path: line.number for line in lines if line.text.strip()}


def _weight(rule: CauseRule, line: LogLine, traceback: Traceback | None, last: int) -> int:
    name = rule.cause.name
    if rule.tier == "effect":
        return WEIGHTS["cancelled"] if name == "cancelled" and "JOB " in line.text else WEIGHTS["effect"]
    if rule.tier == "end":
        if traceback is not None and not traceback.wraps:
            return WEIGHTS["signal-in-traceback"]
        return WEIGHTS["crash" if name == "crash" else "killed"]
    if rule.tier == "program":
        return WEIGHTS["weak-early"]
    if line.source in ("kernel", "slurm") and rule.sure == "certain":
        return WEIGHTS["recorded"]
    if name == "gpu-hardware":
        return WEIGHTS["hardware"]
    if name == "time-limit":
        return WEIGHTS["limit"]
    if name in WAITING:
        return WEIGHTS["waiting"]
    if name in ("node-failure", "preempted"):
        return WEIGHTS["node"]
    if name == "memory" and "oom" in line.text.lower():
        return WEIGHTS["recorded"]
    if traceback is not None and not traceback.wraps:
        return WEIGHTS["traceback"]
    if name in _WEAK and "execve" not in line.text and "open_output" not in line.text:
        return WEIGHTS["weak-late" if last - line.number <= _LATE else "weak-early"]
    return WEIGHTS["cause"]


def _of_traceback(traceback: Traceback, index: int) -> Evidence:
    """What an exception is whose words no rule knows."""
    cause = causes()["exit-code" if traceback.wraps else "program"]
    tier: Tier = "effect" if traceback.wraps else "program"
    weight = WEIGHTS["effect" if traceback.wraps else "program"]
    return Evidence(
        cause, tier, "possible" if traceback.wraps else "likely", weight, traceback.line, index,
        "Python, traceback", traceback.line.node, traceback.line.rank, place=traceback.place,
    )  # fmt: skip


_XID = re.compile(r"NVRM: Xid \((?:PCI:)?(?P<address>[^ )]+)[^)]*\): (?P<number>\d+),?\s*(?P<rest>.*)")

_PROCESS = re.compile(r"^pid='?[^,]*'?,\s*(?:name=[^,]*,\s*)?")


def by_xids(lines: Sequence[LogLine], weighed: Weighed) -> None:
    """Xids of the kernel's log, judged by the table of NVIDIA's catalog (hpcstate/gpu/xids.toml)."""
    for index, line in enumerate(lines):
        if not (found := _XID.search(line.text)):
            continue
        number, rest = int(found["number"]), _PROCESS.sub("", found["rest"])
        known = judged(number, rest)
        origin = f"hpcstate/gpu/xids.toml, Xid {number}: {known.meaning}"
        tier: Tier
        if known.severity == "error":
            cause, tier, weight = causes()["gpu-hardware"], "cause", WEIGHTS["hardware"]
        elif known.severity == "note":
            cause, tier, weight = causes()["gpu-program"], "program", WEIGHTS["weak-late"]
        else:
            weighed.notes.append(f"{line.place}: Xid {number}: {known.meaning}; {known.step}")
            continue
        sure: Sure = "certain" if known.severity == "error" else "likely"
        weighed.found.append(
            Evidence(cause, tier, sure, weight, line, index, origin, line.node, None, known.step)
        )


def by_events(events: Sequence[JobEvent], weighed: Weighed) -> None:
    """What prolog and epilog recorded on the nodes."""
    for event in events:
        bad = [check for check in event.checks if not check.ok]
        for check in bad:
            said = f"{event.what}: check {check.name} failed: {check.detail}"
            line = LogLine(said, "events", event.place.rpartition(":")[0], node=event.node)
            name = "gpu-hardware" if "gpu" in check.name.lower() else "launch"
            if check.blame != "node" or event.what != "prolog":
                weighed.notes.append(f"{event.node} {said}")
                if check.blame != "node":
                    continue
            weight = WEIGHTS["node"] if event.what == "prolog" else WEIGHTS["weak-late"]
            tier: Tier = "cause"
            weighed.found.append(
                Evidence(causes()[name], tier, "likely", weight, line, -1, "prolog and epilog", event.node)
            )
        if event.remains:
            weighed.notes.append(f"{event.node}: left behind by the job: {', '.join(event.remains)}")


def by_record(record: JobRecord, weighed: Weighed) -> None:
    """What Slurm recorded (slurm.conf(5), sacct(1): JOB STATE CODES)."""

    def add(
        cause: str,
        weight: str,
        said: str,
        sure: Sure = "certain",
        node: str = "",
        steps: str = "",
        place: str = "",
    ) -> None:
        line = LogLine(said, "record", "sacct", node=node)
        weighed.found.append(
            Evidence(
                causes()[cause],
                "cause",
                sure,
                WEIGHTS[weight],
                line,
                1 << 30,
                "sacct(1)",
                node,
                None,
                steps,
                place,
            )
        )

    states = set(record.states)
    steps = [step for step in record.steps if "OUT_OF_MEMORY" in step.states]
    if "OUT_OF_MEMORY" in states or (steps and not succeeded(record)):
        where = next((step.nodes for step in steps if step.name.isdecimal()), "") or record.nodes
        node = where if where and not re.search(r"[\[,]", where) else ""
        add(
            "memory",
            "recorded",
            f"state {record.state}" if not steps else f"step {steps[0].name}: OUT_OF_MEMORY",
            node=node,
        )
    if "NODE_FAIL" in states or record.failed_node:
        add(
            "node-failure",
            "node",
            f"state {record.state}, failed node {record.failed_node or '?'}",
            node=record.failed_node,
        )
    if "PREEMPTED" in states:
        add("preempted", "node", f"state {record.state}")
    if states & {"TIMEOUT", "DEADLINE"}:
        limit = f" of {record.limit_s // 60} min" if record.limit_s else ""
        add("time-limit", "limit", f"state {record.state}: its time{limit} was over")
    if "BOOT_FAIL" in states or "LAUNCH_FAILED" in states or LAUNCH.search(record.reason):
        add("launch", "node", f"state {record.state}, reason {record.reason or 'none'}")
    if "CANCELLED" in states:
        by = f" by {record.killed_by}" if record.killed_by else ""
        add("cancelled", "cancelled", f"state CANCELLED{by}")
    if record.waits:
        weighed.notes.append("the job was requeued: this is its last run; now it is " + record.waits)
    if states & {"FAILED", "CANCELLED", "COMPLETED"}:
        _by_end(record, add)


def _by_end(record: JobRecord, add: Callable[..., None]) -> None:
    ended = record.ended
    if ended.signal == OUTPUT_SIGNAL and not ended.code:
        add(
            "missing-file", "node",
            f"ended with signal {OUTPUT_SIGNAL} before it began, its output: {' '.join(record.outputs)}",
            "likely", steps=_OUTPUT_STEPS,
        )  # fmt: skip
        return
    bad = next((step for step in record.steps if step.ended.signal and "COMPLETED" not in step.states), None)
    if not ended.signal and bad is not None:
        ended = bad.ended
    signal = ended.signal or (ended.code - 128 if 128 < ended.code < 128 + 65 else 0)
    if signal in _CRASHES:
        add("crash", "crash", f"ended by {Ended(0, signal).said}", "likely")
    elif signal == 9:
        add("killed", "killed", "ended by signal 9 (SIGKILL)", "possible")
    elif signal in SIGNALS and signal != 15:
        add("exit-code", "exit", f"ended by {Ended(0, signal).said}", "possible")
    elif ended.code == 127:
        add("missing-software", "code", "exit code 127: a shell found no such command", "likely")
    elif ended.code == 126:
        add("permission", "code", "exit code 126: a shell could not execute a file", "likely")
    elif ended.code:
        add("exit-code", "exit", f"ended with exit code {ended.code}", "possible")


OUTPUT_SIGNAL = 53
"""What slurmstepd ends a batch job with that cannot open its output, as sacct shows it (``0:53``)."""

_OUTPUT_STEPS = (
    "the folder of the job's output is not there on its first node, or not writable: make it before the job "
    "is submitted (Slurm makes none), or give --output another"
)

_CRASHES = (4, 6, 7, 8, 11)


def by_codes(failed: Sequence[Failed], weighed: Weighed) -> None:
    """Where launchers say how their first task ended."""
    real = [one for one in failed if one.code not in (None, 0, -15, -2)]
    if not real:
        return
    first = real[0]
    code = first.code or 0
    signal = -code if code < 0 else code - 128 if 128 < code < 193 else 0
    name = "crash" if signal in _CRASHES and signal != 6 else "killed" if signal == 9 else "exit-code"
    weight = WEIGHTS["exit"] + 1 if name == "exit-code" else WEIGHTS[name]
    sure: Sure = "likely" if name == "crash" else "possible"
    weighed.found.append(
        Evidence(
            causes()[name],
            "end",
            sure,
            weight,
            first.line,
            1 << 29,
            "the launcher's table",
            first.node,
            first.rank,
        )
    )
