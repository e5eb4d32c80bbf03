"""The page of one job: HTML that needs no other file, for somebody who was not there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from hpcstate.diagnose import text
from hpcstate.diagnose.decide import Diagnosis
from hpcstate.diagnose.lines import clean
from hpcstate.diagnose.record import JobRecord
from hpcstate.diagnose.sources import Collected
from hpcstate.render import render

TEMPLATE = "diagnose/page.html.j2"
TAIL = 80
"""Lines of each file of its output."""
_MOST_FILES = 8


@dataclass(frozen=True)
class Bar:
    """A part of a job's time: ``left`` and ``width`` in percent of the whole, ``kind`` for its colour."""

    name: str
    kind: str
    left: float
    width: float
    said: str


@dataclass(frozen=True)
class Amount:
    """A resource: what was asked for, given, and used, as text; ``share`` of it that was used in percent,
    None where that is not measured."""

    name: str
    asked: str
    had: str
    used: str
    share: float | None = None


def page(record: JobRecord, collected: Collected, found: Diagnosis) -> str:
    """The page of the job of ``record``: when and where it ran, what it asked for and used, the end of its
    output, and the diagnosis."""
    bars = timeline(record)
    return render(
        TEMPLATE,
        job=record,
        found=found,
        outcome="passed" if found.cause.name == "none" else "failed",
        where=text.where_of(found),
        steps=text.steps_of(found),
        sure=found.sure,
        evidence=[text.line_of(one) for one in found.evidence],
        effects=[text.line_of(one) for one in found.effects],
        bars=bars,
        amounts=amounts(record),
        times={name: moment(at) for name, at in _times(record)},
        tails=[
            {"path": file.path, "node": file.node, "bytes": file.bytes, "lines": tail(file.rows)}
            for file in collected.outputs[:_MOST_FILES]
        ],
        events=collected.events,
    )


def _times(record: JobRecord) -> list[tuple[str, int]]:
    rows = [("submitted", record.submit), ("started", record.start), ("ended", record.end)]
    return [(name, at) for name, at in rows if at]


def moment(seconds: int) -> str:
    """A time as the reader's clock has it, with its zone."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def clock(seconds: float) -> str:
    """``1:02:03``, with days in front where there are any."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return (f"{days} d " if days else "") + f"{hour}:{minute:02}:{second:02}"


def timeline(record: JobRecord) -> list[Bar]:
    """What the job did when: it waited, it ran, and each of its steps. Empty where it has not begun to
    wait."""
    ends = [record.end, record.start, *(step.end for step in record.steps)]
    end = max(ends)
    whole = end - record.submit
    if not record.submit or whole <= 0:
        return []

    def bar(name: str, kind: str, begin: int, until: int, said: str) -> Bar:
        left = 100 * max(0, begin - record.submit) / whole
        return Bar(name, kind, round(left, 2), round(max(0.5, 100 * max(0, until - begin) / whole), 2), said)

    bars = []
    if record.start:
        bars.append(bar("waited", "wait", record.submit, record.start, clock(record.start - record.submit)))
        until = record.end or end
        said = clock(until - record.start)
        if record.limit_s:
            said += f" of {clock(record.limit_s)}"
        bars.append(bar("ran", "good" if record.state == "COMPLETED" else "bad", record.start, until, said))
    for step in record.steps:
        if step.start and step.name != "extern":
            until = step.end or end
            state = step.states[0] if step.states else ""
            kind = "good" if state == "COMPLETED" else "bad"
            said = f"{clock(until - step.start)} {state}, {step.ended.said}"
            bars.append(bar(f"step {step.name}", kind, step.start, until, said))
    return bars


def amounts(record: JobRecord) -> list[Amount]:
    """What the job asked for, had, and used as far as Slurm measured it."""
    rows = []
    used = max((step.memory for step in record.steps if step.memory is not None), default=None)
    for name, title in (("node", "nodes"), ("cpu", "CPUs"), ("mem", "memory"), ("gres/gpu", "GPUs")):
        asked, had = record.asked.get(name), record.had.get(name)
        if asked is None and had is None:
            continue
        if name != "mem":
            rows.append(Amount(title, str(asked or "-"), str(had or "-"), ""))
            continue
        share = 100 * used / (had << 20) if used is not None and had else None
        rows.append(
            Amount(
                title,
                _mib(asked),
                _mib(had),
                "not measured" if used is None else f"{_mib(used >> 20)} by one task",
                share,
            )
        )
    if record.start and record.end:
        took = record.end - record.start
        share = 100 * took / record.limit_s if record.limit_s else None
        limit = clock(record.limit_s) if record.limit_s else "no limit"
        rows.append(Amount("time", limit, limit, clock(took), share))
    return rows


def _mib(count: int | None) -> str:
    if count is None:
        return "-"
    return f"{count / 1024:.1f} GiB" if count >= 1024 else f"{count} MiB"


def tail(rows: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """The last lines as a terminal shows them."""
    return [(number, shown) for number, raw in rows[-TAIL:] for shown in clean(raw)[-1:]]
