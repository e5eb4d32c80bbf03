"""The PCI devices of a host, from sysfs, with the names of the system's pci.ids."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypedDict

from hpcstate import programs
from hpcstate.errors import HpcstateError

_LINE = re.compile(
    r"/bus/pci/devices/(?P<address>[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])/"
    r"(?P<file>[a-z_]+):(?P<value>.*)"
)
_BARS = 6
"""The lines of ``resource`` that are base address registers; the expansion ROM follows (pci-sysfs.c)."""

_UNSET = 0x20000000
"""IORESOURCE_UNSET of linux/ioport.h: neither the firmware nor the kernel found an address."""

GONE = 0x7F
"""The header type of a device that does not answer: each byte of its configuration space reads 0xFF, as lspci
shows by "rev ff"."""

PCI_IDS = "/usr/share/misc/pci.ids"


class PciDevice(TypedDict):
    """One function. Identifiers are lower-case hexadecimal without ``0x``: 4 digits, ``class_code`` 6 digits
    (base class, subclass, programming interface: ``030200`` is a 3D controller).

    ``driver`` is empty when none is bound; ``numa_node`` is -1 when the host has no such knowledge;
    ``header_type`` is 0 for an endpoint, 1 and 2 for bridges to another bus, -1 where it cannot be read, GONE
    for a device that does not answer;
    ``physfn`` is the address of the function that a virtual one (SR-IOV) belongs to, empty for others.
    ``boot_vga`` tells the display that the firmware used; ``reset_methods`` are in the kernel's order,
    empty when it cannot be reset; ``sriov_vfs`` is how many virtual functions it could have, ``bars`` the
    sizes in bytes of its memory and I/O regions, ``unassigned`` of those without an address. The names are
    empty where pci.ids has none.
    """

    address: str
    class_code: str
    vendor: str
    device: str
    subsystem_vendor: str
    subsystem_device: str
    vendor_name: str
    device_name: str
    driver: str
    header_type: int
    physfn: str
    numa_node: int
    boot_vga: bool
    reset_methods: list[str]
    sriov_vfs: int
    bars: list[int]
    unassigned: list[int]


def command(sysfs: str = "/sys", pci_ids: str = PCI_IDS) -> str:
    """The program pci.sh; ``sysfs`` is where sysfs is mounted, ``pci_ids`` the file of names."""
    return programs.command(Path(__file__).with_name("pci.sh"), sysfs=sysfs, pci_ids=pci_ids)


def parse(text: str) -> dict[str, PciDevice]:
    """The devices by address (``0000:01:00.0``), in the order of their addresses.

    Raises HpcstateError when a device lacks its identifiers, or a line is none of sysfs's.
    """
    found: dict[str, dict[str, str]] = {}
    names: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("name "):
            identifier, _, name = line.removeprefix("name ").partition("  ")
            names[identifier] = name.strip()
            continue
        match = _LINE.search(line)
        if match is None:
            raise HpcstateError(f"this is no line of a PCI device: {line!r}", where="sysfs")
        fields = found.setdefault(match["address"], {})
        key, separator, value = match["value"].partition("=")
        if separator:
            fields[key] = value
        else:
            fields[match["file"]] = f"{fields.get(match['file'], '')}\n{match['value']}".strip()
    return {address: _device(address, found[address], names) for address in sorted(found)}


def _device(address: str, fields: dict[str, str], names: dict[str, str]) -> PciDevice:
    try:
        vendor, device = fields["PCI_ID"].lower().split(":")
        subsystem_vendor, subsystem_device = fields["PCI_SUBSYS_ID"].lower().split(":")
        return PciDevice(
            address=address,
            class_code=fields["PCI_CLASS"].lower().zfill(6),
            vendor=vendor,
            device=device,
            subsystem_vendor=subsystem_vendor,
            subsystem_device=subsystem_device,
            vendor_name=names.get(vendor, ""),
            device_name=names.get(vendor + device, ""),
            driver=fields.get("DRIVER", ""),
            header_type=_header_type(fields.get("header_type", "")),
            physfn=fields.get("physfn", ""),
            numa_node=int(fields.get("numa_node", "-1")),
            boot_vga=fields.get("boot_vga") == "1",
            reset_methods=fields.get("reset_method", "").split(),
            sriov_vfs=int(fields.get("sriov_totalvfs", "0")),
            bars=_bars(fields.get("resource", "")),
            unassigned=_bars(fields.get("resource", ""), _UNSET),
        )
    except (KeyError, ValueError) as error:
        raise HpcstateError(
            f"the device's description in sysfs is not whole: {error}", where=address
        ) from error


def _header_type(byte: str) -> int:
    return int(byte) & 0x7F if byte else -1


def _bars(resource: str, mask: int = -1) -> list[int]:
    """Sizes from lines of start, end and flags, where a flag is of ``mask``; what is not there is zero."""
    sizes = []
    for line in resource.splitlines()[:_BARS]:
        start, end, flags = (int(word, 16) for word in line.split())
        if flags & mask:
            sizes.append(end - start + 1)
    return sizes
