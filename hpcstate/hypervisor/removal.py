"""What `destroy` takes away and what stays: looked at as a whole before anything is touched."""

from __future__ import annotations

import os
import re
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import libvirt

from hpcstate.errors import HpcstateError
from hpcstate.hypervisor import backup_timer, ports
from hpcstate.hypervisor import xml as objects
from hpcstate.hypervisor.connection import LibvirtHost, state_of
from hpcstate.hypervisor.mark import RECORD, Mark, Stranger, listed
from hpcstate.model import Cluster

_DEEPEST = 100
"""Files under each other that are followed."""


@dataclass(frozen=True)
class GoingDomain:
    """A domain of the cluster. ``file`` is the cluster file it was made from, empty where it is not known;
    ``snapshots`` are names; ``disks`` are those of its disks that are no volumes of the cluster.
    """

    name: str
    node: str
    state: str
    file: str = ""
    snapshots: tuple[str, ...] = ()
    saved: bool = False
    nvram: bool = False
    disks: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The domain as the question of `destroy` has it."""
        more = [self.state]
        more += [f"with snapshots {', '.join(self.snapshots)}"] * bool(self.snapshots)
        more += ["with its saved memory"] * self.saved + ["with its NVRAM"] * self.nvram
        more += [f"its disk {disk} stays" for disk in self.disks]
        return f"domain {self.name} ({'; '.join(more)})"


@dataclass(frozen=True)
class Removal:
    """What would go. ``pool`` and ``network`` are their names, empty when there is none; ``volumes`` are
    those that go, ``staying`` has those that do not, with the reason; ``guests`` are domains of others that
    have a card in the network. ``ports`` are units on the hypervisor (ports.py), ``timers`` units on this
    machine (backup_timer.py).
    ``strangers`` have names of the cluster and are not its own.
    """

    domains: tuple[GoingDomain, ...] = ()
    pool: str = ""
    volumes: tuple[str, ...] = ()
    staying: Mapping[str, str] = field(default_factory=dict)
    spared: tuple[str, ...] = ()
    network: str = ""
    guests: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    timers: tuple[str, ...] = ()
    strangers: tuple[Stranger, ...] = ()

    def __bool__(self) -> bool:
        pool = self.pool and (self.volumes or not self.staying)
        return bool(self.domains or pool or self.ports or self.timers or (self.network and not self.guests))

    @property
    def left(self) -> bool:
        """Whether something stays that carries this cluster's mark."""
        return bool(self.staying or (self.network and self.guests))

    def lines(self) -> Iterator[str]:
        """What goes and what stays, a line each."""
        for domain in self.domains:
            yield f"removes {domain.words}"
        if self.pool and not self.staying:
            yield f"removes storage pool {self.pool}" + (
                f" with {', '.join(self.volumes)}" if self.volumes else ""
            )
        elif self.volumes:
            yield f"removes from storage pool {self.pool}: {', '.join(self.volumes)}"
        if self.network and not self.guests:
            yield f"removes network {self.network}"
        if self.ports:
            yield f"removes ports of the hypervisor: {', '.join(self.ports)}"
        if self.timers:
            yield f"removes timers of this machine: {', '.join(self.timers)}; archives stay"
        yield from self.staying_lines()

    def staying_lines(self) -> Iterator[str]:
        """What stays and why, a line each."""
        if self.staying:
            kept = ", ".join(f"{name} ({why})" for name, why in sorted(self.staying.items()))
            yield f"leaves storage pool {self.pool} with {kept}"
        if self.network and self.guests:
            yield f"leaves network {self.network}: {', '.join(self.guests)}, not of this cluster, uses it"
        yield from (f"leaves {line}" for line in listed(self.strangers))


