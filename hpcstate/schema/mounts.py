"""Mounts of a cluster's nodes: those of ``storage.mounts`` and each node's own, without conflicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hpcstate.model import Node
from hpcstate.model.container import REGISTRY
from hpcstate.model.mount import OUR_TAGS, Mount, tag_of
from hpcstate.schema.declare import EntriesKey, ValueKey
from hpcstate.schema.mount_keys import MountKeys, NodeMountKeys
from hpcstate.schema.section import Report, Section

_WITHIN = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/lost+found", "/proc", "/run"),
    *("/sbin", "/sys", "/tmp", "/usr", "/var", REGISTRY, "/scratch", "/srv/hpcstate"),
)
"""Folders of a node's system: nothing is mounted over them, above them or within them."""

_HERE = ("/home", "/root")
"""Nothing is mounted over these; within them it may be."""

_OF_THE_HOST = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr"),
    *("/var/cache", "/var/lib/dpkg", "/var/lib/libvirt", "/var/log", "/var/spool"),
)
"""Folders of the hypervisor's system: root of a node would be root there."""


@dataclass(frozen=True)
class Shared:
    """An entry of ``storage.mounts``: ``nodes`` are the names that it lists, each with its place; None for
    all nodes."""

    mount: Mount
    nodes: tuple[tuple[str, str], ...] | None


def read_own(section: Section, key: EntriesKey) -> tuple[Mount, ...]:
    """The folders of the host that one node mounts (``virtio_fs_mounts``)."""
    mounts = []
    for entry in section.sections(key):
        host_path = entry.value(NodeMountKeys.host_path)
        mount_point = entry.value(NodeMountKeys.mount_point)
        options, read_only = _access(entry, NodeMountKeys.options, NodeMountKeys.readonly)
        mount = Mount(
            "virtio_fs",
            host_path,
            mount_point,
            entry.value(NodeMountKeys.tag),
            options,
            read_only,
            entry.place,
        )
        _check_paths(entry, mount, entry.at(NodeMountKeys.mount_point), NodeMountKeys.host_path)
        if mount.tag.startswith(OUR_TAGS):
            entry.report.error(
                entry.at(NodeMountKeys.tag),
                f"tags that begin with {OUR_TAGS} are hpcstate's own",
                "take another",
            )
        mounts.append(mount)
    return tuple(mounts)


def read_shared(storage: Section, key: EntriesKey) -> tuple[Shared, ...]:
    """The entries of ``storage.mounts``; those that are wrong are reported and left out."""
    found = []
    for entry in storage.sections(key):
        kind = entry.value(MountKeys.type)
        mount_point = entry.value(MountKeys.mount_point)
        server, path = entry.value(MountKeys.server), entry.value(MountKeys.path)
        host_path = entry.value(MountKeys.host_path)
        options, read_only = _access(entry, MountKeys.options, MountKeys.read_only)
        if kind is None:
            continue
        needed, other = (
            ((MountKeys.server, MountKeys.path), (MountKeys.host_path,))
            if kind == "nfs"
            else ((MountKeys.host_path,), (MountKeys.server, MountKeys.path))
        )
        for row in needed:
            if row not in entry:
                entry.missing(row)
        for row in other:
            if row in entry:
                entry.report.error(entry.at(row), f"a mount of type {kind} has none", "leave it out")
        mount = Mount(
            kind,
            f"{server}:{path}" if kind == "nfs" else host_path,
            mount_point,
            tag_of(mount_point) if kind == "virtio_fs" else "",
            options,
            read_only,
            entry.place,
        )
        _check_paths(entry, mount, entry.at(MountKeys.mount_point), MountKeys.host_path)
        if mount_point and (host_path or (server and path)):
            nodes = tuple((place, name) for place, names in entry.items(MountKeys.nodes) for name in names)
            found.append(Shared(mount, nodes if MountKeys.nodes in entry else None))
    return tuple(found)


def _access(
    entry: Section, options: ValueKey[tuple[str, ...] | None], read_only: ValueKey[bool]
) -> tuple[tuple[str, ...], bool]:
    """The options without ``ro`` and ``rw``, and whether it is read-only."""
    found, only_read = entry.value(options) or (), entry.value(read_only)
    if only_read and "rw" in found:
        entry.report.error(
            entry.at(options), f"rw, and {read_only.name} says the opposite", "keep one of the two"
        )
    return tuple(option for option in found if option not in ("ro", "rw")), only_read or "ro" in found


