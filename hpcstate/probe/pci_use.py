"""Which PCI devices the host itself lives on: disks of its file systems, cards of its routes.

``pci_use.sh`` beside this module looks; what it cannot trace back to a device it says as well: that may be
any device of its kind, and must not be taken for free.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, TypedDict, cast

from hpcstate import programs
from hpcstate.errors import HpcstateError

Kind = Literal["storage", "network"]

_ADDRESS = re.compile(r"/([0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])(?=/|$)")

_VMD = re.compile(r"/([0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])(?=/pci[0-9a-f]{4,}:[0-9a-f]{2}/)")
"""A function with a root bus of its own below it (Linux: drivers/pci/controller/vmd.c)."""

BELOW = "a disk below "
"""How a disk is named that something is made of which nothing is mounted from."""

OPEN = " has open"
"""How a disk is named that a program drives itself, after the program."""

_WORDS = {
    "mount": "mounted at {}",
    "swap": "swap on {}",
    "pool": "in the ZFS pool {}",
    "btrfs": "in the mounted btrfs {}",
    "holder": BELOW + "{}",
    "zram": "what {} is written back to",
    "export": "served to others as {}",
    "open": "a disk that {}" + OPEN,
    "route": "default route by {}",
    "network": "network by {}",
    "port": "a port of {}",
    "pppoe": "PPP connection by {}",
}


class PciUses(TypedDict):
    """``devices``: what the host uses each PCI function for, by address (``mounted at /``). ``untraced``: the
    uses of a kind whose device cannot be told.
    """

    devices: dict[str, list[str]]
    untraced: dict[Kind, list[str]]


def command(sysfs: str = "/sys", proc: str = "/proc", sbin: str = "/usr/sbin:/sbin") -> str:
    """The program, with the places of sysfs and proc, and where zpool and ip may be besides ``PATH``: an
    ordinary user's lacks ``sbin``."""
    return programs.command(Path(__file__).with_name("pci_use.sh"), sysfs=sysfs, proc=proc, sbin=sbin)


def parse(text: str) -> PciUses:
    """What the program printed.

    A disk behind a bridge counts for the last device on its way only: bridges are shared anyway. Behind
    Intel's VMD it counts for that too, an endpoint that takes all its disks along. Raises HpcstateError for a
    line that ``command`` does not print.
    """
    devices: dict[str, list[str]] = {}
    untraced: dict[Kind, list[str]] = {}
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        what, _, path = rest.partition(" ")
        if kind == "untraced" and what in ("storage", "network") and path:
            _add(untraced.setdefault(cast(Kind, what), []), path)
            continue
        if kind not in _WORDS or not path.startswith("/"):
            raise HpcstateError(f"this is no use of a device: {line!r}", where="sysfs")
        if addresses := _ADDRESS.findall(path):
            for address in (addresses[-1], *_VMD.findall(path)):
                _add(devices.setdefault(address, []), _WORDS[kind].format(what))
    return PciUses(
        devices={address: _without_doubles(devices[address]) for address in sorted(devices)},
        untraced=untraced,
    )


def _add(found: list[str], item: str) -> None:
    if item not in found:
        found.append(item)


def _without_doubles(uses: list[str]) -> list[str]:
    """A card with the default route has other routes, too, and a disk of a mount what lies between: one is
    enough to say."""
    routes = {use.removeprefix("default route by ") for use in uses if use.startswith("default route by ")}
    uses = [use for use in uses if not use.startswith(BELOW)] or uses
    return [use for use in uses if use.removeprefix("network by ") not in routes or use.startswith("default")]
