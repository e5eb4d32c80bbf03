"""A hypervisor: QEMU, libvirt, and the devices of a cluster file for guests (deploys/vfio.py).

    HPCSTATE_CLUSTER_FILE=inventories/passthrough.yaml pyinfra @local deploys/hypervisor.py

Also for other hosts, with any inventory of pyinfra's; the devices are then looked for there.
"""

from __future__ import annotations

import os

from pyinfra import local
from pyinfra.context import config, host
from pyinfra.operations import apt

from hpcstate import tools
from operations import services

config.SUDO = not (host.name == "@local" and os.geteuid() == 0)

apt.packages(name="QEMU and libvirt", packages=list(tools.load().hypervisor), no_recommends=True)
services.state(name="libvirtd is on", on=("libvirtd.service",))
local.include("deploys/vfio.py")
