"""A folder of each job's own for what is bigger than a node's disk (``storage.scratch``). Pure.

A job's own user makes it before the first task (TaskProlog), where no daemon waits for a server that is away
and where nobody is root: NFS servers know no root of ours. The controller removes it as that user, when
slurmctld has the job no more: a prolog or epilog may not ask Slurm (slurm.conf(5), Prolog), so it cannot know
whether the job still runs on other nodes, and on a dead node none runs at all.
"""

from __future__ import annotations

from pathlib import Path

from hpcstate import programs
from hpcstate.model import Cluster, Node
from hpcstate.model.cluster import SCRATCH
from hpcstate.model.mount import Mount
from hpcstate.node.data_volume import TOP
from hpcstate.node.homes import SCRATCH_SERVED as SERVED
from hpcstate.slurm.conf import TASK_PROLOG

EVENTS = "/var/spool/hpcstate/jobs"
"""Where a node keeps what it saw of a job, until its epilog, where nodes are watched."""

SWEEP = "hpcstate-scratch"
"""The timer on the controller that removes them."""

SWEEP_SECONDS = 60
"""Seconds between two looks."""

SWEEP_LONGEST = 3600
"""Seconds after which a look that still removes is ended; the next one goes on."""

MAKE = f"mountpoint -q {TOP} && mkdir -p {SERVED} && chmod 1777 {SERVED}"
"""The command that makes the place on the data volume."""

_TASK_PROLOG = Path(__file__).with_name("task_prolog.sh")
_TASK_EVENT = Path(__file__).with_name("task_event.sh")


def is_served(cluster: Cluster) -> bool:
    """Whether the folders lie on the controller's data volume, which serves them to the nodes."""
    return cluster.scratch == SCRATCH


def prefix(cluster: Cluster) -> str:
    """What the name of a job's folder begins with, before the job's number: elsewhere other clusters may have
    theirs beside it, and people what they like."""
    return "" if is_served(cluster) else f"{cluster.name}-"


def mounts(cluster: Cluster, node: Node) -> tuple[Mount, ...]:
    """What ``node`` mounts for them beside the mounts of the cluster file."""
    if not is_served(cluster) or node is cluster.controller:
        return ()
    return (Mount("nfs", f"{cluster.controller.address}:{SERVED}", SCRATCH, "", ("vers=4.2",)),)


def files(cluster: Cluster, node: Node) -> dict[str, str]:
    """Path to content of what slurmd of ``node`` runs before each task; it is harmless while slurm.conf does
    not name it."""
    if node is cluster.controller:
        return {}
    parts: list[Path] = []
    words = {}
    if cluster.health.on and node.role == "compute":
        parts.append(_TASK_EVENT)
        words["events"] = EVENTS
    if cluster.scratch:
        parts.append(_TASK_PROLOG)
        words |= {"scratch": cluster.scratch, "prefix": prefix(cluster)}
    return {TASK_PROLOG: f"#!/bin/sh\n{programs.command(*parts, **words)}\n"} if parts else {}


def sweep(cluster: Cluster) -> str:
    """The program that removes what jobs have left."""
    node = cluster.controller
    served = is_served(cluster)
    on = (
        TOP if served else next((each.mount_point for each in node.mounts if each.holds(cluster.scratch)), "")
    )
    text = programs.command(
        Path(__file__).with_name("scratch_sweep.sh"),
        scratch=SERVED if served else cluster.scratch,
        prefix=prefix(cluster),
        mount=on,
    )
    return f"#!/bin/sh\n{text}\n"
