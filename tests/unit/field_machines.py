"""Machines as people met them (public threads are named), for tests of passthrough.

A line is: address, class, vendor:device, driver ("-" for none), IOMMU group, then what else is so.
"""

from __future__ import annotations

from typing import Any

from hpcstate.passthrough.verdict import PciHost
from hpcstate.probe.pci import GONE
from tests.unit.pci_hosts import device, host


def machine(lines: str, **more: Any) -> PciHost:
    """The host of ``lines``. Words after the group: ``boot_vga``, ``bridge`` (header type 1), ``physfn=…``,
    ``held=NAME``, ``use=WORDS`` (blanks as underscores), ``gone`` (rev ff), ``bars=16+256`` and
    ``unset=256`` (MiB).
    """
    devices, groups, uses, held = [], dict[int, list[str]](), dict[str, list[str]](), dict[str, str]()
    for line in lines.strip().splitlines():
        address, class_code, ids, driver, group, *words = line.split()
        extra: dict[str, Any] = {"header_type": 1 if "bridge" in words else 0}
        for word in words:
            key, _, value = word.partition("=")
            if key == "boot_vga":
                extra["boot_vga"] = True
            elif key == "physfn":
                extra["physfn"] = value
            elif key == "gone":
                extra["header_type"] = GONE
            elif key == "bars":
                extra["bars"] = [int(size) << 20 for size in value.split("+")]
            elif key == "unset":
                extra["unassigned"] = [int(value) << 20]
            elif key == "held":
                held[address] = value
            elif key == "use":
                uses.setdefault(address, []).append(value.replace("_", " "))
        devices.append(device(address, ids, class_code, "" if driver == "-" else driver, **extra))
        groups.setdefault(int(group), []).append(address)
    return host(devices, groups, uses=uses, held=held, **more)


_TRUENAS = """
0000:00:01.3 060400 1022:1453 pcieport 1 bridge
0000:02:00.1 010601 1022:43b8 ahci 1
0000:04:00.0 020000 10ec:8168 r8169 1{network}
0000:05:00.0 030000 10de:1c82 nouveau 1
0000:05:00.1 040300 10de:0fb9 snd_hda_intel 1
0000:06:00.0 010802 144d:a80a nvme 1{disk}
"""

ZFS_ROOT = machine(_TRUENAS.format(network="", disk=" use=in_the_ZFS_pool_rpool"))
"""truenas/middleware#13976 (the layout made up): the disk of the host's root in the GPU's group."""

ZFS_ROOT_UNTRACED = machine(
    _TRUENAS.format(network="", disk=""), untraced={"storage": ["/"], "network": ["/home"]}
)
"""The same where nobody can tell which disks the pool has, and which card leads to a network home."""

RAW_DISK = machine(_TRUENAS.format(network="", disk=" use=a_disk_that_qemu-system-x86[77]_has_open"))
"""The same, and the disk is a running guest's: nothing of it is mounted here."""

SRIOV = machine("""
0000:00:02.0 030000 8086:7d51 xe 0 boot_vga
0000:00:02.1 030000 8086:7d51 vfio-pci 20 physfn=0000:00:02.0
0000:00:02.2 030000 8086:7d51 vfio-pci 21 physfn=0000:00:02.0
""")
"""canonical/lxd#18291: the host's display with virtual functions for guests."""

HGX = machine("""
0000:1a:00.0 030200 10de:2335 nvidia 15
0000:3d:00.0 030200 10de:2335 nvidia 41
0000:4e:00.0 030200 10de:2335 nvidia 50
0000:05:00.0 068000 10de:22a3 nvidia-nvswitch 114
0000:06:00.0 068000 10de:22a3 nvidia-nvswitch 114
0000:07:00.0 068000 10de:22a3 nvidia-nvswitch 114
0000:08:00.0 068000 10de:22a3 nvidia-nvswitch 114
""")
"""cubecos#259, kata-containers#13430: GPUs by themselves, four NVSwitches in one group."""

