"""The PCI devices of a host, from sysfs."""

from __future__ import annotations

import re
import shlex
from typing import TypedDict

from hpcstate.errors import HpcstateError

_LINE = re.compile(
    r"/bus/pci/devices/(?P<address>[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])/"
    r"(?P<file>uevent|numa_node):(?P<value>.*)"
)


class PciDevice(TypedDict):
    """One function. Identifiers are lower-case hexadecimal without ``0x``: 4 digits, ``class_code`` 6 digits
    (base class, subclass, programming interface: ``030200`` is a 3D controller).

    ``driver`` is empty when none is bound; ``numa_node`` is -1 when the host has no such knowledge.
    """

    address: str
    class_code: str
    vendor: str
    device: str
    subsystem_vendor: str
    subsystem_device: str
    driver: str
    numa_node: int


def command(sysfs: str = "/sys") -> str:
    """Everything about all the devices in one process; ``sysfs`` is where sysfs is mounted.

    The uevent file of a device has its class, identifiers and bound driver.
    """
    devices = f"{shlex.quote(sysfs)}/bus/pci/devices/*"
    return f"grep -sH '' {devices}/uevent {devices}/numa_node || :"


def parse(text: str) -> dict[str, PciDevice]:
    """The devices by address (``0000:01:00.0``), in the order of their addresses.

    Raises HpcstateError when a device lacks its identifiers, or a line is none of sysfs's.
    """
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        match = _LINE.search(line)
        if match is None:
            raise HpcstateError(f"this is no line of a PCI device: {line!r}", where="sysfs")
        fields = found.setdefault(match["address"], {})
        key, separator, value = match["value"].partition("=")
        fields[key if separator else match["file"]] = value if separator else match["value"]
    return {address: _device(address, found[address]) for address in sorted(found)}


def _device(address: str, fields: dict[str, str]) -> PciDevice:
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
            driver=fields.get("DRIVER", ""),
            numa_node=int(fields.get("numa_node", "-1")),
        )
    except (KeyError, ValueError) as error:
        raise HpcstateError(
            f"the device's description in sysfs is not whole: {error}", where=address
        ) from error
