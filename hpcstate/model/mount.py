"""What a node mounts beside its own disks (``storage.mounts``, ``virtio_fs_mounts``)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

MountType = Literal["nfs", "virtio_fs"]


@dataclass(frozen=True)
class Mount:
    """A file system that a node mounts at ``mount_point``.

    ``source`` is ``server:/path`` for ``nfs``, an absolute folder of the hypervisor for ``virtio_fs``.
    ``options`` are mount options of the file, ``ro`` and ``rw`` not among them: ``read_only`` says that, and
    for a folder of the hypervisor it holds for root of the node too. ``tag`` is what the node finds such a
    folder by, empty for nfs; ``place`` is where the file declares it.
    """

    type: MountType
    source: str
    mount_point: str
    tag: str
    options: tuple[str, ...] = ()
    read_only: bool = False
    place: str = field(default="", compare=False)

    def holds(self, path: str) -> bool:
        """Whether the absolute ``path`` lies in it."""
        return path == self.mount_point or path.startswith(f"{self.mount_point}/")


OUR_TAGS = "hpcstate-"
"""What tags begin with that the file does not give."""

HOME_TAG = f"{OUR_TAGS}home"
"""The tag of the folder of the hypervisor that has the homes."""


def tag_of(mount_point: str) -> str:
    """The tag of a folder that the file gives none: the same each time, at most 36 characters (virtio-fs)."""
    return f"{OUR_TAGS}{hashlib.sha256(mount_point.encode()).hexdigest()[:12]}"
