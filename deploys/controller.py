"""slurmctld on the controller; what it no longer records jobs with is turned off then."""

from __future__ import annotations

from pyinfra.context import config, host

from deploys.util.context import is_build, target
from deploys.util.slurm_files import slurm_files
from hpcstate.slurm import accounting as accounts
from operations import accounting, slurm

config.SUDO = True

if not is_build() and "controller" in host.groups:
    this = target()
    slurm.controller_daemon(
        name="slurmctld and its configuration", files=slurm_files(this.cluster), force=this.force
    )
    if not accounts.files(this.cluster):
        accounting.off(name="No slurmdbd and no database", cluster=this.cluster.name)
