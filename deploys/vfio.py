"""PCI devices of a host for guests: the IOMMU, vfio and hugepages at boot, and the devices bound at once.

    HPCSTATE_CLUSTER_FILE=inventories/passthrough.yaml pyinfra @local deploys/vfio.py

Which devices: those of the cluster file. It never reboots: it says when that is needed. What the host lives
on (display, root disk, network) is refused, unless --data vfio_force=true.
"""

from __future__ import annotations

import os
from pathlib import Path

from pyinfra import logger
from pyinfra.api.exceptions import DeployError
from pyinfra.context import config, host

from deploys.util.context import flag
from facts.boot_tools import BootTools
from facts.iommu import IommuGroups
from facts.pci import PciDevices
from hpcstate import schema
from hpcstate.cluster.inventory import FILE_VARIABLE
from hpcstate.errors import HpcstateError
from hpcstate.passthrough import vfio as vfio_files
from hpcstate.passthrough.claims import read_claims
from hpcstate.paths import ClusterPaths
from operations import text_files, vfio
from operations.text_files import TextFile

config.SUDO = not (host.name == "@local" and os.geteuid() == 0)

if FILE_VARIABLE not in os.environ:
    raise DeployError(f"which devices are for guests? Set {FILE_VARIABLE} to a cluster file")
try:
    description = schema.load(Path(os.environ[FILE_VARIABLE]))
except HpcstateError as error:
    raise DeployError(str(error)) from None

addresses = vfio_files.devices_of(description)
unused = vfio_files.unused_of(description)
force = flag("vfio_force")
known: dict[str, str] = {}
for cluster in description.clusters if host.name == "@local" else ():
    # What the nodes got at their first start, where the file does not say which device is meant.
    known |= read_claims(ClusterPaths.of(cluster.name).claims)
devices = host.get_fact(PciDevices) if addresses else {}
claimed = vfio_files.claims(description, devices, known)
iommu = host.get_fact(IommuGroups)
# Before anything is written: a host that boots in another way would stop half-way.
tools = host.get_fact(BootTools)
way = vfio_files.boot_way(description, tools, iommu["kernel_arguments"])
if isinstance(way, str):
    raise DeployError(f"{host.name}: {way}")
if addresses:
    vfio.require(
        name="Devices may be given to guests",
        addresses=addresses,
        claimed=claimed,
        unused=unused,
        force=force,
    )
if files := vfio_files.boot_files(description, claimed, way):
    text_files.put(
        name="IOMMU, vfio and hugepages at boot",
        files=[TextFile(path, file.content, file.mode, file.then) for path, file in files.items()],
    )
if addresses and iommu["groups"]:
    vfio.bind(name="Devices for guests", addresses=addresses, claimed=claimed, unused=unused, force=force)
elif addresses:
    logger.warning(
        f"{host.name}: the IOMMU is off in the running kernel. Reboot this host when its guests allow, and "
        "deploy again; if it is still off then, enable VT-d or AMD-Vi in the firmware."
    )
