"""What a node has for its mounts (``storage.mounts``, ``virtio_fs_mounts``): units of systemd. Pure.

Each is an automount: nothing waits for a server until somebody looks at its folder, and then not for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hpcstate.model.mount import Mount
from hpcstate.node.data_volume import UNITS, unit
from hpcstate.render import render

MARK = "hpcstate: storage.mounts"
"""The line by which a unit file is known as one of these, when the cluster file has it no more."""

SECONDS = 30
"""How long an attempt to mount may take."""

_ALWAYS = ("nosuid", "nodev")
_NFS = ("vers=4", "proto=tcp", "softreval", "retry=0")
"""vers=4: the highest of 4.2, 4.1 and 4.0 that the server has (nfs(5), nfs-utils' stropts.c)."""

_WAITING = ("hard", "timeo=600", "retrans=2")
"""Where somebody writes: while the server is away a write waits, and is not lost (nfs(5), hard)."""

_GIVING_UP = ("softerr", "timeo=100", "retrans=2")
"""Where nobody writes there is nothing to lose: an access fails after a minute or so (10, 20 and 30 s), with
ETIMEDOUT."""

_KINDS = {"vers": "vers", "nfsvers": "vers", "minorversion": "minor", "hard": "waits", "soft": "waits"}
_KINDS |= {"softerr": "waits", "softreval": "reval", "nosoftreval": "reval", "udp": "proto", "tcp": "proto"}


@dataclass(frozen=True)
class MountUnits:
    """A mount as systemd has it: ``mount`` and ``automount`` are the texts of its units.

    ``types`` are what the kernel may call its file system, ``source`` what it is mounted from.
    """

    place: str
    types: tuple[str, ...]
    source: str
    read_only: bool
    mount: str
    automount: str

    @property
    def mount_name(self) -> str:
        """The name of its mount unit (``data.mount``)."""
        return unit(self.place)

    @property
    def automount_name(self) -> str:
        """The name of its automount unit (``data.automount``)."""
        return automount_name(self.mount_name)

    @property
    def files(self) -> Mapping[str, str]:
        """Path to content of its unit files."""
        return {
            f"{UNITS}/{self.mount_name}": self.mount,
            f"{UNITS}/{self.automount_name}": self.automount,
        }


def automount_name(mount_name: str) -> str:
    """The automount of a mount unit."""
    return mount_name.removesuffix(".mount") + ".automount"


def units(mount: Mount) -> MountUnits:
    """The units of ``mount``."""
    nfs = mount.type == "nfs"
    what = mount.source if nfs else mount.tag
    return MountUnits(
        mount.mount_point,
        ("nfs", "nfs4") if nfs else ("virtiofs",),
        what,
        mount.read_only,
        render(
            "base/storage.mount.j2",
            mark=MARK,
            what=what.replace("%", "%%"),
            place=mount.mount_point,
            type="nfs" if nfs else "virtiofs",
            options=",".join(options(mount)),
            seconds=SECONDS,
        ),
        render("base/storage.automount.j2", mark=MARK, place=mount.mount_point),
    )


def options(mount: Mount) -> tuple[str, ...]:
    """The mount options of ``mount``: those of the file in the place of ours of the same kind."""
    access = "ro" if mount.read_only else "rw"
    ours: tuple[str, ...] = ()
    if mount.type == "nfs":
        ours = (*_NFS, *(_GIVING_UP if mount.read_only else _WAITING))
    kinds = {_kind(option) for option in mount.options}
    if "waits" in kinds:
        # How long it waits is another thing with another answer to what happens then.
        kinds |= {"timeo", "retrans"}
    kept = tuple(option for option in ours if _kind(option) not in kinds)
    return (access, *_ALWAYS, *kept, *(option for option in mount.options if option not in _ALWAYS))


def _kind(option: str) -> str:
    name = option.partition("=")[0]
    return _KINDS.get(name, name)
