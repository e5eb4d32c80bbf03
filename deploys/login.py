"""Slurm's client side on the login nodes: its configuration, and no daemon of it.

    pyinfra inventories/gpu.py deploys/login.py

After slurmctld: a command that knows more than slurmctld does would be refused.
"""

from __future__ import annotations

from pyinfra.context import config, host

from deploys.util.context import is_build, target
from deploys.util.slurm_files import slurm_files
from operations import slurm

config.SUDO = True

if not is_build() and "login" in host.groups:
    slurm.submit_host(name="Slurm's commands and their configuration", files=slurm_files(target().cluster))
