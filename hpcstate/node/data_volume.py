"""The controller's data volume as its node has it: what lies on it, where it is mounted, and by which units.
Pure.

It holds what must outlive the node's disk: slurmctld's state, the registry of containers, the database of
accounting and, where they are shared, people's homes. Its folders are bound over the places where programs
look for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpcstate.model import Cluster
from hpcstate.model.container import REGISTRY
from hpcstate.model.mount import HOME_TAG
from hpcstate.render import render
from hpcstate.slurm.accounting import DATA
from hpcstate.slurm.conf import STATE

SERIAL = "hpcstate-data"
"""The serial number of the disk, by which udev names it in the guest; 20 characters at most (virtio)."""

DEVICE = f"/dev/disk/by-id/virtio-{SERIAL}"
LABEL = "hpcstate-data"
"""The label of its file system: one with another is somebody else's."""

TOP = "/srv/hpcstate"
"""Where the whole volume is mounted (FHS 3.0, /srv: data which is served by this system)."""

UNITS = "/etc/systemd/system"


@dataclass(frozen=True)
class Bind:
    """The folder ``name`` of the volume, which is bound over ``place``; ``service`` is the daemon that must
    not run while its content moves there, empty where there is none. ``idle``: nothing moves while a process
    has a file or its working directory there."""

    name: str
    place: str
    service: str = ""
    idle: bool = False


STATE_BIND = Bind("slurmctld", STATE, "slurmctld")
HOME = "/home"
HOME_BIND = Bind("home", HOME, idle=True)
FROM_FOLDER = (HOME_TAG, "systemd-1")
"""What findmnt(8) calls homes in a folder of the hypervisor: by its tag, or by the automount above it."""

BINDS = (STATE_BIND, Bind("containers", REGISTRY), Bind("mysql", DATA, "mariadb"))
"""What lies on the data volume of every cluster."""


def binds(cluster: Cluster) -> tuple[Bind, ...]:
    """What lies on the data volume of ``cluster``."""
    return (*BINDS, HOME_BIND) if cluster.home == "nfs" else BINDS


def unit(place: str) -> str:
    """The name of the mount unit of ``place``, as systemd demands it (systemd.unit(5), string escaping)."""

    def escaped(match: re.Match[str]) -> str:
        return "".join(f"\\x{byte:02x}" for byte in match.group().encode())

    path = re.sub(r"^\.|[^A-Za-z0-9:_./]", escaped, place.strip("/"))
    return path.replace("/", "-") + ".mount"


def units(binds: Sequence[Bind], *, quotas: bool = False) -> Mapping[str, str]:
    """Name to content of the mount units: that of the volume, and those of its folders ``binds``. ``quotas``:
    the limits of users hold as it is mounted."""
    return {
        unit(TOP): render("base/data-volume.mount.j2", device=DEVICE, top=TOP, quotas=quotas),
        **{unit(bind.place): render("base/data-bind.mount.j2", top=TOP, bind=bind) for bind in binds},
    }