def survey(host: LibvirtHost, cluster: Cluster, *, data: bool = False) -> Removal:
    """What of ``cluster`` is on the hypervisor; its data volume goes only with ``data``. Changes nothing, but
    that its pool is started to be read."""
    own = host.domains(cluster)
    ids = {domain.UUIDString() for domain in own.values()}
    others = [domain for domain in host.connection.listAllDomains() if domain.UUIDString() not in ids]
    others_xml = {domain.name(): domain.XMLDesc() for domain in others}
    network, pool = host.network(cluster), host.volumes.pool(cluster)
    ours, foreign = host.volumes.made(pool) if pool is not None else ([], [])
    staying = dict.fromkeys(foreign, "not made by hpcstate")
    spared = []
    paths = {volume.path(): volume.name() for volume in ours}
    backing = {volume.path(): _backing(volume.XMLDesc()) for volume in ours}
    if pool is not None:
        for name in foreign:
            under = _backing(pool.storageVolLookupByName(name).XMLDesc())
            while under in paths:
                staying[paths[under]] = f"{name} stands on it"
                spared.append(under)
                under = backing[under]
    for user, xml in others_xml.items():
        used = _with_backing(host, _files(host.connection, xml))
        for path in sorted(used & paths.keys()):
            while path in paths:
                staying.setdefault(paths[path], f"domain {user} uses it")
                spared.append(path)
                path = backing[path]
    # A base without its marker counts as half sent, and would be sent again, under what stands on it.
    for path, name in list(paths.items()):
        if name.removesuffix(".complete") in staying and name.endswith(".complete"):
            staying[name] = f"it says that {name.removesuffix('.complete')} is whole"
            spared.append(path)
    for volume in ours:
        if not data and volume.name() == objects.data_volume(cluster.controller):
            staying.setdefault(volume.name(), _kept(volume))
            spared.append(volume.path())
    return Removal(
        domains=tuple(_going(host, name, domain, set(paths)) for name, domain in own.items()),
        pool=objects.pool_name(cluster) if pool is not None else "",
        volumes=tuple(sorted(volume.name() for volume in ours if volume.name() not in {*staying, RECORD})),
        staying=staying,
        spared=tuple(spared),
        network=network.name() if network is not None else "",
        guests=tuple(
            sorted(
                name
                for name, xml in others_xml.items()
                if network is not None and network.name() in networks_of(xml)
            )
        ),
        ports=ports.going(cluster),
        timers=backup_timer.going(cluster),
        strangers=tuple(host.strangers(cluster)),
    )


def _kept(volume: libvirt.virStorageVol) -> str:
    """Why a data volume stays, and how it goes."""
    return (
        f"Slurm's state and the registry of containers, {size_words(volume)}; `start` takes it up again, "
        "`destroy --data` removes it"
    )


def size_words(volume: libvirt.virStorageVol) -> str:
    """How large a volume is, and how much of it takes room on the hypervisor."""
    _, capacity, used = volume.info()
    return f"{capacity / (1 << 30):g} GiB of which {used / (1 << 30):.1f} are used"


def refuse_snapshots(removal: Removal) -> None:
    """Raises HpcstateError when a domain has snapshots: somebody made them to keep something."""
    kept = [domain for domain in removal.domains if domain.snapshots]
    if kept:
        names = "\n".join(f"  {domain.name}: {', '.join(domain.snapshots)}" for domain in kept)
        raise HpcstateError(
            f"domains of this cluster have snapshots; nothing was touched\n{names}",
            hint="virsh snapshot-delete DOMAIN NAME removes one; `destroy --snapshots` all with the nodes",
        )


def remove(host: LibvirtHost, cluster: Cluster, removal: Removal) -> list[str]:
    """Remove what ``removal`` says. Returns what was removed; an interrupted run is taken up by the next."""
    done = [*backup_timer.remove(removal.timers), *ports.remove(cluster, removal.ports)]
    own = host.domains(cluster)
    for going in removal.domains:
        domain = own.get(going.node)
        if domain is None:
            continue
        _remove_domain(domain)
        done.append(f"domain {going.name}")
    done += host.volumes.remove(cluster, removal.spared)
    network = host.network(cluster)
    if network is not None and not removal.guests:
        if network.isActive():
            network.destroy()
        network.undefine()
        done.append(f"network {removal.network}")
    return done


def of_node(removal: Removal, node: str) -> Removal:
    """What of ``removal`` is the node called ``node``: its domain and its volumes; network and pool stay."""
    own = f"{node}."  # no name of a node has a dot
    return Removal(
        domains=tuple(domain for domain in removal.domains if domain.node == node),
        pool=removal.pool,
        volumes=tuple(name for name in removal.volumes if name.startswith(own)),
        staying={name: why for name, why in removal.staying.items() if name.startswith(own)},
    )


def remove_node(host: LibvirtHost, cluster: Cluster, removal: Removal) -> list[str]:
    """Remove the node that ``removal`` (of :func:`of_node`) is about. Returns what was removed; an
    interrupted run is taken up by the next: the domain, by which the node is known, goes last.
    """
    own = host.domains(cluster)
    domains = {going.name: own[going.node] for going in removal.domains if going.node in own}
    for domain in domains.values():
        if domain.isActive():
            domain.destroy()
    host.volumes.remove_named(cluster, removal.volumes)
    for domain in domains.values():
        _remove_domain(domain)
    return [*(f"domain {name}" for name in domains), *removal.volumes]


