"""The way a person takes: SSH to a node as an ordinary user, not the connection that hpcstate works by."""

from __future__ import annotations

from pathlib import Path

from hpcstate.model import Node
from hpcstate.node.ssh import CONNECT_SECONDS, JOB_USER, Live, ssh_command
from hpcstate.paths import ClusterPaths
from hpcstate.run import Result, run

REFUSAL = "you have no active jobs on this node"
"""What pam_slurm_adopt says (pam_slurm_adopt.c): other refusals prove nothing about jobs."""


def login_node(live: Live) -> Node:
    """Where people log in: the first login node, or the controller where there is none."""
    return live.cluster.login_nodes[0]


def login(live: Live, node: Node, script: str, *, seconds: float = 30) -> Result:
    """What ``script`` leaves that the job user runs on ``node`` through an SSH login of its own, for
    ``seconds`` at most after it is in."""
    ssh, *options = ssh_command(ClusterPaths.of(live.cluster.name), Path("none"))
    return run(
        # ssh takes the first value: what the node says to one who is refused is for users to see.
        [ssh, "-oLogLevel=INFO", *options, f"{JOB_USER}@{node.address}", script],
        timeout=2 * CONNECT_SECONDS + seconds,
        check=False,
        shown=f"{node.name} ({JOB_USER}): login",
    )
