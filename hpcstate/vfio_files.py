"""The files of a hypervisor that hand PCI devices to vfio-pci at every boot and turn the IOMMU on."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from hpcstate.model import Cluster, Description
from hpcstate.probe.vfio import CONFIGURATION

INITRAMFS_HOOK = "/etc/initramfs-tools/hooks/hpcstate-vfio"
MODULES_LOAD = "/etc/modules-load.d/hpcstate-vfio.conf"
GRUB = "/etc/default/grub.d/hpcstate-iommu.cfg"
HUGEPAGES = "/etc/sysctl.d/80-hpcstate-hugepages.conf"

IOMMU_ARGUMENTS = ("intel_iommu=on", "iommu=pt")
"""Intel's IOMMU is off unless asked for; AMD's is on, and ignores Intel's argument. With ``pt`` the devices
of the host itself are not slowed down (Linux, kernel-parameters.txt)."""

_RIVALS = ("nvidia", "nvidia_drm", "nouveau", "amdgpu", "radeon", "i915", "xe", "snd_hda_intel", "xhci_pci")
"""Modules of drivers that would take a GPU, its audio or its USB function before vfio-pci does."""

_HOOK = """\
#!/bin/sh
# Written by hpcstate: vfio-pci is there before any other driver. modprobe.d is copied by the hook of kmod.
[ "${1:-}" = prereqs ] && exit 0
. /usr/share/initramfs-tools/hook-functions
manual_add_modules vfio_pci vfio_iommu_type1
"""
_MB_OF_HUGEPAGE = {"2M": 2, "1G": 1024}
_PACK = "update-initramfs -u"


@dataclass(frozen=True)
class BootFile:
    """``mode`` is octal digits; ``then`` what has to run after a change."""

    content: str
    mode: str = "644"
    then: str = ""


def devices_of(description: Description) -> tuple[str, ...]:
    """The addresses of all devices that the file's clusters pass through, in order, each once."""
    nodes = [node for cluster in description.clusters for node in cluster.nodes]
    return tuple(sorted({device.pci_address for node in nodes for device in node.passthrough}))


def unused_of(description: Description) -> tuple[str, ...]:
    """The addresses of which the file says that the host does not use them (``in_use: false``)."""
    nodes = [node for cluster in description.clusters for node in cluster.nodes]
    return tuple(
        sorted({device.pci_address for node in nodes for device in node.passthrough if not device.in_use})
    )


def boot_files(description: Description, addresses: Collection[str]) -> dict[str, BootFile]:
    """What belongs on the hypervisor, by path. It does not depend on what has the devices now.

    Without devices there are only the hugepages that were asked for.
    """
    pages = hugepages_needed(description.clusters)
    files = {}
    if addresses:
        files[CONFIGURATION] = BootFile(modprobe_conf(addresses), then=_PACK)
        files[MODULES_LOAD] = BootFile("# Written by hpcstate.\nvfio-pci\n")
        files[INITRAMFS_HOOK] = BootFile(_HOOK, "755", _PACK)
    arguments = [*(IOMMU_ARGUMENTS if addresses else ())]
    if pages["1G"]:
        # Only at boot is memory sure to have so large pieces (Linux, admin-guide/mm/hugetlbpage.rst).
        arguments += ["hugepagesz=1G", f"hugepages={pages['1G']}"]
    if arguments:
        files[GRUB] = BootFile(grub_cfg(arguments), then="update-grub")
    if pages["2M"]:
        files[HUGEPAGES] = BootFile(
            f"# Written by hpcstate.\nvm.nr_hugepages = {pages['2M']}\n", then=f"sysctl -q -p {HUGEPAGES}"
        )
    return files


def modprobe_conf(addresses: Collection[str]) -> str:
    """modprobe.d(5): loading vfio-pci claims the devices by address, and it is loaded before their drivers.

    By address (driver_override, Linux: Documentation/ABI/testing/sysfs-bus-pci) and not by ``ids=``, which
    would take every device of that kind. A driver that was there first, for it is built into the kernel or
    unknown here, has to give its device back.
    """
    devices = " ".join(sorted(addresses))
    each = f"for a in {devices}; do d=/sys/bus/pci/devices/$a;"
    claim = f'{each} if [ -e "$d" ]; then echo vfio-pci >"$d/driver_override"; fi; done'
    take = (
        f'{each} if [ -e "$d" ] && [ ! "$d/driver" -ef /sys/bus/pci/drivers/vfio-pci ]; then '
        'if [ -e "$d/driver" ]; then echo "$a" >"$d/driver/unbind"; fi; '
        'echo "$a" >/sys/bus/pci/drivers_probe; fi; done'
    )
    return "\n".join(
        (
            "# Written by hpcstate (deploys/vfio.py): devices that are for guests.",
            f"# devices: {devices}",
            f"install vfio-pci {claim}; modprobe --ignore-install vfio-pci && {take}",
            *(f"softdep {rival} pre: vfio-pci" for rival in _RIVALS),
            "",
        )
    )


def grub_cfg(arguments: Collection[str]) -> str:
    """A drop-in of Debian's grub-mkconfig: ``arguments`` after those that are there."""
    return f'# Written by hpcstate.\nGRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {" ".join(arguments)}"\n'


def hugepages_needed(clusters: Iterable[Cluster]) -> dict[str, int]:
    """How many pages of each size (``2M``, ``1G``) the nodes need that start by themselves."""
    memory_mb = dict.fromkeys(_MB_OF_HUGEPAGE, 0)
    for cluster in clusters:
        if cluster.acceleration.hugepages:
            nodes = [node for node in cluster.nodes if node.auto_start]
            memory_mb[cluster.acceleration.hugepage_size] += sum(node.memory_mb for node in nodes)
    return {size: -(-memory_mb[size] // page) for size, page in _MB_OF_HUGEPAGE.items()}
