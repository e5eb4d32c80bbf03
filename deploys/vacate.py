"""Compute nodes whose slurmd the change at hand will restart: drain them and wait for their jobs.

A machine that is smaller than the file says ends the run here, before anything is changed: only `./hpc up`
changes machines. ``--data machines_first=true`` is for those who will have changed it until then.
"""

from __future__ import annotations

from pyinfra.context import config, host

from deploys.util.context import flag, is_build, target
from deploys.util.slurm_files import demand_machine, slurm_files
from hpcstate.slurm.gres import declared_gres
from operations import slurm

config.SUDO = True

if not is_build() and "compute" in host.groups:
    this = target()
    if not flag("machines_first"):
        demand_machine(this)
    slurm.vacate(
        name="Drain where slurmd must restart",
        node=this.node.name,
        files=slurm_files(this.cluster),
        declared=declared_gres(this.node),
        timeout_s=this.drain_seconds,
        force=this.force,
    )
