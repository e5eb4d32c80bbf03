"""A hypervisor: packages, libvirt, the IOMMU, the devices of a cluster file for guests, hugepages when asked.

    HPCSTATE_CLUSTER_FILE=inventories/passthrough.yaml pyinfra @local deploys/hypervisor.py

Also for other hosts, with any inventory of pyinfra's; the devices are then looked for there. The devices are
bound at once, and at every boot. It never reboots: it says when that is needed.
"""

from __future__ import annotations

import os
from pathlib import Path

from pyinfra import logger
from pyinfra.api.exceptions import DeployError
from pyinfra.context import config, host
from pyinfra.operations import apt

from facts.iommu import IommuGroups
from facts.pci import PciDevices
from hpcstate import schema, tools, vfio_files
from hpcstate.errors import HpcstateError
from hpcstate.inventory import FILE_VARIABLE
from operations import services, text_files, vfio
from operations.text_files import TextFile

config.SUDO = not (host.name == "@local" and os.geteuid() == 0)

if FILE_VARIABLE not in os.environ:
    raise DeployError(f"which devices are for guests? Set {FILE_VARIABLE} to a cluster file")
try:
    description = schema.load(Path(os.environ[FILE_VARIABLE]))
except HpcstateError as error:
    raise DeployError(str(error)) from None

addresses = vfio_files.devices_of(description)
apt.packages(name="QEMU and libvirt", packages=list(tools.load().hypervisor), no_recommends=True)
services.state(name="libvirtd is on", on=("libvirtd.service",))

loaded = host.get_fact(PciDevices)
drivers = {loaded[address]["driver"] for address in addresses if address in loaded} - {"", "vfio-pci"}
text_files.put(
    name="IOMMU, vfio and hugepages at boot",
    files=[
        TextFile(path, file.content, file.mode, file.then)
        for path, file in vfio_files.boot_files(description, addresses, drivers).items()
    ],
)
if not addresses:
    pass
elif host.get_fact(IommuGroups)["groups"]:
    vfio.bind(name="Devices for guests", addresses=addresses, force=bool(host.data.get("vfio_force")))
else:
    logger.warning(
        f"{host.name}: the IOMMU is off in the running kernel. Reboot this host when its guests allow, and "
        "deploy again; if it is still off then, enable VT-d or AMD-Vi in the firmware."
    )