def unused_bases(host: LibvirtHost, cluster: Cluster) -> list[str]:
    """Copies of images in the cluster's pool that no disk stands on, ours or another's, and their markers."""
    pool = host.volumes.pool(cluster)
    if pool is None:
        return []
    staying = survey(host, cluster).staying
    volumes = host.volumes.made(pool)[0]
    used = {PurePosixPath(_backing(volume.XMLDesc())).name for volume in volumes}
    used |= {host.volumes.base_name(node) for node in cluster.nodes}
    names = {volume.name() for volume in volumes}
    bases = {name for name in names if f"{name}.complete" in names} - used - staying.keys()
    return sorted({*bases, *(f"{name}.complete" for name in bases)})


def _remove_domain(domain: libvirt.virDomain) -> None:
    if domain.isActive():
        domain.destroy()
    domain.undefineFlags(
        libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
        | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
    )


def _going(host: LibvirtHost, node: str, domain: libvirt.virDomain, volumes: set[str]) -> GoingDomain:
    xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    mark = Mark.from_xml(xml)
    return GoingDomain(
        name=domain.name(),
        node=node,
        state=state_of(domain),
        file=mark.file if mark else "",
        snapshots=tuple(sorted(snapshot.getName() for snapshot in domain.listAllSnapshots())),
        saved=bool(domain.hasManagedSaveImage()),
        nvram=ElementTree.fromstring(xml).find("os/nvram") is not None,
        disks=tuple(sorted(_files(host.connection, xml) - volumes)),
    )


def _files(connection: libvirt.virConnect, domain_xml: str) -> set[str]:
    """The files that a domain has as disks."""
    found = set()
    for source in ElementTree.fromstring(domain_xml).iterfind("devices/disk/source"):
        if source.get("file"):
            found.add(source.attrib["file"])
        elif source.get("pool") and source.get("volume"):
            try:
                pool = connection.storagePoolLookupByName(source.attrib["pool"])
                found.add(pool.storageVolLookupByName(source.attrib["volume"]).path())
            except libvirt.libvirtError:
                continue  # a volume that is gone is nothing to lose
    return found


def _with_backing(host: LibvirtHost, files: Iterable[str]) -> set[str]:
    """``files`` of domains, and what they stand on: as libvirt's pools know it, else, where the hypervisor is
    this machine, as their own headers say.

    Raises HpcstateError when this user may not read one: then it may stand on anything.
    """
    found: set[str] = set()
    waiting = [(file, 0) for file in files]
    while waiting:
        file, depth = waiting.pop()
        if not file or file in found or depth > _DEEPEST:
            continue
        found.add(file)
        try:
            below = _backing(host.connection.storageVolLookupByPath(file).XMLDesc())
        except libvirt.libvirtError:
            try:
                below = backing_file(Path(file)) if host.local else ""
            except PermissionError as error:
                raise HpcstateError(
                    "this disk of a domain that is not of this cluster cannot be read; whether it stands on "
                    "one of the cluster's is not known, and nothing was touched",
                    where=file,
                    hint="run the same command as root (sudo)",
                ) from error
        waiting.append((below, depth + 1))
    return found


def backing_file(image: Path) -> str:
    """The file that the qcow2 ``image`` stands on, by its header; empty when there is none, for what is no
    qcow2, and what is not there (QEMU, docs/interop/qcow2.txt: bytes 8 to 19 say where the name is).

    Read here and not by qemu-img, which would open whatever the header names. Raises PermissionError.
    """
    try:
        mode = image.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            return ""  # a pipe would be waited for
        with image.open("rb") as stream:
            head = stream.read(20)
            if len(head) < 20 or not head.startswith(b"QFI\xfb"):
                return ""
            offset, size = struct.unpack(">QI", head[8:20])
            stream.seek(offset)
            name = stream.read(min(size, 1023)).decode(errors="replace") if offset else ""
    except PermissionError:
        raise
    except (OSError, ValueError):
        return ""
    if name.startswith("json:"):
        named = re.search(r'"(?:file\.)?filename"\s*:\s*"([^"]+)"', name)
        name = named[1] if named else ""
    name = name.removeprefix("file:")
    return os.path.normpath(image.parent / name) if name else ""


def networks_of(domain_xml: str) -> set[str]:
    """The networks of libvirt's that a domain has cards in, by name."""
    sources = ElementTree.fromstring(domain_xml).iterfind("devices/interface/source")
    return {source.get("network", "") for source in sources}


def _backing(volume_xml: str) -> str:
    return ElementTree.fromstring(volume_xml).findtext("backingStore/path", "")
