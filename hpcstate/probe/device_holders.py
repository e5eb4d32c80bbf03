"""Which processes of a host have its GPUs open: a display server, a persistence daemon, somebody's job; and
which have any device by vfio that are no guests of libvirt's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypedDict

from hpcstate import programs
from hpcstate.errors import HpcstateError

_LINE = re.compile(r"(?P<pid>\d+) (?P<command>\S+) (?P<node>/dev/\S+) (?P<address>\S+)")

VFIO_NODES = "/dev/vfio/"
"""Where the nodes are by which a program drives a device itself: a guest, as a rule."""


class Holder(TypedDict):
    """A process with ``node`` open. ``address`` is that of the PCI function."""

    pid: int
    command: str
    node: str
    address: str


def command(sysfs: str = "/sys", proc: str = "/proc", libvirt: str = "/run/libvirt/qemu") -> str:
    """The programs, with the places of sysfs, proc, and of libvirt's process ids."""
    files = (Path(__file__).with_name("device_holders.sh"), Path(__file__).with_name("vfio_holders.sh"))
    return programs.command(*files, sysfs=sysfs, proc=proc, libvirt=libvirt)


def parse(text: str) -> list[Holder]:
    """What the program printed. Raises HpcstateError for a line that it does not print."""
    found = []
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            raise HpcstateError(f"this is no process with a device: {line!r}", where="proc")
        pid, name, node, address = match.groups()
        found.append(Holder(pid=int(pid), command=name, node=node, address=address))
    return found
