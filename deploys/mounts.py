"""What the nodes mount beside their own disks: NFS servers of the site, folders of the hypervisor, and where
jobs have their scratch folders.

    pyinfra inventories/gpu.py deploys/mounts.py

Behind the homes, and before slurmd starts. A server that is away stops nothing here.
"""

from __future__ import annotations

from pyinfra.context import config, host

from deploys.util.context import is_build, target
from hpcstate.node import scratch
from hpcstate.node.mounts import units
from operations import mounts, text_files
from operations.text_files import TextFile

config.SUDO = True

if not is_build() and host.groups:
    this = target()
    wanted = (*this.node.mounts, *scratch.mounts(this.cluster, this.node))
    mounts.state(name="Mounts", mounts=[units(mount) for mount in wanted])
    if makes := scratch.files(this.cluster, this.node):
        text_files.put(
            name="What runs before each task",
            files=[TextFile(path, content, "755") for path, content in makes.items()],
        )
