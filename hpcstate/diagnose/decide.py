"""What failed first: evidence of all sources is weighed, and one cause is named, or none. Pure; standard
library only.

The order of what counts: what Slurm and the kernel recorded of this job; what says by itself what failed;
an exception in the program's own words; how something ended; what follows from the end of another task. Of
equal weight, the first counts: by time where both have one from the same log, else by place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from hpcstate.diagnose.events import JobEvent
from hpcstate.diagnose.evidence import (
    KEPT,
    LAUNCH,
    WAITING,
    WEIGHTS,
    Evidence,
    Weighed,
    by_codes,
    by_events,
    by_record,
    by_rules,
    by_xids,
    succeeded,
)
from hpcstate.diagnose.lines import LogLine
from hpcstate.diagnose.python import tracebacks
from hpcstate.diagnose.ranks import Failed, Waited, of_launchers, of_torchrun, waited
from hpcstate.diagnose.record import JobRecord
from hpcstate.diagnose.rules import Cause, Sure, causes


@dataclass(frozen=True)
class Diagnosis:
    """Why a job failed. ``node`` (empty) and ``rank`` (None) where it began, if that is known; ``evidence``
    the first line that says so and others for it; ``effects`` what followed; ``notes`` what else should be
    known; ``looked`` and ``missing`` what was read and what could not be."""

    cause: Cause
    sure: Sure
    summary: str
    node: str = ""
    rank: int | None = None
    steps: str = ""
    evidence: tuple[Evidence, ...] = ()
    effects: tuple[Evidence, ...] = ()
    notes: tuple[str, ...] = ()
    looked: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    record: JobRecord | None = None


def diagnose(
    lines: Sequence[LogLine], record: JobRecord | None = None, events: Sequence[JobEvent] = ()
) -> Diagnosis:
    """What ``lines`` of a job's output, of its nodes' kernels and of slurmd, its ``record`` and the
    ``events`` on its nodes come to."""
    weighed = Weighed()
    own = [line for line in lines if line.source == "job"]
    traced = tracebacks(own)
    by_rules(lines, own, traced, weighed)
    by_xids(lines, weighed)
    by_events(events, weighed)
    failed = [*of_torchrun(own), *of_launchers(own)]
    kept_waiting = waited(own, _tasks(record))
    if record is not None:
        by_record(record, weighed)
        if not record.over or succeeded(record):
            return _not_failed(record, weighed)
    by_codes(failed, weighed)
    best = _best(weighed.found)
    if best is None:
        return Diagnosis(
            causes()["unknown"], "unknown", causes()["unknown"].title, steps=causes()["unknown"].steps,
            notes=tuple(weighed.notes), record=record,
        )  # fmt: skip
    return _said(best, weighed, failed, kept_waiting, record)


def _tasks(record: JobRecord | None) -> int:
    return max((step.tasks for step in record.steps if step.name.isdecimal()), default=0) if record else 0


def _not_failed(record: JobRecord, weighed: Weighed) -> Diagnosis:
    """A job that runs, waits or was well: nobody is accused, and what its nodes have is told."""
    held = record.state in ("PENDING", "SPECIAL_EXIT") and LAUNCH.search(record.reason)
    if held:
        best = _best(weighed.found)
        cause = best.cause if best and best.weight >= WEIGHTS["node"] else causes()["launch"]
        title = f"{cause.title}; it waits again, held: {record.reason}"
        evidence = (best,) if best and best.cause is cause else ()
        return Diagnosis(cause, "certain", title, steps=cause.steps, evidence=evidence, record=record)
    hard = [one for one in weighed.found if one.weight >= WEIGHTS["hardware"] and one.line.source != "job"]
    hard = [one for one in hard if one.cause.name == "gpu-hardware"]
    notes = [*weighed.notes, *(f"{one.line.place}: {one.line.text.strip()}" for one in hard)]
    none = causes()["none"]
    word = none.title if record.over else f"the job has not ended: {record.state}"
    if record.state == "PENDING" and record.reason:
        word += f", because of {record.reason}"
    killed = [step for step in record.steps if "OUT_OF_MEMORY" in step.states]
    notes += [f"step {step.name} ran out of memory, and the script went on" for step in killed]
    return Diagnosis(none, "certain", word, notes=tuple(notes), record=record)


def _best(found: Sequence[Evidence]) -> Evidence | None:
    """The evidence that counts most, and of those the first."""
    if not found:
        return None
    most = max(one.weight for one in found)
    best = min((one for one in found if one.weight == most), key=_order)
    if best.cause.name in (*WAITING, "time-limit") and best.line.source == "job":
        before = [
            one
            for one in found
            if one.tier == "program" and one.weight == WEIGHTS["program"] and one.index < best.index
        ]
        if before:
            return min(before, key=_order)
    return best


def _order(one: Evidence) -> int:
    return one.index


def _said(
    best: Evidence,
    weighed: Weighed,
    failed: Sequence[Failed],
    kept_waiting: Waited | None,
    record: JobRecord | None,
) -> Diagnosis:
    others = [one for one in weighed.found if one is not best and one.cause is best.cause]
    others = sorted(others, key=lambda one: (-one.weight, one.index))[:KEPT]
    effects = [one for one in weighed.found if one.cause is not best.cause and one.tier in ("effect", "end")]
    node, rank, notes = best.node, best.rank, list(weighed.notes)
    summary = best.cause.title
    if best.cause.name == "collective-timeout" and kept_waiting is not None:
        if kept_waiting.suspects:
            rank = kept_waiting.suspects[0]
            ranks = ", ".join(map(str, kept_waiting.suspects[:8]))
            summary += f"; suspected: rank {ranks} ({kept_waiting.why})"
        else:
            rank = None
            summary += "; which one is not to be told from this log"
    elif rank is None and not (best.node and best.line.source in ("kernel", "slurm")):
        first = next(
            (one for one in failed if one.code not in (0, -15, -2) or one.error == "MPI_ABORT"), None
        )
        if first is not None and first.rank is not None:
            rank, node = first.rank, node or first.node
    if not node and rank is not None:
        node = next((one.node for one in failed if one.rank == rank and one.node), "")
    if not node and record is not None and record.nodes and not re.search(r"[\[,]", record.nodes):
        node = record.nodes
    rivals = {one.cause.name for one in weighed.found if one.weight >= best.weight - 5} - {best.cause.name}
    sure = best.sure
    if rivals and sure == "certain" and best.weight < WEIGHTS["recorded"]:
        sure = "likely"
    if any(one.line.source == "record" for one in others) and sure == "likely":
        sure = "certain"
    return Diagnosis(
        best.cause,
        sure,
        summary,
        node,
        rank,
        best.steps or best.cause.steps,
        (best, *others),
        tuple(effects[:6]),
        tuple(dict.fromkeys(notes)),
        record=record,
    )


def with_sources(found: Diagnosis, looked: Iterable[str], missing: Iterable[str]) -> Diagnosis:
    """``found`` with what was read for it, and what could not be."""
    return replace(found, looked=tuple(looked), missing=tuple(missing))
