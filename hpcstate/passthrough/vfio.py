"""The files of a hypervisor that hand PCI devices to vfio-pci at every boot and turn the IOMMU on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from hpcstate.model import Cluster, Description
from hpcstate.probe.pci import PciDevice
from hpcstate.probe.vfio import CONFIGURATION

INITRAMFS_HOOK = "/etc/initramfs-tools/hooks/hpcstate-vfio"
MODULES_LOAD = "/etc/modules-load.d/hpcstate-vfio.conf"
GRUB = "/etc/default/grub.d/hpcstate-iommu.cfg"
HUGEPAGES = "/etc/sysctl.d/80-hpcstate-hugepages.conf"
HUGEPAGES_MOUNT = "/etc/systemd/system/dev-hugepages1G.mount"
"""systemd mounts the default size alone (dev-hugepages.mount), and libvirt starts no domain with pages of
a size that is not mounted; it looks for them as it starts (libvirt, qemu_conf.c)."""

IOMMU_ARGUMENTS = ("intel_iommu=on", "iommu=pt")
"""Intel's IOMMU is off unless asked for; AMD's is on, and ignores Intel's argument. With ``pt`` the devices
of the host itself are not slowed down (Linux, kernel-parameters.txt)."""

_RIVALS = ("nvidia", "nvidia_drm", "nouveau", "amdgpu", "radeon", "i915", "xe", "snd_hda_intel", "xhci_pci")
"""Modules of drivers that would take a GPU, its audio or its USB function before vfio-pci does."""

CLAIM = "/usr/lib/hpcstate/vfio-claim"
"""The program that claims devices at boot: an address counts only with the identifiers that were meant."""

DRACUT = "/etc/dracut.conf.d/hpcstate-vfio.conf"

_HOOK = f"""\
#!/bin/sh
# Written by hpcstate: vfio-pci is there before any other driver. modprobe.d is copied by the hook of kmod.
[ "${{1:-}}" = prereqs ] && exit 0
. /usr/share/initramfs-tools/hook-functions
manual_add_modules vfio_pci vfio_iommu_type1
copy_exec {CLAIM}
"""
_DRACUT_CONF = f"""\
# Written by hpcstate: vfio-pci is there before any other driver, and what claims the devices for it.
force_drivers+=" vfio_pci vfio_iommu_type1 "
install_items+=" {CLAIM} {CONFIGURATION} "
"""
_MOUNT_1G = """\
# Written by hpcstate: libvirt takes huge pages of 1 GiB from here.
[Unit]
DefaultDependencies=no
Before=sysinit.target
ConditionPathExists=/sys/kernel/mm/hugepages/hugepages-1048576kB

[Mount]
What=hugetlbfs
Where=/dev/hugepages1G
Type=hugetlbfs
Options=pagesize=1G

