"""The keys of mounts: ``storage.mounts`` and the nodes' own ``virtio_fs_mounts``."""

from __future__ import annotations

import re
from typing import cast, get_args

from hpcstate.model.cluster import SCRATCH
from hpcstate.model.mount import Mount, MountType
from hpcstate.schema import leaf
from hpcstate.schema.declare import Keys, ListKey, ValueKey
from hpcstate.schema.leaf import LeafError

_FSTAB = frozenset(
    (
        "auto",
        "noauto",
        "user",
        "users",
        "nouser",
        "owner",
        "group",
        "nofail",
        "_netdev",
        "defaults",
        "bg",
        "fg",
    )
)
"""Options that mount(8) and fstab(5) act on, not the file system: a unit has words of its own for them."""

_REFUSED = {
    "suid": "nosuid holds for all of them: programs there bring no rights",
    "dev": "nodev holds for all of them",
    "remount": "it is mounted once",
    "bind": "it is no file system of its own",
    "rbind": "it is no file system of its own",
}


def mount_type(value: str) -> MountType:
    """``type`` of a mount."""
    return cast(MountType, leaf.choice(*get_args(MountType))(value))


def mount_point(value: str) -> str:
    """An absolute path in a node, as ``leaf.host_path``, of characters that need no quoting anywhere."""
    path = leaf.host_path(value)
    if not re.fullmatch(r"[A-Za-z0-9._:@+/-]+", path, re.ASCII) or len(path) > 200:
        raise LeafError("a path of letters, digits and ._:@+-, at most 200 characters", f"it is {path!r}")
    return _plain(path)


def folder(value: str) -> str:
    """An absolute folder of the hypervisor, as ``leaf.host_path``."""
    return _plain(leaf.host_path(value))


def _plain(path: str) -> str:
    """``path`` if it is written without detours. Raises LeafError for another."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise LeafError("a path without '..'")
    if path != (plain := "/" + "/".join(parts)):
        raise LeafError("a plain absolute path", f"write {plain}")
    return path


def scratch(value: str) -> str:
    """Where each job has a folder of its own: empty for ``none``, SCRATCH for ``nfs``, else the path."""
    if value in ("none", "nfs"):
        return SCRATCH if value == "nfs" else ""
    if not value.startswith("/"):
        raise LeafError("none, nfs or an absolute path on one of the mounts")
    path = mount_point(value)
    if path == SCRATCH:
        raise LeafError("nfs, or a path on one of the mounts", f"{SCRATCH} is where nfs has it")
    return path


def mount_options(value: str) -> tuple[str, ...]:
    """Mount options with commas: those of the file system and of mount(8), but those of fstab(5)."""
    options = tuple(option.strip() for option in value.split(",") if option.strip())
    for option in options:
        name = option.partition("=")[0]
        if not re.fullmatch(r"[a-z0-9_]{1,40}(=[A-Za-z0-9_.:/@+-]{1,200})?", option, re.ASCII):
            raise LeafError("mount options with commas, like softerr,timeo=100", f"{option!r} is none")
        if name in _FSTAB:
            raise LeafError("options of the mount", f"{name} is for /etc/fstab, where this mount is not")
        if name in _REFUSED:
            raise LeafError("other options", f"not {name}: {_REFUSED[name]}")
    if {"ro", "rw"} <= set(options):
        raise LeafError("either ro or rw")
    if any(option in ("vers=3", "nfsvers=3") for option in options) and "nolock" not in options:
        raise LeafError(
            "nolock beside vers=3", "locks of NFSv3 need the portmapper, which is off on all nodes"
        )
    return options


SERVER = leaf.pattern(
    r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]",
    "a host name or an address",
    "an IPv6 address stands in brackets",
    longest=253,
)
EXPORT = leaf.pattern(
    r"/|(/[A-Za-z0-9._:@+=~-]+)+",
    "the absolute path that the server exports, of letters, digits and ._:@+=~-, without a slash at its end",
    longest=1000,
)


class MountKeys(Keys, title="storage.mounts"):
    type = ValueKey(
        "`nfs`: a server of the site; `virtio_fs`: a folder of the host", mount_type, None, required=True
    )
    server = ValueKey("the NFS server: a name or an address that the nodes reach", SERVER, "")
    path = ValueKey("what it exports, an absolute path", EXPORT, "")
    host_path = ValueKey(
        "for `virtio_fs`: an absolute path on the host; variables as in `host_path` of virtio_fs_mounts",
        folder,
        "",
    )
    mount_point = ValueKey(
        "an absolute path in the nodes, not one of the system's", mount_point, "", required=True
    )
    read_only = ValueKey(
        "nobody writes there; with `virtio_fs` not root of the node either", leaf.boolean, Mount.read_only
    )
    options = ValueKey(
        "mount options with commas beside ours, see storage.md", mount_options, None, default_text="ours"
    )
    nodes = ListKey(
        "the nodes that have it: names, host lists (`compute-[01-04]`), names of groups, `compute` for all "
        "compute nodes",
        leaf.host_list,
        default_text="all",
    )


class NodeMountKeys(
    Keys,
    title="virtio_fs_mounts",
    earlier=("owner", "group", "mode"),
    notes={"owner": "owner and mode of the folder on the host count"},
):
    tag = ValueKey("once in a node: letters, digits, `_`, `-`, at most 36", leaf.MOUNT_TAG, "", required=True)
    host_path = ValueKey(
        "an absolute path; `${NAME}` is replaced from the environment, `${TOT}` is the project's root",
        folder,
        "",
        required=True,
    )
    mount_point = ValueKey(
        "an absolute path in the node, not one of the system's; variables as in `host_path`",
        mount_point,
        "",
        required=True,
    )
    readonly = MountKeys.read_only.but("nobody writes there, not even root of the node")
    read_only = readonly.alias()
    options = MountKeys.options.but("as in storage.mounts")
