"""The data volume of a Slurm cluster's controller, with slurmctld's state, the registry and the database.

    pyinfra inventories/gpu.py deploys/data.py

Before slurmctld is changed, and after the nodes were vacated, which asks slurmctld: it stops while its state
moves.
"""

from __future__ import annotations

from pyinfra.context import config, host

from deploys.util.context import is_build, target
from hpcstate.node.data_volume import BINDS, units
from operations import data_volume

config.SUDO = True

if not is_build() and "controller" in host.groups and target().node.data_gb:
    data_volume.state(name="Data volume", units=units(), binds=BINDS)
