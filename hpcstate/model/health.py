"""How a cluster watches its own nodes: ``health`` of the file, and the checks that hpcstate brings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Context = Literal["periodic", "prolog", "epilog"]
"""When a check runs: again and again (HealthCheckProgram), before a job on its nodes, and after it."""

OnFail = Literal["drain", "requeue", "note"]
"""What a check that fails does. ``drain``: the node gets no more jobs, and a prolog refuses its job, which
waits again. ``requeue``: that, and the node's jobs wait again. ``note``: the node's Comment says it."""

NodeState = Literal["idle", "allocated"]
"""Whether a node has jobs, as far as the node itself sees that (its slurmstepd processes)."""


@dataclass(frozen=True)
class HealthCheck:
    """One check. It runs in ``contexts``, in the node ``states`` named (empty: in all), at most
    ``timeout_s`` seconds. It drains when it failed ``after`` times, one behind the other.

    ``program`` is the text of a program of the user's; empty for ours.
    """

    name: str
    title: str
    program: str
    contexts: tuple[Context, ...] = ("periodic",)
    on_fail: OnFail = "note"
    timeout_s: int = 20
    after: int = 2
    states: tuple[NodeState, ...] = ()


def _ours(
    name: str,
    title: str,
    timeout_s: int,
    on_fail: OnFail = "drain",
    contexts: tuple[Context, ...] = ("periodic",),
    states: tuple[NodeState, ...] = (),
) -> HealthCheck:
    return HealthCheck(name, title, "", contexts, on_fail, timeout_s, states=states)


CHECKS: tuple[HealthCheck, ...] = (
    _ours("gpu_findings", "no GPU has an error of its own", 45, contexts=("prolog", "periodic")),
    _ours(
        "filesystems",
        "local file systems can be written, and have room and inodes",
        10,
        contexts=("prolog", "periodic"),
    ),
    _ours("mounts", "what the cluster file mounts is mounted", 10),
    _ours("memory", "as much memory as slurm.conf says, without errors", 10),
    _ours("daemons", "the daemons that jobs need run, and munge works", 20),
    _ours("clocks", "the clock is right", 10),
    _ours("container_runtime", "containers can start", 20),
    _ours("network", "the controller is reached, and the link is up", 15, "note"),
    _ours(
        "leftover", "jobs that have ended left nothing", 15, "note", ("periodic", "epilog"), states=("idle",)
    ),
)
"""The checks that hpcstate brings, in their order: a node is drained with the first that fails."""


@dataclass(frozen=True)
class HealthSettings:
    """``on``: off until a lab has run it. ``interval_s`` seconds lie between two looks at a node, and
    ``node_state`` are slurm.conf's words for which nodes are looked at (HealthCheckNodeState).

    A file system counts as full from ``full_percent`` of its blocks or ``inodes_percent`` of its inodes on; a
    clock may be off by ``clock_s`` seconds. Of our checks those in ``off`` do not run, those in ``note_only``
    only note; ``own`` are the user's. Every ``active_every_h`` hours nodes without jobs run the light active
    checks (0: on demand only); with ``gate`` a node that comes back passes them before it gets jobs.
    """

    on: bool = False
    interval_s: int = 300
    node_state: tuple[str, ...] = ("ANY",)
    full_percent: int = 97
    inodes_percent: int = 97
    clock_s: int = 10
    active_every_h: int = 0
    gate: bool = True
    off: tuple[str, ...] = ()
    note_only: tuple[str, ...] = ()
    own: tuple[HealthCheck, ...] = ()