[Install]
WantedBy=sysinit.target
"""
_MOUNT_NOW = (
    "if [ -d /run/systemd/system ]; then systemctl daemon-reload && "
    "systemctl enable --now dev-hugepages1G.mount && systemctl try-restart libvirtd; fi"
)
_MB_OF_HUGEPAGE = {"2M": 2, "1G": 1024}


NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class BootWay:
    """How a host makes its initramfs (``initramfs-tools`` or ``dracut``), and whether GRUB's drop-in folder
    is where its kernel command line comes from.
    """

    initramfs: str = "initramfs-tools"
    grub: bool = True

    @property
    def pack(self) -> str:
        """The command that makes the initramfs anew."""
        return "update-initramfs -u" if self.initramfs == "initramfs-tools" else "dracut --force"


_INITRAMFS = {"update-initramfs": "initramfs-tools", "dracut": "dracut"}
"""What makes the initramfs, by its program."""

DEBIAN = BootWay()
"""What Debian installs: initramfs-tools and GRUB."""


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


def claims(
    description: Description, found: Mapping[str, PciDevice], known: Mapping[str, str] = NOTHING
) -> dict[str, str]:
    """The identifiers (``10de:2805``) of all devices that the file passes through, by address: those of the
    file or, where it has none, of the first start (``known``, claims.py), else of what is ``found`` there
    now.
    """
    nodes = [node for cluster in description.clusters for node in cluster.nodes]
    claimed = {}
    for device in (device for node in nodes for device in node.passthrough):
        here = found.get(device.pci_address)
        now = f"{here['vendor']}:{here['device']}" if here else ":"
        meant = known.get(device.pci_address, now).partition(":")
        vendor, model = device.vendor_id or meant[0], device.device_id or meant[2]
        if vendor and model:
            claimed[device.pci_address] = f"{vendor}:{model}"
    return {address: claimed[address] for address in sorted(claimed)}


def arguments_of(description: Description, addresses: Collection[str]) -> list[str]:
    """What belongs on the kernel command line."""
    pages = hugepages_needed(description.clusters)
    arguments = [*(IOMMU_ARGUMENTS if addresses else ())]
    if pages["1G"]:
        # Only at boot is memory sure to have so large pieces (Linux, admin-guide/mm/hugetlbpage.rst).
        arguments += ["hugepagesz=1G", f"hugepages={pages['1G']}"]
    return arguments


def boot_files(
    description: Description, claimed: Mapping[str, str], way: BootWay = DEBIAN
) -> dict[str, BootFile]:
    """What belongs on the hypervisor, by path: ``claimed`` are the devices with their identifiers. It does
    not depend on what has the devices now.

    Without devices there are only the hugepages that were asked for.
    """
    pages = hugepages_needed(description.clusters)
    files = {}
    if claimed:
        files[CLAIM] = BootFile(Path(__file__).with_name("vfio_claim.sh").read_text(), "755", way.pack)
        files[CONFIGURATION] = BootFile(modprobe_conf(claimed), then=way.pack)
        files[MODULES_LOAD] = BootFile("# Written by hpcstate.\nvfio-pci\n")
        if way.initramfs == "dracut":
            files[DRACUT] = BootFile(_DRACUT_CONF, then=way.pack)
        else:
            files[INITRAMFS_HOOK] = BootFile(_HOOK, "755", way.pack)
    arguments = arguments_of(description, claimed)
    if arguments and way.grub:
        files[GRUB] = BootFile(grub_cfg(arguments), then="update-grub")
    if pages["1G"]:
        files[HUGEPAGES_MOUNT] = BootFile(_MOUNT_1G, then=_MOUNT_NOW)
    if pages["2M"]:
        files[HUGEPAGES] = BootFile(
            f"# Written by hpcstate.\nvm.nr_hugepages = {pages['2M']}\n", then=f"sysctl -q -p {HUGEPAGES}"
        )
    return files


def modprobe_conf(claimed: Mapping[str, str]) -> str:
    """modprobe.d(5): loading vfio-pci claims the devices by address and identifiers (CLAIM), and it is loaded
    before their drivers.

    By address (driver_override, Linux: Documentation/ABI/testing/sysfs-bus-pci) and not by ``ids=``, which
    would take every device of that kind; with the identifiers, for another device may be there by now. A
    driver that was there first, for it is built into the kernel or unknown here, has to give its device back.
    """
    words = " ".join(f"{address}={identifiers}" for address, identifiers in sorted(claimed.items()))
    load = f"{CLAIM} before {words}; modprobe --ignore-install vfio-pci && {CLAIM} after {words}"
    return "\n".join(
        (
            "# Written by hpcstate (deploys/vfio.py): devices that are for guests.",
            f"# devices: {' '.join(sorted(claimed))}",
            f"install vfio-pci {load}",
            *(f"softdep {rival} pre: vfio-pci" for rival in _RIVALS),
            "",
        )
    )


def grub_cfg(arguments: Collection[str]) -> str:
    """A drop-in of Debian's grub-mkconfig: ``arguments`` after those that are there."""
    return f'# Written by hpcstate.\nGRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {" ".join(arguments)}"\n'


def boot_way(description: Description, tools: Collection[str], running: Mapping[str, str]) -> BootWay | str:
    """The way of a host with these ``tools`` (probe.boot_tools) for what ``description`` needs at boot, or
    why hpcstate does not know it and what to do. ``running`` are arguments of the running kernel.
    """
    addresses = devices_of(description)
    arguments = arguments_of(description, addresses)
    known = [name for program, name in _INITRAMFS.items() if program in tools]
    if addresses and not known:
        return (
            "this host has neither initramfs-tools nor dracut, so that vfio-pci cannot be there before other "
            "drivers: install one of them. Nothing was written"
        )
    initramfs = known[0] if known else DEBIAN.initramfs
    if not arguments or ("update-grub" in tools and "systemd-boot" not in tools):
        return BootWay(initramfs)
    if all(running.get(word.partition("=")[0]) == word.partition("=")[2] for word in arguments):
        return BootWay(initramfs, grub=False)
    loader = "systemd-boot" if "systemd-boot" in tools else "a boot loader without update-grub"
    return (
        f"this host boots by {loader}: add {' '.join(arguments)} to its kernel command line yourself "
        "(/etc/kernel/cmdline, then `kernel-install add $(uname -r) /boot/vmlinuz-$(uname -r)`), boot, and "
        "deploy again. Nothing was written"
    )


def hugepages_needed(clusters: Iterable[Cluster]) -> dict[str, int]:
    """How many pages of each size (``2M``, ``1G``) the nodes need that start by themselves."""
    memory_mb = dict.fromkeys(_MB_OF_HUGEPAGE, 0)
    for cluster in clusters:
        if cluster.acceleration.hugepages:
            nodes = [node for node in cluster.nodes if node.auto_start]
            memory_mb[cluster.acceleration.hugepage_size] += sum(node.memory_mb for node in nodes)
    return {size: -(-memory_mb[size] // page) for size, page in _MB_OF_HUGEPAGE.items()}
