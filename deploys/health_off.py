"""Nothing watches the nodes any more, where the cluster file has health off: behind slurmd and slurmctld,
which run it no more."""

from __future__ import annotations

from pyinfra.context import config, host

from deploys.util.context import is_build, target
from hpcstate.node import scratch
from hpcstate.slurm.conf import TASK_PROLOG
from operations import health

config.SUDO = True

if not is_build() and ("compute" in host.groups or "controller" in host.groups):
    this = target()
    if this.cluster.kind == "hpc" and not this.cluster.health.on:
        # Beside it jobs may have scratch folders, which the same program makes.
        unused = () if scratch.files(this.cluster, this.node) else (TASK_PROLOG,)
        health.off(name="Nothing watches the node", node=this.node.name, more=unused)