NVSWITCHES = tuple(f"0000:0{number}:00.0" for number in (5, 6, 7, 8))

ISA_BRIDGE = machine("""
0000:00:1f.0 060100 8086:a30d lpc_ich 9
0000:00:1f.3 040300 8086:a348 vfio-pci 9
0000:00:1f.6 020000 8086:15bc vfio-pci 9
""")
"""An ISA bridge with a driver, beside devices that vfio-pci has: an endpoint to the kernel."""

MI300X = machine("""
0000:02:00.0 030000 1a03:2000 ast 30 boot_vga
0000:05:00.0 120000 1002:74a5 amdgpu 31
0000:26:00.0 120000 1002:74a5 amdgpu 32
""")
"""cloudstack#11701: AMD's accelerators beside the screen of a management controller."""

OTHER_MAKERS = machine("""
0000:03:00.0 038000 1002:740f amdgpu 31
0000:04:00.0 030000 8086:e20b xe 32
""")
"""ROCm/gpu-operator#417: GPUs that Slurm gets nothing of here."""

GRACE = machine("0008:01:00.0 030200 10de:2941 nvgrace-gpu-vfio-pci 12")
"""dra-driver-nvidia-gpu#1268: a variant driver of VFIO has it."""

VMD = machine("""
0000:00:0e.0 010400 8086:467f vmd 3
10000:01:00.0 030000 10de:2684 nouveau 30
""")
"""A GPU behind Intel's VMD, in a PCI domain of 32 bits."""

TWO_MAKERS = machine("""
0000:05:00.0 030000 10de:1c82 nouveau 1
0000:06:00.0 030000 1002:7480 amdgpu 1
""")
"""Behind a switch without ACS: one GPU becomes a GRES, the other does not and must go along."""

_TURING = """
0000:00:01.0 060400 8086:1901 pcieport 2 bridge
0000:01:00.0 030000 10de:1e84 nvidia 2 bars=16+256+32{gpu}
0000:01:00.1 040300 10de:10f8 snd_hda_intel 2{gpu}
0000:01:00.2 0c0330 10de:1ad8 xhci_hcd 2
0000:01:00.3 0c8000 10de:1ad9 nvidia-gpu 2
"""

USB_C = machine(_TURING.format(gpu=""))
"""A card with sound, a USB controller and its Type-C port, behind a root port of its group; a small BAR1."""

REV_FF = machine(_TURING.format(gpu=" gone"))
"""The same after a reset that it did not survive: lspci says "rev ff", and its driver keeps its name."""

NO_BAR1 = machine("0000:41:00.0 030200 10de:2330 - 5 bars=16")
"""A kernel that found no room for 128 GiB forgets the region: the line of its sysfs is zero."""

UNASSIGNED = machine("0000:41:00.0 030000 10de:2b85 nvidia 5 bars=64+32768+32 unset=32768")
"""One that keeps it, marked: "BAR 1 [mem size 0x800000000 64bit pref]: not assigned"."""

VGPU_HOST = machine("""
0000:41:00.0 030200 10de:2235 nvidia 5 bars=16+65536+32
0000:41:00.4 030200 10de:2235 nvidia 6 physfn=0000:41:00.0
0000:41:00.5 030200 10de:2235 nvidia 7 physfn=0000:41:00.0
""")
"""A40 whose virtual functions were made for NVIDIA's vGPU software."""

A16 = machine("""
0000:c1:00.0 060400 10b5:8747 pcieport 40 bridge
0000:c2:08.0 060400 10b5:8747 pcieport 40 bridge
0000:c2:09.0 060400 10b5:8747 pcieport 40 bridge
0000:c3:00.0 030200 10de:25b6 nvidia 40 bars=16+16384+32
0000:c4:00.0 030200 10de:25b6 nvidia 40 bars=16+16384+32
""")
"""Two of the GPUs of one card behind its own switch, on a board that does not isolate them (no ACS)."""
