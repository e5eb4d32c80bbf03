"""slurmctld on the controller."""

from __future__ import annotations

from pyinfra.context import config, host

from deploys.util.context import is_build, target
from deploys.util.slurm_files import slurm_files
from operations import slurm

config.SUDO = True

if not is_build() and "controller" in host.groups:
    this = target()
    slurm.controller_daemon(
        name="slurmctld and its configuration", files=slurm_files(this.cluster), force=this.force
    )
