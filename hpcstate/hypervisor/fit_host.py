"""What this host must allow before anything is built or started: libvirt, KVM, memory that VFIO pins,
bridges, and files that QEMU reads. Pure, but for ``look`` and what it calls.
"""

from __future__ import annotations

import getpass
import grp
import json
import os
import pwd
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hpcstate.errors import HpcstateError, Problem, problem_at
from hpcstate.host.packages import kvm_refused
from hpcstate.hypervisor.daemon import SOCKET, SYSTEM_URI, answers
from hpcstate.hypervisor.mark import Stranger, listed, owner_of
from hpcstate.hypervisor.rivals import DnsServer, dns_in_the_way, dns_servers, other_hypervisors
from hpcstate.model import Cluster
from hpcstate.run import run, which

if TYPE_CHECKING:
    from hpcstate.hypervisor.connection import NetworkOfBridge

QEMU_CONF = Path("/etc/libvirt/qemu.conf")
LIBVIRTD_CONF = Path("/etc/libvirt/libvirtd.conf")
POLKIT_ACTION = "org.libvirt.unix.manage"
QEMU_USER = "libvirt-qemu"
"""Whom Debian's libvirt runs QEMU as, unless qemu.conf says otherwise."""

FIRMWARE = "/usr/share/vgabios/"
"""Where every QEMU of libvirt's may read (the abstraction libvirt-qemu of AppArmor, since libvirt 0.7)."""

APPARMOR_LOCAL = Path("/etc/apparmor.d/local/abstractions/libvirt-qemu")
APPARMOR_RULES = (Path("/etc/apparmor.d/abstractions/libvirt-qemu"), APPARMOR_LOCAL)
"""What all machines of libvirt may read; virt-aa-helper adds their disks, but no ROM file of a device."""

VHOST_USER = (Path("/etc/qemu/vhost-user"), Path("/usr/share/qemu/vhost-user"))
"""Where libvirt finds what shares folders."""

_VIRTIOFSD = (
    "apt-get install virtiofsd (Debian 13); on Debian 12 the QEMU of the release has it (qemu-system-common "
    "7.2), that of backports, which a host without KVM gets, has not"
)
_READ_ONLY_SHARES = 11_000_000
"""libvirt refuses <readonly/> of virtio-fs before (qemu_validate.c)."""

_LEAST_RESERVE_MB = 2048
_NET = Path("/sys/class/net")


@dataclass(frozen=True)
class Bridges:
    """``interfaces`` of the host by name, those among them that are ``bridges`` and that are ``up``, and
    libvirt's ``networks`` by their bridges; None when it could not be asked.
    """

    interfaces: frozenset[str] = frozenset()
    bridges: frozenset[str] = frozenset()
    networks: Mapping[str, NetworkOfBridge] | None = None
    up: frozenset[str] = frozenset()


@dataclass(frozen=True)
class HostAccess:
    """What this user may do here: why libvirt and KVM are refused, empty where they are not; ``user`` is the
    name. ``running`` are the UUIDs of libvirt's machines that are on. ``unreadable`` says why QEMU cannot
    read a file, empty when it can; ``strangers`` has what stands under a cluster's names and is not its own.
    ``virtiofsd`` says why no folder of this host can be shared, empty where it can; ``libvirt_version`` is
    libvirt's number (11.3.0 is 11003000), None where it was not asked. ``ports`` is what stands in the way of
    the cluster's ports of this host (place, message, next step). ``dns`` are the servers on port 53,
    ``hypervisors`` the others than KVM that run a machine here.
    """

    user: str = ""
    libvirt: str = ""
    kvm: str = ""
    bridges: Bridges = field(default_factory=Bridges)
    running: frozenset[str] = frozenset()
    unreadable: Callable[[Path], str] = lambda _: ""
    strangers: Callable[[Cluster], Sequence[Stranger]] = lambda _: ()
    virtiofsd: str = ""
    libvirt_version: int | None = None
    ports: Callable[[Cluster], Iterable[tuple[str, str, str]]] = lambda _: ()
    dns: Sequence[DnsServer] = ()
    hypervisors: Sequence[str] = ()


