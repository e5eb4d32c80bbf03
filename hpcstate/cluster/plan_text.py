"""A plan as a person reads it, and as programs do (docs/plan.md)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hpcstate.cluster.plan import PARTS, Part, Plan, Step
from hpcstate.errors import HpcstateError, from_os
from hpcstate.node.file_change import FileChange
from hpcstate.probe.running_jobs import RunningJob, time_left
from hpcstate.terminal import table

VERSION = 1
"""Of the JSON. It goes up when a key changes its meaning or goes away; new keys may come at any time."""

TITLES: Mapping[Part, str] = {
    "build": "doit builds",
    "machines": "libvirt: networks, machines and disks",
    "nodes": "pyinfra changes on the nodes",
    "slurm": "Slurm's daemons",
}


def as_text(plan: Plan, *, diffs: bool = False) -> str:
    """The whole plan; with ``diffs`` what changes in each file."""
    parts = []
    if plan.obstacles:
        parts.append(_block("stands in the way", plan.obstacles))
    parts += _steps(plan.steps)
    if plan.files:
        lines = [line for each in plan.files for line in _file(each, diffs=diffs)]
        parts.append(_block("files that differ" + ("" if diffs else " (-v shows how)"), lines))
    if plan.jobs:
        parts.append(f"running jobs that are waited for:\n{jobs_table(plan.jobs)}")
    if plan.unknown:
        parts.append(_block("not known", plan.unknown))
    if not parts:
        parts.append("nothing to do: images, containers, nodes and their state are as described")
    if plan.named:
        parts.append(_block("left as it is", plan.named))
    return "\n".join(parts)


def in_short(plan: Plan) -> list[str]:
    """What `up` says before it begins: only what it will do, a line for all of which it does the same."""
    lines = _summed(plan.by_up)
    if not plan.deployed:
        lines.append("the state of the nodes: what differs is found and changed at the deploy")
    if plan.jobs:
        lines += ["running jobs that are waited for:", *jobs_table(plan.jobs).splitlines()]
    return lines + [f"not known: {line}" for each in plan.unknown for line in each.splitlines()[:1]]


def _file(change: FileChange, *, diffs: bool) -> list[str]:
    title = f"{change.node}: {change.path}" + ("" if change.there else " is not there")
    return [title, *(f"  {line}" for line in change.diff.splitlines()[2:])] if diffs else [title]


def _steps(steps: Iterable[Step]) -> list[str]:
    every = list(steps)
    parts = []
    for part in PARTS:
        lines = _summed((step for step in every if step.part == part), why=True)
        if lines:
            parts.append(_block(TITLES[part], lines))
    return parts


def _summed(steps: Iterable[Step], *, why: bool = False) -> list[str]:
    """A line for all of which the same is done, with ``why`` for the same reason."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for step in steps:
        groups.setdefault((step.does, step.impact, step.why if why else ""), []).append(step.what)
    return [
        _said(", ".join(what), does, impact) + (f"; {reason}" if reason else "")
        for (does, impact, reason), what in groups.items()
    ]


def _said(what: str, does: str, impact: str) -> str:
    return f"{what}: {does} ({impact})" if impact else f"{what}: {does}"


def _block(title: str, lines: Iterable[str]) -> str:
    return f"{title}:\n" + "\n".join(f"  {line}" for line in lines)


def jobs_table(jobs: Iterable[RunningJob]) -> str:
    """The jobs, a line each: number, user, nodes, and how long they may still take."""
    rows = [(str(job.number), job.user, ",".join(job.nodes), time_left(job.seconds_left)) for job in jobs]
    return table(("JOB", "USER", "NODES", "TIME LEFT"), rows)


def to_dict(plan: Plan) -> dict[str, Any]:
    """For --json, and for `up --plan`."""
    return {
        "version": VERSION,
        "empty": plan.empty,
        "steps": [asdict(step) for step in plan.steps],
        "jobs": [asdict(job) for job in plan.jobs],
        "obstacles": list(plan.obstacles),
        "unknown": list(plan.unknown),
        "named": list(plan.named),
        "nodes_asked": plan.deployed,
        "files": [asdict(each) for each in plan.files],
        "unseen": list(plan.unseen),
        "digests": dict(plan.digests),
    }


def changed_since(saved: Mapping[str, Any], plan: Plan) -> list[str]:
    """Where the world is no longer the one that the plan ``saved`` was made for: a line each, none when it
    is.

    Jobs that have ended are no difference; such as the plan does not name, and that would be waited for, are.
    """
    words = {
        "file": "the cluster file is another",
        "build": "images or containers, or what they are made of, are others",
        "machines": "the machines are not as they were",
        "slurm": "what changes for Slurm is something else",
        "nodes": "the nodes are not as they were",
    }
    then = saved["digests"]
    lines = [text for part, text in words.items() if then.get(part) != plan.digests.get(part)]
    known = {job["number"] for job in saved["jobs"]}
    new = [str(job.number) for job in plan.jobs if job.number not in known]
    if new:
        lines.append(f"jobs run that it does not know: {', '.join(new)}")
    return lines


def read_saved(path: Path) -> dict[str, Any]:
    """A plan that ``hpcstate plan --json`` printed. Raises HpcstateError when the file is none."""
    hint = "hpcstate plan FILE --json > plan.json makes one"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise HpcstateError("there is no such file", where=str(path), hint=hint) from error
    except OSError as error:
        raise from_os(error) from error
    except ValueError as error:
        raise HpcstateError("this is no plan", where=str(path), hint=hint) from error
    keys = {
        "version": int,
        "digests": dict,
        "jobs": list,
        "steps": list,
        "nodes_asked": bool,
        "unknown": list,
    }
    if not isinstance(found, dict) or any(not isinstance(found.get(key), kind) for key, kind in keys.items()):
        raise HpcstateError("this is no plan", where=str(path), hint=hint)
    if found["version"] != VERSION or any(
        not isinstance(job, dict) or "number" not in job for job in found["jobs"]
    ):
        raise HpcstateError("this plan is of another version of hpcstate", where=str(path), hint=hint)
    return found
