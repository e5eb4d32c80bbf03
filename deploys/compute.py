"""slurmd on the compute nodes."""

from __future__ import annotations

from pyinfra.context import config, host

from deploys.util.context import is_build, target
from deploys.util.slurm_files import slurm_files
from hpcstate.slurm.gres import declared_gres
from operations import cgroup, slurm

config.SUDO = True

if not is_build() and "compute" in host.groups:
    this = target()
    cgroup.require(name="cgroup controllers")
    slurm.compute_daemon(
        name="slurmd and its configuration",
        node=this.node.name,
        files=slurm_files(this.cluster),
        declared=declared_gres(this.node),
        timeout_s=this.drain_seconds,
        force=this.force,
        controller=this.cluster.controller.name,
    )
