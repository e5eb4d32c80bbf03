"""Timers of systemd that hpcstate has on a node: what each starts, and how often. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from hpcstate.model import Cluster, Node
from hpcstate.node import scratch
from hpcstate.node.data_volume import UNITS
from hpcstate.render import render
from hpcstate.slurm.conf import HEALTH_PROGRAM

MARK = "hpcstate: timer"
"""The line by which a timer is known as one of ours, when the cluster file has it no more."""

ACTIVE = "hpcstate-active"
"""The timer of the active checks (``health.active_every_h``)."""

PROGRAMS = "/usr/local/lib/hpcstate"
"""The folder of what our timers start."""


@dataclass(frozen=True)
class Timer:
    """A timer, the service that it starts and the program of that: three texts, and ``name`` for all."""

    name: str
    timer: str
    service: str
    program: str

    @property
    def unit(self) -> str:
        """The name of the timer's unit."""
        return f"{self.name}.timer"

    @property
    def files(self) -> Mapping[str, tuple[str, str]]:
        """Path to content and mode, that of the timer last: what it starts is there before it."""
        return {
            f"{PROGRAMS}/{self.name}": (self.program, "755"),
            f"{UNITS}/{self.name}.service": (self.service, "644"),
            f"{UNITS}/{self.unit}": (self.timer, "644"),
        }

    @property
    def sha256(self) -> str:
        """The digest of its files, one behind the other."""
        return hashlib.sha256("".join(text for text, _ in self.files.values()).encode()).hexdigest()


def timers(cluster: Cluster, node: Node) -> tuple[Timer, ...]:
    """The timers of ``node``."""
    found = []
    if cluster.scratch and node is cluster.controller:
        found.append(
            _every(
                scratch.SWEEP,
                "Removal of the scratch folders of jobs that have ended",
                scratch.sweep(cluster),
                seconds=scratch.SWEEP_SECONDS,
                longest=scratch.SWEEP_LONGEST,
            )
        )
    if cluster.health.on and cluster.health.active_every_h and node is cluster.controller:
        found.append(
            _every(
                ACTIVE,
                "Active checks of nodes without jobs",
                f"#!/bin/sh\nexec {HEALTH_PROGRAM.rpartition('/')[0]}/active\n",
                seconds=cluster.health.active_every_h * 3600,
                longest=3600,
            )
        )
    return tuple(found)


def _every(name: str, description: str, program: str, *, seconds: int, longest: int) -> Timer:
    """One that starts ``seconds`` after its last run has ended, and ends a run after ``longest`` seconds."""
    words = {"mark": MARK, "name": name, "description": description, "program": f"{PROGRAMS}/{name}"}
    return Timer(
        name,
        render("base/timer.timer.j2", seconds=seconds, **words),
        render("base/timer.service.j2", longest=longest, **words),
        program,
    )
