"""A hypervisor: QEMU, libvirt, and the devices of a cluster file for guests (deploys/vfio.py).

    HPCSTATE_CLUSTER_FILE=inventories/passthrough.yaml pyinfra @local deploys/hypervisor.py

Also for other hosts, with any inventory of pyinfra's; the devices are then looked for there.
"""

from __future__ import annotations

import os

from pyinfra.context import config, host

from deploys.util.include import include
from hpcstate.host import tools
from operations import packages, services

config.SUDO = not (host.name == "@local" and os.geteuid() == 0)

packages.installed(name="QEMU and libvirt", names=tools.load().hypervisor)
# Its sockets, which start it: by itself it ends after two idle minutes (libvirtd(8), --timeout).
services.state(name="libvirtd is on", on=("libvirtd.socket", "libvirtd-ro.socket"))
include("vfio.py")
