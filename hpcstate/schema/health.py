"""``health`` of an hpc cluster: how its nodes are watched."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from hpcstate.model import HealthCheck, HealthSettings, SlurmConfig
from hpcstate.model.health import CHECKS, Context, NodeState
from hpcstate.schema.health_keys import HealthKeys, OwnCheckKeys
from hpcstate.schema.keys import HpcKeys
from hpcstate.schema.section import Section

PARAMETERS = (
    "Epilog",
    "HealthCheckInterval",
    "HealthCheckNodeState",
    "HealthCheckProgram",
    "Prolog",
    "TaskProlog",
)
"""What of slurm.conf is ours where nodes are watched."""

LARGEST = 64 * 1024
"""Bytes of a check of the user's: it travels with each deploy."""


def read_health(cluster: Section, slurm: SlurmConfig | None, folder: Path) -> HealthSettings:
    """The section; the user's programs are read with it, relative to ``folder``. What cannot be is
    reported."""
    section = cluster.section(HpcKeys.health)
    states = section.value(HealthKeys.node_state)
    settings = HealthSettings(
        on=section.value(HealthKeys.enabled),
        interval_s=section.value(HealthKeys.interval_s),
        node_state=states,
        full_percent=section.value(HealthKeys.full_percent),
        inodes_percent=section.value(HealthKeys.inodes_percent),
        clock_s=section.value(HealthKeys.clock_s),
        active_every_h=section.value(HealthKeys.active_every_h),
        gate=section.value(HealthKeys.gate),
        off=section.values(HealthKeys.off),
        note_only=section.values(HealthKeys.note_only),
        own=tuple(_own(section, folder)),
    )
    taken = {key.lower() for key in (slurm.parameters if slurm else {})}
    if both := [key for key in PARAMETERS if key.lower() in taken] if settings.on else []:
        section.report.error(
            section.place,
            f"slurm_config.parameters name {', '.join(both)} too",
            "keep one of the two; a program of your own can be one of own_checks",
        )
    if settings.on and not {"ANY", "IDLE"} & set(states):
        # ping_nodes.c, run_health_check: a drained node without jobs is looked at for ANY and IDLE alone.
        section.report.error(
            section.at(HealthKeys.node_state),
            f"a node that was drained would never be looked at again with {','.join(states)}",
            "write ANY, or IDLE among the words",
        )
    return settings


def _own(section: Section, folder: Path) -> Iterator[HealthCheck]:
    seen = {check.name for check in CHECKS}
    for entry in section.sections(HealthKeys.own_checks):
        name, program = entry.value(OwnCheckKeys.name), entry.value(OwnCheckKeys.program)
        contexts = cast(tuple[Context, ...], entry.values(OwnCheckKeys.contexts))
        check = HealthCheck(
            name=name,
            title="",
            contexts=contexts or HealthCheck.contexts,
            on_fail=entry.value(OwnCheckKeys.on_fail),
            timeout_s=entry.value(OwnCheckKeys.timeout_s),
            after=entry.value(OwnCheckKeys.after),
            states=cast(tuple[NodeState, ...], entry.values(OwnCheckKeys.states)),
            program=_text(entry, folder / program) if program else "",
        )
        if name in seen:
            entry.report.error(entry.at(OwnCheckKeys.name), f"{name} is there twice", "give it another name")
        if name and check.program:
            seen.add(name)
            yield check


def _text(entry: Section, path: Path) -> str:
    """The text of a program; empty, and reported, where it is none."""
    place, text = entry.at(OwnCheckKeys.program), ""
    try:
        seen = path.stat()
        if not stat.S_ISREG(seen.st_mode) or seen.st_size > LARGEST:
            entry.report.error(place, f"{path} is no file of at most {LARGEST // 1024} KiB")
            return ""
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        entry.report.error(place, f"{path} is no text in UTF-8", "a program in a file of text is meant")
    except OSError as error:
        entry.report.error(place, f"{path}: {error.strerror}", "paths are relative to the cluster file")
    else:
        if not re.match(r"#!\s*/\S", text):
            entry.report.error(place, f"{path} does not begin with #!", "its first line names what runs it")
            return ""
    return text if text.endswith("\n") or not text else text + "\n"
