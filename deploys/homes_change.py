"""Compute and login nodes leave homes that are to come from elsewhere: nobody writes there while they move.

    pyinfra inventories/gpu.py deploys/homes_change.py

Before the controller moves them; deploys/homes.py mounts the new ones, deploys/compute.py lifts the drain.
"""

from __future__ import annotations

from pyinfra.context import config, host

from deploys.util.context import is_build, target
from hpcstate.node.homes import file_system, source
from operations import homes

config.SUDO = True

if not is_build() and ("compute" in host.groups or "login" in host.groups):
    this = target()
    if this.cluster.home != "local":
        homes.left(
            name="Homes that come from elsewhere",
            node=this.node.name,
            source=source(this.cluster),
            kind=file_system(this.cluster),
            timeout_s=this.drain_seconds,
            force=this.force,
        )
