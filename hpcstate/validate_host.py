"""What this host must allow before anything is built or started: libvirt, KVM, memory that VFIO pins,
bridges, and files that QEMU reads. Pure, but for ``look`` and what it calls.
"""

from __future__ import annotations

import getpass
import grp
import os
import pwd
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hpcstate.errors import HpcstateError
from hpcstate.host_packages import kvm_refused
from hpcstate.libvirt_daemon import SOCKET, SYSTEM_URI, answers
from hpcstate.model import Cluster
from hpcstate.pcie_request import Finding

QEMU_CONF = Path("/etc/libvirt/qemu.conf")
QEMU_USER = "libvirt-qemu"
"""Whom Debian's libvirt runs QEMU as, unless qemu.conf says otherwise."""

APPARMOR_ALLOWS = ("/usr/share/kvm/", "/usr/share/qemu/", "/usr/share/vgabios/", "/usr/share/seabios/")
"""Where QEMU may read firmware (Debian: /etc/apparmor.d/abstractions/libvirt-qemu)."""

_LEAST_RESERVE_MB = 2048


@dataclass(frozen=True)
class Bridges:
    """``interfaces`` of the host by name, and libvirt's ``networks``: the bridge of each to name and UUID;
    None when libvirt could not be asked.
    """

    interfaces: frozenset[str] = frozenset()
    networks: Mapping[str, tuple[str, str]] | None = None


@dataclass(frozen=True)
class HostAccess:
    """What this user may do here: why libvirt and KVM are refused, empty where they are not; ``user`` is the
    name. ``running`` are the UUIDs of libvirt's machines that are on. ``unreadable`` says why QEMU cannot
    read a file, empty when it can.
    """

    user: str = ""
    libvirt: str = ""
    kvm: str = ""
    bridges: Bridges = field(default_factory=Bridges)
    running: frozenset[str] = frozenset()
    unreadable: Callable[[Path], str] = lambda _: ""


def look() -> HostAccess:
    """What this user may do on this host. Starts nothing."""
    networks, running = _of_libvirt()
    return HostAccess(
        user=getpass.getuser(),
        libvirt=_libvirt_refused(),
        kvm=kvm_refused(),
        bridges=Bridges(frozenset(path.name for path in Path("/sys/class/net").iterdir()), networks),
        running=running,
        unreadable=unreadable_for_qemu,
    )