def look() -> HostAccess:
    """What this user may do on this host. Starts nothing."""
    networks, running, version = _of_libvirt()
    return HostAccess(
        user=getpass.getuser(),
        libvirt=libvirt_refused(),
        kvm=kvm_refused(),
        bridges=Bridges(
            frozenset(path.name for path in _NET.iterdir()),
            frozenset(path.parent.name for path in _NET.glob("*/bridge")),
            networks,
            frozenset(path.name for path in _NET.iterdir() if _is_up(path)),
        ),
        running=running,
        unreadable=unreadable_for_qemu,
        strangers=_strangers,
        virtiofsd=virtiofsd_missing(),
        libvirt_version=version,
        ports=_ports,
        dns=dns_servers(),
        hypervisors=other_hypervisors(),
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
) -> Iterator[Problem]:
    """What ``clusters``, to run on this host of ``memory_mb`` MiB, ask of it that it does not allow.
    ``pinned_mb`` of its memory others of their nodes have, which run.
    """
    for cluster in clusters:
        yield from _access(cluster, access)
        if cluster.nodes:
            yield from _bridge(cluster, access.bridges)
            yield from _networks_that_are_off(cluster, access.bridges.networks or {})
            yield from _rivals(cluster, access)
        yield from (problem_at(*finding) for finding in access.ports(cluster))
        try:
            strangers = access.strangers(cluster)
        except HpcstateError as error:
            yield problem_at(f".clusters.{cluster.kind}.name", f"{error.where}: {error.message}", error.hint)
            strangers = ()
        if strangers:
            yield problem_at(
                f".clusters.{cluster.kind}.name",
                f"not this cluster's own: {'; '.join(listed(strangers))}",
                "take another name, subnet and bridge; or `hpcstate adopt` takes over what hpcstate made",
            )
        yield from _shares(cluster, access)
        for node in cluster.nodes:
            for position, device in enumerate(node.passthrough):
                if device.rom_file and (why := access.unreadable(Path(device.rom_file))):
                    yield problem_at(
                        f"{node.place}.pcie_passthrough.devices[{position}].rom_file",
                        f"QEMU cannot read {device.rom_file}: {why}",
                        f"put it below {FIRMWARE}, mode 0644, in folders that all may enter",
                    )
    yield from _pinned_memory(clusters, memory_mb, pinned_mb)


def _access(cluster: Cluster, access: HostAccess) -> Iterator[Problem]:
    if access.libvirt and cluster.uri == SYSTEM_URI:
        yield problem_at(
            f".clusters.{cluster.kind}.uri",
            f"{access.user} may not use libvirt here: {access.libvirt}",
            f"sudo usermod -aG libvirt {access.user}, then log in again",
        )
    if access.kvm and cluster.acceleration.enable_kvm and cluster.nodes:
        yield problem_at(
            f".clusters.{cluster.kind}.hardware.acceleration.enable_kvm",
            f"{access.user} may not use KVM here: {access.kvm}; images would be built under emulation",
            f"sudo usermod -aG kvm {access.user}, then log in again; or enable_kvm: false",
        )


def _is_up(interface: Path) -> bool:
    """Whether ``interface`` of /sys/class/net is up (IFF_UP of linux/if.h), with a carrier or without."""
    try:
        return bool(int((interface / "flags").read_text(), 16) & 1)
    except (OSError, ValueError):
        return False


