"""A diagnosis for people and for programs. Pure; standard library only."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hpcstate.diagnose.decide import Diagnosis
from hpcstate.diagnose.evidence import Evidence

_SURE = {
    "certain": "certain",
    "likely": "likely",
    "possible": "possible: look for more before you act on it",
    "unknown": "not known",
}
_BLAME = {
    "user": "the job's owner",
    "node": "the node: who runs the cluster",
    "cluster": "who runs the cluster",
    "unknown": "not to be told from this",
}
LONG = 240


def as_text(found: Diagnosis) -> str:
    """Lines for a terminal: what failed, where, how sure, by which lines, and what to do."""
    record = found.record
    head = f"job {record.label}" if record else "this log"
    if record:
        head += f" ({record.name}) of {record.user or '-'}: {record.state}"
        if record.ended.code or record.ended.signal:
            head += f", {record.ended.said}"
    rows = [head, f"  what      {found.summary} [{found.cause.name}]"]
    where = where_of(found)
    if where:
        rows.append(f"  where     {where}")
    if found.cause.name != "none":
        rows.append(f"  sure      {_SURE[found.sure]}")
        rows.append(f"  to mend   {_BLAME[found.cause.blame]}")
        rows.append(f"  do        {steps_of(found)}")
    rows += _section("evidence", [line_of(one) for one in found.evidence])
    rows += _section("followed", [line_of(one) for one in found.effects])
    rows += _section("note", list(found.notes))
    rows += _section("not read", list(found.missing))
    return "\n".join(rows)


def steps_of(found: Diagnosis) -> str:
    """What to do, with the job's number in the commands."""
    steps = found.steps or found.cause.steps
    if found.record:
        steps = steps.replace("JOBID", found.record.label)
    return steps.replace("NODE", found.node) if found.node and found.cause.blame == "node" else steps


def where_of(found: Diagnosis) -> str:
    """``node n1, rank 3``; empty where neither is known."""
    parts = [f"node {found.node}"] if found.node else []
    return ", ".join([*parts, *([f"rank {found.rank}"] if found.rank is not None else [])])


def line_of(one: Evidence) -> str:
    """``node file:line: text``, with the place in the program where a traceback has one."""
    text = one.line.text.strip()
    text = text if len(text) <= LONG else f"{text[:LONG]}…"
    place = f" (raised at {one.place})" if one.place else ""
    return f"{one.line.place}: {text}{place}" if one.line.place else f"{text}{place}"


def _section(name: str, texts: list[str]) -> list[str]:
    return [f"  {name if not number else '':<9} {text}" for number, text in enumerate(texts)]


def as_dict(found: Diagnosis) -> dict[str, Any]:
    """The same for programs. The keys stay; there may be more of them later."""
    record = found.record
    return {
        "job": record.label if record else None,
        "state": record.state if record else None,
        "cause": found.cause.name,
        "title": found.cause.title,
        "summary": found.summary,
        "sure": found.sure,
        "blame": found.cause.blame,
        "node": found.node or None,
        "rank": found.rank,
        "steps": steps_of(found) if found.cause.name != "none" else "",
        "evidence": [_evidence(one) for one in found.evidence],
        "effects": [_evidence(one) for one in found.effects],
        "notes": list(found.notes),
        "read": list(found.looked),
        "not_read": list(found.missing),
    }


def _evidence(one: Evidence) -> dict[str, Any]:
    line = one.line
    return {
        "cause": one.cause.name,
        "source": line.source,
        "file": line.path or None,
        "line": line.number or None,
        "node": one.node or line.node or None,
        "rank": one.rank,
        "time": datetime.fromtimestamp(line.time, UTC).isoformat()
        if line.source == "kernel" and line.time
        else None,
        "text": line.text.strip()[:LONG],
        "raised_at": one.place or None,
        "rule": one.origin,
    }
