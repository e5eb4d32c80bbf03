"""Slurm's note of what each compute node runs, when all of it is there.

pyinfra inventories/gpu.py deploys/runs.py
"""

from __future__ import annotations

from pyinfra.context import config, host

from deploys.util.context import is_build, target
from hpcstate.node import runs
from operations import node_runs

config.SUDO = True

if not is_build() and "compute" in host.groups:
    this = target()
    node_runs.note(
        name="Slurm's note of what the node runs",
        node=this.node.name,
        paths=runs.paths(this.cluster, this.node),
    )