def _bridge(cluster: Cluster, bridges: Bridges) -> Iterator[Problem]:
    from hpcstate.hypervisor.xml import cluster_uuid

    name = cluster.network.bridge
    place = f".clusters.{cluster.kind}.network.bridge"
    if cluster.network.is_of_the_site:
        if name not in bridges.interfaces:
            there = ", ".join(sorted(bridges.bridges))
            way = (
                f"with a card of the site's network in it (interfaces(5), or systemd-networkd): {name} "
                "is made by who has this host, docs/network.md"
            )
            hint = f"it has {there}" if there else way
            yield problem_at(place, f"this host has no bridge {name}", hint)
        elif name not in bridges.bridges:
            yield problem_at(place, f"{name} is no bridge", "ip -d link show type bridge lists them")
        elif name not in bridges.up:
            yield problem_at(place, f"the bridge {name} is down", f"ip link set {name} up")
        return
    owner = None if bridges.networks is None else bridges.networks.get(name)
    is_ours = owner is not None and owner.uuid == cluster_uuid(cluster, "network")
    if owner is not None and not is_ours:
        yield problem_at(
            place, f"the bridge {name} is that of libvirt's network {owner.name}", "take another name"
        )
    elif owner is not None and not owner.is_active and name in bridges.interfaces:
        # libvirt 9.0: "error creating bridge interface …: File exists", after everything was built.
        yield problem_at(
            place,
            f"this host has an interface {name}, and this cluster's network, which is off, has not made it",
            f"take another name; if nobody uses it (ip -d link show {name}): ip link delete {name}",
        )
    elif owner is None and name in bridges.interfaces:
        # Without libvirt nobody says whose a bridge is; what is none cannot be its network's.
        known = bridges.networks is not None or name not in bridges.bridges
        yield problem_at(
            place,
            f"this host has an interface {name} already"
            + ("" if known else ", and libvirt was not asked whose"),
            "take another name (ip link)"
            if known
            else "fine if it is this cluster's; else take another name",
            not known,
        )


def _networks_that_are_off(cluster: Cluster, networks: Mapping[str, NetworkOfBridge]) -> Iterator[Problem]:
    """Others' networks of the same subnet: no route tells of one that is off, and libvirt starts only one of
    both (networkCheckRouteCollision of bridge_driver_linux.c).
    """
    from hpcstate.hypervisor.xml import cluster_uuid

    for network in () if cluster.network.is_of_the_site else networks.values():
        same = [subnet for subnet in network.subnets if subnet.overlaps(cluster.network.subnet)]
        if same and not network.is_active and network.uuid != cluster_uuid(cluster, "network"):
            yield problem_at(
                f".clusters.{cluster.kind}.network.subnet",
                f"libvirt's network {network.name}, which is off, has {same[0]}: only one of both can be on",
                f"take a free subnet; or, if nobody needs it: virsh net-undefine {network.name}",
                True,
            )


def _rivals(cluster: Cluster, access: HostAccess) -> Iterator[Problem]:
    """What others on this host hold of what the machines and the network of ``cluster`` need."""
    networks = access.bridges.networks or {}
    network = networks.get(cluster.network.bridge)
    own_dns = not cluster.network.is_of_the_site
    # A libvirtd that is off has left its networks on: who listens at the gateway may be this one's own.
    servers = [
        each
        for each in access.dns
        if access.bridges.networks is not None or each.address != str(cluster.network.gateway)
    ]
    if own_dns and (network is None or not network.is_active) and (said := dns_in_the_way(cluster, servers)):
        yield problem_at(f".clusters.{cluster.kind}.network", *said)
    if access.hypervisors and cluster.acceleration.enable_kvm:
        yield problem_at(
            f".clusters.{cluster.kind}.hardware.acceleration.enable_kvm",
            f"{', '.join(access.hypervisors)} runs a machine here: of KVM and it the second is refused the "
            "processor's virtualization (device or resource busy)",
            "end its machine first; or enable_kvm: false",
            True,
        )


