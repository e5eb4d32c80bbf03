"""What the nodes mount beside their own disks: NFS servers of the site, folders of the hypervisor.

    pyinfra inventories/gpu.py deploys/mounts.py

Behind the homes, and before slurmd starts. A server that is away stops nothing here.
"""

from __future__ import annotations

from pyinfra.context import config, host

from deploys.util.context import is_build, target
from hpcstate.node.mounts import units
from operations import mounts

config.SUDO = True

if not is_build() and host.groups:
    mounts.state(name="Mounts", mounts=[units(mount) for mount in target().node.mounts])
