"""Which PCI devices the host itself lives on: disks of its file systems, cards of its routes.

``pci_use.sh`` beside this module looks; what it cannot trace back to a device it says as well: that may be
any device of its kind, and must not be taken for free.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Literal, TypedDict, cast

from hpcstate.errors import HpcstateError

Kind = Literal["storage", "network"]

_ADDRESS = re.compile(r"/([0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])(?=/|$)")

_WORDS = {
    "mount": "mounted at {}",
    "swap": "swap on {}",
    "pool": "in the ZFS pool {}",
    "btrfs": "in the mounted btrfs {}",
    "route": "default route by {}",
    "network": "network by {}",
    "port": "a port of {}",
}


class PciUses(TypedDict):
    """``devices``: what the host uses each PCI function for, by address (``mounted at /``). ``untraced``: the
    uses of a kind whose device cannot be told.
    """

    devices: dict[str, list[str]]
    untraced: dict[Kind, list[str]]


def command(sysfs: str = "/sys", proc: str = "/proc") -> str:
    """The program, with the places of sysfs and proc."""
    text = Path(__file__).with_suffix(".sh").read_text()
    return f"sysfs={shlex.quote(sysfs)} proc={shlex.quote(proc)}\n{text}"


def parse(text: str) -> PciUses:
    """What the program printed.

    A disk behind a bridge counts for the last device on its way only: bridges are shared anyway. Raises
    HpcstateError for a line that ``command`` does not print.
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
            _add(devices.setdefault(addresses[-1], []), _WORDS[kind].format(what))
    return PciUses(
        devices={address: _without_doubles(devices[address]) for address in sorted(devices)},
        untraced=untraced,
    )


def _add(found: list[str], item: str) -> None:
    if item not in found:
        found.append(item)


def _without_doubles(uses: list[str]) -> list[str]:
    """A card with the default route has other routes, too: one is enough to say."""
    routes = {use.removeprefix("default route by ") for use in uses if use.startswith("default route by ")}
    return [use for use in uses if use.removeprefix("network by ") not in routes or use.startswith("default")]
