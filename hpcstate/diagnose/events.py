"""What prolog, epilog and task prolog wrote of a job on its nodes: a JSON object a line. Pure; standard
library only."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

PATH = "/var/log/slurm/job_events.jsonl"


@dataclass(frozen=True)
class EventCheck:
    """A check that was made around a job; ``ok`` or not, and whether the node or the user is to ``blame``."""

    name: str
    ok: bool
    detail: str
    blame: str


@dataclass(frozen=True)
class JobEvent:
    """One of a job's events on ``node``: ``what`` is prolog, epilog or task_prolog, ``time`` text of ISO
    8601, ``remains`` what was left behind. ``place`` is ``file:line``."""

    what: str
    time: str
    job: int
    node: str
    checks: tuple[EventCheck, ...]
    gpus: tuple[str, ...]
    remains: tuple[str, ...]
    place: str


def parse(rows: Iterable[tuple[int, str]], job: int, node: str = "", path: str = PATH) -> list[JobEvent]:
    """The events of ``job`` in the numbered ``rows``; what is no object, or of another job, is left out. A
    line may be cut short by a full disk, and a later version may add keys."""
    found = []
    for number, text in rows:
        try:
            row = json.loads(text)
        except ValueError:
            continue
        if isinstance(row, dict) and str(row.get("job")) == str(job):
            found.append(_event(row, node, f"{path}:{number}"))
    return found


def _event(row: dict[str, Any], node: str, place: str) -> JobEvent:
    checks = row.get("checks")
    return JobEvent(
        what=str(row.get("event") or ""),
        time=str(row.get("time") or ""),
        job=int(row["job"]),
        node=str(row.get("node") or node),
        checks=tuple(
            EventCheck(
                str(check.get("check") or check.get("name") or ""),
                str(check.get("result") or "ok") == "ok",
                str(check.get("detail") or ""),
                str(check.get("blame") or ""),
            )
            for check in (checks if isinstance(checks, list) else ())
            if isinstance(check, dict)
        ),
        gpus=_texts(row.get("gpus")),
        remains=_texts(row.get("remains")),
        place=place,
    )


def _texts(value: object) -> tuple[str, ...]:
    rows = value if isinstance(value, list) else []
    return tuple(row if isinstance(row, str) else json.dumps(row) for row in rows)