def _shares(cluster: Cluster, access: HostAccess) -> Iterator[Problem]:
    """What libvirt here lacks for the folders of this host that nodes mount; said once for each folder."""
    from hpcstate.hypervisor.xml import shares

    mounts = {mount.place: mount for node in cluster.nodes for mount in shares(cluster, node)}
    for place, mount in mounts.items():
        if access.virtiofsd:
            yield problem_at(place, f"{mount.source} cannot be shared: {access.virtiofsd}", _VIRTIOFSD)
        version = access.libvirt_version
        if mount.read_only and version is not None and version < _READ_ONLY_SHARES:
            number = f"{version // 1_000_000}.{version // 1000 % 1000}"
            yield problem_at(
                place,
                f"libvirt {number} of this host cannot share {mount.source} read-only: root of a node "
                "would write there",
                "libvirt 11.0 of Debian 13 can; or share it writable, or export it by NFS as read-only",
            )


def virtiofsd_missing(folders: Sequence[Path] = VHOST_USER, root: Path = Path("/")) -> str:
    """Why libvirt finds no virtiofsd here; empty where it does.

    It looks for a vhost-user description of type ``fs`` and runs the binary that this names
    (docs/interop/vhost-user.json of QEMU; libvirt's qemu_vhost_user.c).
    """
    binaries = []
    for file in (
        file for folder in folders for file in sorted((root / folder.relative_to("/")).glob("*.json"))
    ):
        try:
            described = json.loads(file.read_text())
            if described["type"] == "fs":
                binaries.append(str(described["binary"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    if any(os.access(root / binary.lstrip("/"), os.X_OK) for binary in binaries):
        return ""
    return f"{binaries[0]} is not there" if binaries else "this host has no virtiofsd"


def _pinned_memory(clusters: Iterable[Cluster], memory_mb: int, pinned_mb: int) -> Iterator[Problem]:
    nodes = [node for cluster in clusters for node in cluster.nodes if node.auto_start and node.passthrough]
    pinned = pinned_mb + sum(node.memory_mb for node in nodes)
    most = memory_mb - reserve_mb(memory_mb)
    if nodes and pinned > most:
        yield problem_at(
            f"{nodes[-1].place}.memory_gb",
            f"nodes with devices of this host pin {pinned / 1024:.1f} of its {memory_mb / 1024:.1f} GiB of "
            f"memory; it needs {reserve_mb(memory_mb) / 1024:.1f} GiB itself",
            f"give these nodes {most / 1024:.1f} GiB together at most",
        )


def unreadable_for_qemu(
    path: Path,
    conf: Path = QEMU_CONF,
    enabled: Path = Path("/sys/module/apparmor/parameters/enabled"),
    rules: Sequence[Path] = APPARMOR_RULES,
) -> str:
    """Why QEMU, as libvirt starts it, cannot read the file at ``path``: its user's rights, or AppArmor. Empty
    when it can, and when the file is not there, which is another finding.
    """
    if not path.exists():
        return ""
    user = _setting(conf, "user").removeprefix("+") or QEMU_USER
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
        confined = enabled.read_text().strip() == "Y" and _setting(conf, "security_driver") != "none"
    except OSError:
        confined = False
    real = str(path.resolve())
    if confined and not any(pattern.fullmatch(real) for pattern in readable(_texts(rules))):
        return f"AppArmor does not let libvirt's machines (a line `{real} r,` in {APPARMOR_LOCAL} would)"
    return ""


def readable(profiles: Iterable[str]) -> Iterator[re.Pattern[str]]:
    """What the rules of these parts of AppArmor profiles let everybody read (apparmor.d(5), Globbing). Rules
    with variables, which lie in /proc and /sys, are left out.
    """
    for profile in profiles:
        for glob in re.findall(
            r'^\s*(?:file\s+)?"?(/[^\s",]*(?:\{[^}\s]*\}[^\s",]*)*)"?\s+\w*r\w*,', profile, re.M
        ):
            yield re.compile(re.sub(r"\*\*|[*?{},]|[^*?{},]+", _regex_of, glob))


def _regex_of(part: re.Match[str]) -> str:
    """A piece of AppArmor's globbing as a regular expression."""
    words = {"**": ".*", "*": "[^/]*", "?": "[^/]", "{": "(?:", "}": ")", ",": "|"}
    return words.get(part.group()) or re.escape(part.group())


def _texts(files: Iterable[Path]) -> Iterator[str]:
    for file in files:
        try:
            yield file.read_text()
        except OSError:
            continue


def _setting(conf: Path, key: str) -> str:
    """The value of ``key`` in qemu.conf, empty where it has none."""
    found = [
        line for text in _texts([conf]) for line in re.findall(rf'^\s*{key}\s*=\s*"([^"]+)"', text, re.M)
    ]
    return str(found[-1]) if found else ""


def _may(state: os.stat_result, uid: int, gids: set[int], bit: int) -> bool:
    """Whether the user may do ``bit`` (1 enter, 4 read) by the mode: the first class that fits counts."""
    shift = 6 if state.st_uid == uid else 3 if state.st_gid in gids else 0
    return bool(state.st_mode >> shift & bit)


def libvirt_refused(socket: Path = SOCKET, conf: Path = LIBVIRTD_CONF) -> str:
    """Why this user may not use libvirt here; empty when it may, and where no libvirtd listens yet.

    By the mode of the socket or, where all may connect (SocketMode=0666 of Debian 12), by polkit, which
    libvirtd asks then: group libvirt is allowed, others are asked for a password at each call
    (/usr/share/polkit-1/rules.d/60-libvirt.rules). pkcheck(1) asks polkit without asking the user.
    """
    if os.geteuid() == 0 or not socket.exists():
        return ""
    if not os.access(socket, os.R_OK | os.W_OK):
        return f"{socket} is for group {_group_of(socket)} only"
    if _setting(conf, "auth_unix_rw") == "none" or which("pkcheck") is None:
        return ""
    words = [
        "timeout",
        "-k",
        "2",
        "10",
        "pkcheck",
        "--action-id",
        POLKIT_ACTION,
        "--process",
        str(os.getpid()),
    ]
    refused = run(words, check=False).code in (1, 2, 3)  # others: there is no polkit to ask
    return "" if not refused else f"polkit refuses {POLKIT_ACTION}"


def _group_of(path: Path) -> str:
    gid = path.stat().st_gid
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _strangers(cluster: Cluster) -> Sequence[Stranger]:
    """What has the names of ``cluster`` in this host's libvirt and is not its own; nothing where libvirt does
    not answer. Raises HpcstateError when it cannot be told what is its own (its owner is damaged).
    """
    owner_of(cluster)
    if not answers():
        return ()
    from hpcstate.hypervisor.connection import connect

    try:
        with connect(SYSTEM_URI, read_only=True) as host:
            return host.named_strangers(cluster)
    except HpcstateError:
        return ()


def _ports(cluster: Cluster) -> Sequence[tuple[str, str, str]]:
    """What stands in the way of the ports of this host that ``cluster`` wants."""
    if not cluster.network.ports:
        return ()
    from hpcstate.hypervisor import ports

    try:
        return list(ports.conflicts(cluster, ports.look(cluster), owner_of(cluster)))
    except HpcstateError as error:
        return [(f".clusters.{cluster.kind}.network.ports", str(error.message), error.hint)]


def _of_libvirt() -> tuple[Mapping[str, NetworkOfBridge] | None, frozenset[str], int | None]:
    """libvirt's networks by their bridges (None when it does not answer), the UUIDs of the machines that are
    on, and its version.
    """
    if not answers():
        return None, frozenset(), None
    from hpcstate.hypervisor.connection import connect

    try:
        with connect(SYSTEM_URI, read_only=True) as host:
            return host.bridges(), host.running_uuids(), host.version
    except HpcstateError:
        return None, frozenset(), None
