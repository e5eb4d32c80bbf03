"""vfio on a host: its modules, what it is told to bind at boot, and the groups that are open to guests."""

from __future__ import annotations

import shlex
from typing import TypedDict

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
    """A line for each finding; ``sysfs`` and ``dev`` are where these are mounted."""
    root, nodes, file = shlex.quote(sysfs), shlex.quote(dev), shlex.quote(configuration)
    return (
        f"for m in {root}/module/vfio*; do "
        'if [ -d "$m" ]; then printf "module %s\\n" "${m##*/}"; fi; done; '
        f"if [ -d {root}/bus/pci/drivers/vfio-pci ] || modinfo -n vfio-pci >/dev/null 2>&1; "
        "then echo available; fi; "
        f'for g in {nodes}/vfio/*; do if [ -c "$g" ]; then printf \'group %s\\n\' "${{g##*/}}"; fi; done; '
        f"if [ -r {file} ]; then while read -r l; do printf 'line %s\\n' \"$l\"; done <{file}; fi"
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
