"""slurmctld on the controller."""

from __future__ import annotations

from pyinfra.context import config, host

from deploys.context import is_build, target
from hpcstate.slurm_conf import configuration
from operations import slurm

config.SUDO = True

if not is_build() and "controller" in host.groups:
    this = target()
    slurm.controller_daemon(
        name="slurmctld and its configuration", files=configuration(this.cluster), force=this.force
    )