def reserve_mb(memory_mb: int) -> int:
    """What a host of ``memory_mb`` MiB keeps for itself beside guests whose memory is pinned: a tenth, and
    2 GiB at least.

    VFIO pins all of a guest's memory (Linux, driver-api/vfio.rst): it can neither be swapped nor shared, and
    the kernel ends the host's own processes when too little is left.
    """
    return max(_LEAST_RESERVE_MB, memory_mb // 10)


def findings(
    clusters: Sequence[Cluster], access: HostAccess, memory_mb: int, pinned_mb: int = 0
) -> Iterator[Finding]:
    """What ``clusters``, to run on this host of ``memory_mb`` MiB, ask of it that it does not allow.
    ``pinned_mb`` of its memory others of their nodes have, which run.
    """
    for cluster in clusters:
        yield from _access(cluster, access)
        yield from _bridge(cluster, access.bridges)
        for node in cluster.nodes:
            for position, device in enumerate(node.passthrough):
                if device.rom_file and (why := access.unreadable(Path(device.rom_file))):
                    yield Finding(
                        f"{node.place}.pcie_passthrough.devices[{position}].rom_file",
                        f"QEMU cannot read {device.rom_file}: {why}",
                        f"put it below {APPARMOR_ALLOWS[2]}, mode 0644, in folders that all may enter",
                    )
    yield from _pinned_memory(clusters, memory_mb, pinned_mb)


def _access(cluster: Cluster, access: HostAccess) -> Iterator[Finding]:
    if access.libvirt and cluster.uri == SYSTEM_URI:
        yield Finding(
            f".clusters.{cluster.kind}.uri",
            f"{access.user} may not use libvirt here: {access.libvirt}",
            f"sudo usermod -aG libvirt {access.user}, then log in again",
        )
    if access.kvm and cluster.acceleration.enable_kvm:
        yield Finding(
            f".clusters.{cluster.kind}.hardware.acceleration.enable_kvm",
            f"{access.user} may not use KVM here: {access.kvm}; images would be built under emulation",
            f"sudo usermod -aG kvm {access.user}, then log in again; or enable_kvm: false",
        )


def _bridge(cluster: Cluster, bridges: Bridges) -> Iterator[Finding]:
    from hpcstate.libvirt_objects import cluster_uuid

    name = cluster.network.bridge
    place = f".clusters.{cluster.kind}.network.bridge"
    owner = None if bridges.networks is None else bridges.networks.get(name)
    if owner is not None:
        if owner[1] != cluster_uuid(cluster, "network"):
            yield Finding(
                place, f"the bridge {name} is that of libvirt's network {owner[0]}", "take another name"
            )
    elif name in bridges.interfaces:
        known = bridges.networks is not None
        yield Finding(
            place,
            f"this host has an interface {name} already"
            + ("" if known else ", and libvirt was not asked whose"),
            "take another name (ip link)"
            if known
            else "fine if it is this cluster's; else take another name",
            not known,
        )


def _pinned_memory(clusters: Iterable[Cluster], memory_mb: int, pinned_mb: int) -> Iterator[Finding]:
    nodes = [node for cluster in clusters for node in cluster.nodes if node.auto_start and node.passthrough]
    pinned = pinned_mb + sum(node.memory_mb for node in nodes)
    most = memory_mb - reserve_mb(memory_mb)
    if nodes and pinned > most:
        yield Finding(
            f"{nodes[-1].place}.memory_gb",
            f"nodes with devices of this host pin {pinned / 1024:.1f} of its {memory_mb / 1024:.1f} GiB of "
            f"memory; it needs {reserve_mb(memory_mb) / 1024:.1f} GiB itself",
            f"give these nodes {most / 1024:.1f} GiB together at most",
        )


def unreadable_for_qemu(
    path: Path, conf: Path = QEMU_CONF, enabled: Path = Path("/sys/module/apparmor/parameters/enabled")
) -> str:
    """Why QEMU, as libvirt starts it, cannot read the file at ``path``: its user's rights, or AppArmor. Empty
    when it can, and when the file is not there, which is another finding.
    """
    if not path.exists():
        return ""
    user = _qemu_user(conf)
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return ""
    groups = {account.pw_gid, *(group.gr_gid for group in grp.getgrall() if user in group.gr_mem)}
    if account.pw_uid != 0:
        for folder in reversed(path.resolve().parents):
            if not _may(folder.stat(), account.pw_uid, groups, 1):
                return f"{user} may not enter {folder}"
        if not _may(path.stat(), account.pw_uid, groups, 4):
            return f"{user} may not read it (mode {stat.S_IMODE(path.stat().st_mode):04o})"
    try:
        confined = enabled.read_text().strip() == "Y"
    except OSError:
        confined = False
    if confined and not str(path.resolve()).startswith(APPARMOR_ALLOWS):
        return "AppArmor's profile of libvirt's machines allows firmware in few places"
    return ""


def _qemu_user(conf: Path) -> str:
    """``user`` of qemu.conf, without the plus that marks a number there."""
    try:
        found = re.findall(r'^\s*user\s*=\s*"\+?([^"]+)"', conf.read_text(), re.MULTILINE)
    except OSError:
        found = []
    return str(found[-1]) if found else QEMU_USER


def _may(state: os.stat_result, uid: int, gids: set[int], bit: int) -> bool:
    """Whether the user may do ``bit`` (1 enter, 4 read) by the mode: the first class that fits counts."""
    shift = 6 if state.st_uid == uid else 3 if state.st_gid in gids else 0
    return bool(state.st_mode >> shift & bit)


def _libvirt_refused() -> str:
    if not SOCKET.exists() or os.access(SOCKET, os.R_OK | os.W_OK):
        return ""
    state = SOCKET.stat()
    try:
        group = grp.getgrgid(state.st_gid).gr_name
    except KeyError:
        group = str(state.st_gid)
    return f"{SOCKET} is for group {group} only"


def _of_libvirt() -> tuple[Mapping[str, tuple[str, str]] | None, frozenset[str]]:
    """libvirt's networks (the bridge of each to its name and UUID; None when it does not answer), and the
    UUIDs of the machines that are on.
    """
    if not answers():
        return None, frozenset()
    from hpcstate.libvirt_host import connect

    try:
        with connect(SYSTEM_URI, read_only=True) as host:
            return host.bridges(), host.running_uuids()
    except HpcstateError:
        return None, frozenset()
