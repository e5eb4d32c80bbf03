"""Reservations of a Slurm cluster, in the slurmctld of its controller.

    pyinfra inventories/gpu.py deploys/reservations.py

Behind the nodes, whose features and GRES slurmctld then knows, and behind accounts and users. It comes late
because slurmctld may refuse one, for jobs that run: nothing else waits for it.
"""

from __future__ import annotations

from pyinfra.context import config, host

from deploys.util.context import is_build, target
from operations import reservations

config.SUDO = True

if not is_build() and "controller" in host.groups and target().cluster.kind == "hpc":
    reservations.state(name="Reservations", wanted=target().cluster.accounting.reservations)