def _check_paths(entry: Section, mount: Mount, at_point: str, host_path: ValueKey[str]) -> None:
    point = mount.mount_point
    if point and (tree := _system_folder(point)):
        entry.report.error(
            at_point,
            f"{point} would cover {tree} of the node's system",
            "take a folder of its own, like /data",
        )
    if mount.type == "virtio_fs" and mount.source:
        check_host_folder(entry, host_path, mount.source)


def check_host_folder(section: Section, key: ValueKey[str], path: str) -> None:
    """Reports a folder of the hypervisor that no node may have."""
    if tree := _system_folder_of_host(path):
        section.report.error(
            section.at(key),
            f"{path}: root of a node would be root in {tree} of the host",
            "share a folder that is made for it",
        )


def _system_folder(path: str) -> str:
    return next((tree for tree in _WITHIN if _touch(path, tree)), path if path in _HERE else "")


def _system_folder_of_host(path: str) -> str:
    """The folder of the host's system that is ``path``, lies in it or holds it; empty without one."""
    above = next((tree for tree in (*_OF_THE_HOST, *_HERE) if _holds(path, tree)), "")
    return above or next((tree for tree in _OF_THE_HOST if _holds(tree, path)), "")


def _holds(outer: str, inner: str) -> bool:
    return inner == outer or inner.startswith(outer.rstrip("/") + "/")


def _touch(one: str, other: str) -> bool:
    return _holds(one, other) or _holds(other, one)


def with_mounts(
    nodes: Sequence[Node],
    groups: Mapping[str, str],
    shared: Sequence[Shared],
    report: Report,
    *,
    home_is_shared: bool,
) -> tuple[Node, ...]:
    """``nodes`` with those of ``shared`` that are theirs behind their own; what cannot be is reported.
    ``groups`` are the names of groups of nodes, by the place of their entry.

    ``home_is_shared``: the homes of all nodes but the first come from elsewhere.
    """
    names = _names(nodes, groups)
    having: dict[str, list[Mount]] = {node.name: list(node.mounts) for node in nodes}
    for each in shared:
        listed = having if each.nodes is None else list(_listed(each.nodes, names, report))
        for name in dict.fromkeys(listed):
            having[name].append(each.mount)
    reported: set[tuple[str, str]] = set()
    for position, node in enumerate(nodes):
        for place, problem, hint in _conflicts(having[node.name], home_is_shared and position > 0):
            if (place, problem) not in reported:
                reported.add((place, problem))
                report.error(place, problem, hint)
    return tuple(replace(node, mounts=tuple(having[node.name])) for node in nodes)


def _names(nodes: Sequence[Node], groups: Mapping[str, str]) -> Mapping[str, tuple[str, ...]]:
    """What ``nodes`` of a mount may say: a node, a group of nodes, or a role; and whom it means."""
    found: dict[str, tuple[str, ...]] = {}
    for node in nodes:
        for name in (node.role, groups.get(node.place, "")):
            if name and name not in ("control_plane", "controller"):
                found[name] = (*found.get(name, ()), node.name)
    return {**found, **{node.name: (node.name,) for node in nodes}}


def _listed(
    listed: Sequence[tuple[str, str]], names: Mapping[str, tuple[str, ...]], report: Report
) -> Iterator[str]:
    unknown: dict[str, list[str]] = {}
    for place, name in listed:
        if name in names:
            yield from names[name]
        else:
            unknown.setdefault(place, []).append(name)
    for place, missing in unknown.items():
        report.error(
            place,
            f"there is no node {', '.join(missing[:5])}",
            f"names here are {', '.join(list(names)[:8])}",
        )


def _conflicts(mounts: Sequence[Mount], home_is_shared: bool) -> Iterator[tuple[str, str, str]]:
    """Place, problem and next step of each mount of a node that cannot be beside those before it."""
    for position, mount in enumerate(mounts):
        point = mount.mount_point
        if home_is_shared and point and _holds("/home", point):
            hint = "mount it elsewhere, or write storage.home: local"
            yield (
                f"{mount.place}.mount_point",
                f"{point} lies in the homes, which are mounted themselves",
                hint,
            )
        for other in mounts[:position]:
            if (
                mount.tag
                and mount.tag == other.tag
                and other.type == mount.type
                and point != other.mount_point
            ):
                problem = f"the tag {mount.tag} is used by another mount of this node"
                yield f"{mount.place}.tag", problem, "give each its own"
            if point and other.mount_point and _touch(point, other.mount_point):
                problem = f"{point} and {other.mount_point} ({other.place}) are mounted over each other"
                yield f"{mount.place}.mount_point", problem, "mount them beside each other"
