"""vfio on a host: its modules, what it is told to bind at boot, and the groups that are open to guests."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from hpcstate import programs
from hpcstate.errors import HpcstateError

CONFIGURATION = "/etc/modprobe.d/hpcstate-vfio.conf"
"""Where operations.vfio writes what vfio-pci takes at boot."""


class Vfio(TypedDict):
    """``modules`` are those of vfio that are loaded; ``available`` whether vfio-pci can be (also when it is
    built in); ``groups`` the IOMMU groups with a node in /dev/vfio; ``configured`` the addresses that our
    configuration hands to vfio-pci at boot.
    """

    modules: list[str]
    available: bool
    groups: list[int]
    configured: list[str]


def command(sysfs: str = "/sys", dev: str = "/dev", configuration: str = CONFIGURATION) -> str:
    """The program vfio.sh; ``sysfs`` and ``dev`` are where these are mounted."""
    return programs.command(
        Path(__file__).with_name("vfio.sh"), sysfs=sysfs, dev=dev, configuration=configuration
    )


def parse(text: str) -> Vfio:
    """What ``command`` printed. Raises HpcstateError for a line that it does not print."""
    found = Vfio(modules=[], available=False, groups=[], configured=[])
    for line in text.splitlines():
        kind, _, value = line.partition(" ")
        if kind == "module":
            found["modules"].append(value)
        elif kind == "available":
            found["available"] = True
        elif kind == "group" and value.isdigit():
            found["groups"].append(int(value))
        elif kind == "line":
            if value.startswith("# devices:"):
                found["configured"] = value.removeprefix("# devices:").split()
        elif kind != "group":  # /dev/vfio/vfio is the container, no group
            raise HpcstateError(f"this is nothing about vfio: {line!r}", where="sysfs")
    found["modules"].sort()
    found["groups"].sort()
    return found
