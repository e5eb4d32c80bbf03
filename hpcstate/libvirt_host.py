"""libvirt: networks, volumes and domains of a cluster. Everything is asked for by UUID, made if missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from xml.etree import ElementTree

import libvirt

from hpcstate import libvirt_objects as objects
from hpcstate.cidata import seed_of, write_cidata
from hpcstate.cpu_placement import host_cells
from hpcstate.errors import HpcstateError
from hpcstate.host_packages import kvm_works
from hpcstate.model import Cluster, Node
from hpcstate.paths import ROOT, ClusterPaths, sidecar
from hpcstate.store import Manifest

_QEMU_FOR_TCG = 10_000_000
"""QEMU 10.0.0 in libvirt's numbers. 7.2 under TCG corrupts guests that run Go programs (double faults)."""

STATES = {
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_BLOCKED: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTDOWN: "stopping",
    libvirt.VIR_DOMAIN_SHUTOFF: "stopped",
    libvirt.VIR_DOMAIN_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "suspended",
}


def _silence(_context: object, _error: object) -> None:
    """libvirt prints every error to stderr by itself; ours come as exceptions."""


libvirt.registerErrorHandler(_silence, None)


@contextmanager
def connect(uri: str, *, read_only: bool = False) -> Iterator[LibvirtHost]:
    """A connection to the hypervisor at ``uri``. Raises HpcstateError when nobody answers there."""
    try:
        connection = libvirt.openReadOnly(uri) if read_only else libvirt.open(uri)
    except libvirt.libvirtError as error:
        raise HpcstateError(
            f"libvirt does not answer: {error.get_error_message()}",
            where=uri,
            hint="is libvirtd running, and may this user use it (group libvirt)? `./hpc up` starts one",
        ) from error
    try:
        yield LibvirtHost(connection, uri)
    except libvirt.libvirtError as error:
        raise HpcstateError(f"libvirt: {error.get_error_message()}", where=uri) from error
    finally:
        connection.close()


class LibvirtHost:
    """One hypervisor."""

    def __init__(self, connection: libvirt.virConnect, uri: str) -> None:
        self.connection = connection
        self.uri = uri

    @property
    def local(self) -> bool:
        """Whether the hypervisor is this machine."""
        return "://" not in self.uri or self.uri.split("://")[1].startswith("/")

    def facts(self) -> objects.HypervisorFacts:
        """Whether KVM really works there, and its cores. A remote host is believed what it says of KVM."""
        capabilities = self.connection.getCapabilities()
        return objects.HypervisorFacts(
            kvm=kvm_works() if self.local else "<domain type='kvm'" in capabilities,
            cells=host_cells(capabilities),
        )

    def check(self, facts: objects.HypervisorFacts) -> None:
        """Raises HpcstateError when guests would be damaged: TCG with QEMU before 10."""
        version = self.connection.getVersion()
        if not facts.kvm and version < _QEMU_FOR_TCG:
            number = f"{version // 1_000_000}.{version // 1000 % 1000}"
            raise HpcstateError(
                f"QEMU {number} without KVM corrupts guests that run Go programs; QEMU 10 or later is needed",
                where=self.uri,
                hint="./hpc installs it from Debian's backports; on other hosts upgrade QEMU or enable KVM",
            )

    # Looking ---------------------------------------------------------------------------------------------

    def network(self, cluster: Cluster) -> libvirt.virNetwork | None:
        """The cluster's network, None when it does not exist."""
        return _found(self.connection.networkLookupByUUIDString, objects.cluster_uuid(cluster, "network"))

    def pool(self, cluster: Cluster) -> libvirt.virStoragePool | None:
        """The cluster's storage pool, None when it does not exist."""
        return _found(self.connection.storagePoolLookupByUUIDString, objects.cluster_uuid(cluster, "pool"))

    def domain(self, cluster: Cluster, node: Node) -> libvirt.virDomain | None:
        """The domain of ``node``, None when it does not exist."""
        return _found(self.connection.lookupByUUIDString, objects.cluster_uuid(cluster, node.name))

    def state(self, cluster: Cluster, node: Node) -> str:
        """``running``, ``stopped``, ... or ``absent``."""
        domain = self.domain(cluster, node)
        return "absent" if domain is None else STATES.get(domain.state()[0], "unknown")

    def console(self, cluster: Cluster, node: Node) -> str:
        """What the node wrote to its serial console since it was started; empty when nothing is known."""
        pool = self.pool(cluster)
        if pool is None:
            return ""
        pool.refresh()
        volume = _found(pool.storageVolLookupByName, objects.console_volume(node))
        return "" if volume is None else self._download(volume).decode(errors="replace")

    def has_other_keys(self, cluster: Cluster, node: Node) -> bool:
        """Whether the node's CD was made for another host key than the one below build/ (or for none)."""
        pool = self.pool(cluster)
        volume = None
        if pool is not None and pool.isActive():
            volume = _found(pool.storageVolLookupByName, f"{node.name}.iso")
        if volume is None:
            return False
        # ISO 9660 stores files uncompressed and in one piece, and the instance id names the host key.
        return seed_of(cluster, node).instance_id.encode() not in self._download(volume)

    def running_domains(self) -> list[str]:
        """The names of all domains that are on, ours and others."""
        return sorted(domain.name() for domain in self.connection.listAllDomains() if domain.isActive())

    def held_devices(self) -> dict[str, str]:
        """The PCI devices (``0000:01:00.0``) that running domains have, to the domain's name."""
        return {
            address: domain.name()
            for domain in self.connection.listAllDomains()
            if domain.isActive()
            for address in _passed_through(domain.XMLDesc())
        }

    # Making ----------------------------------------------------------------------------------------------

    def ensure_network(self, cluster: Cluster) -> bool:
        """Define and start the network. True when something was done."""
        network = self.network(cluster)
        changed = network is None
        if network is None:
            self._refuse_namesake(self.connection.networkLookupByName, cluster.network.name, "network")
            network = self.connection.networkDefineXML(objects.network_xml(cluster))
        if not network.isActive():
            try:
                network.create()
            except libvirt.libvirtError as error:
                raise HpcstateError(
                    f"the network could not be started: {error.get_error_message()}",
                    where=f".clusters.{cluster.kind}.network",
                    hint="another bridge or subnet of that name? without NAT on this host: `forward: none`",
                ) from error
            changed = True
        return changed

    def ensure_pool(self, cluster: Cluster) -> libvirt.virStoragePool:
        """Define, build and start the storage pool."""
        pool = self.pool(cluster)
        if pool is None:
            self._refuse_namesake(
                self.connection.storagePoolLookupByName, objects.pool_name(cluster), "storage pool"
            )
            pool = self.connection.storagePoolDefineXML(objects.pool_xml(cluster))
        if not pool.isActive():
            pool.build()
            pool.create()
        pool.refresh()
        return pool

    def ensure_volumes(self, cluster: Cluster, node: Node, pool: libvirt.virStoragePool) -> None:
        """The node's base image, overlay and cloud-init CD; those that are there stay as they are."""
        if _found(pool.storageVolLookupByName, f"{node.name}.qcow2") is None:
            base = self._ensure_base(cluster, node, pool)
            pool.createXML(
                objects.volume_xml(f"{node.name}.qcow2", node.disk_gb << 30, "qcow2", backing=base.path())
            )
        if _found(pool.storageVolLookupByName, f"{node.name}.iso") is None:
            self._upload_cidata(cluster, node, pool)

    def ensure_domain(self, cluster: Cluster, node: Node, facts: objects.HypervisorFacts) -> bool:
        """Define the domain and start it. True when it was started."""
        domain = self.domain(cluster, node)
        if domain is None:
            self._refuse_namesake(self.connection.lookupByName, cluster.domain_name(node), "domain")
            domain = self.connection.defineXML(objects.domain_xml(cluster, node, facts))
        elif not domain.isActive():
            domain = self.connection.defineXML(objects.domain_xml(cluster, node, facts))
        if domain.isActive():
            if domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
                domain.resume()
                return True
            return False
        domain.create()
        return True

    def _ensure_base(
        self, cluster: Cluster, node: Node, pool: libvirt.virStoragePool
    ) -> libvirt.virStorageVol:
        image = Path(node.image) if Path(node.image).is_absolute() else ROOT / node.image
        if not image.is_file():
            raise HpcstateError(
                f"the image {node.image} does not exist", where=node.place, hint="doit build_images builds it"
            )
        manifest = Manifest.read(sidecar(image))
        stat = image.stat()
        name = objects.base_volume(
            image, manifest.digest if manifest else f"{stat.st_size:x}{stat.st_mtime_ns:x}"
        )
        # A pool has no rename: an upload counts once its marker volume exists, else it is sent again.
        marker = f"{name}.complete"
        volume = _found(pool.storageVolLookupByName, name)
        if volume is not None and _found(pool.storageVolLookupByName, marker) is not None:
            return volume
        if volume is not None:
            volume.delete()
        volume = pool.createXML(objects.volume_xml(name, stat.st_size, "raw"))
        self._upload(volume, image)
        pool.createXML(objects.volume_xml(marker, 1, "raw"))
        return volume

    def _upload_cidata(self, cluster: Cluster, node: Node, pool: libvirt.virStoragePool) -> None:
        at = ClusterPaths.of(cluster.name)
        iso = at.secrets / f"{node.name}.iso"
        write_cidata(seed_of(cluster, node), iso)
        try:
            xml = objects.volume_xml(f"{node.name}.iso", iso.stat().st_size, "raw", mode="0600")
            self._upload(pool.createXML(xml), iso)
        finally:
            iso.unlink(missing_ok=True)

    def _upload(self, volume: libvirt.virStorageVol, path: Path) -> None:
        stream = self.connection.newStream()
        volume.upload(stream, 0, path.stat().st_size)
        with path.open("rb") as source:
            stream.sendAll(lambda _stream, size, file: file.read(size), source)
        stream.finish()

    def _download(self, volume: libvirt.virStorageVol) -> bytes:
        received: list[bytes] = []
        stream = self.connection.newStream()
        volume.download(stream, 0, 0)
        stream.recvAll(lambda _stream, data, _opaque: received.append(data), None)
        stream.finish()
        return b"".join(received)

    def _refuse_namesake(self, lookup: Callable[[str], object], name: str, kind: str) -> None:
        if _found(lookup, name) is not None:
            raise HpcstateError(
                f"a {kind} called {name!r} exists already, and hpcstate did not make it",
                where=self.uri,
                hint="give the cluster another name in its file, or remove that one yourself",
            )

    # Unmaking --------------------------------------------------------------------------------------------

    def remove_cidata(self, cluster: Cluster, node: Node) -> None:
        """Remove the CD of a node that is off; ``ensure_volumes`` makes it anew."""
        pool = self.ensure_pool(cluster)
        pool.storageVolLookupByName(f"{node.name}.iso").delete()

    def power_off(self, cluster: Cluster, node: Node) -> None:
        """Pull the plug of a node that is on."""
        domain = self.domain(cluster, node)
        if domain is not None and domain.isActive():
            domain.destroy()

    def remove(self, cluster: Cluster) -> list[str]:
        """Remove domains, volumes, pool and network of the cluster; nothing else. What was removed."""
        removed = []
        for node in cluster.nodes:
            domain = self.domain(cluster, node)
            if domain is not None:
                self.power_off(cluster, node)
                domain.undefine()
                removed.append(f"domain {cluster.domain_name(node)}")
        pool = self.pool(cluster)
        if pool is not None:
            if not pool.isActive():
                pool.create()
            pool.refresh()
            for volume in pool.listAllVolumes():
                volume.delete()
            pool.destroy()
            pool.delete()
            pool.undefine()
            removed.append(f"storage pool {objects.pool_name(cluster)}")
        network = self.network(cluster)
        if network is not None:
            if network.isActive():
                network.destroy()
            network.undefine()
            removed.append(f"network {cluster.network.name}")
        return removed


def _passed_through(domain_xml: str) -> list[str]:
    found = ElementTree.fromstring(domain_xml).iterfind("devices/hostdev[@type='pci']/source/address")
    return [
        "{domain:04x}:{bus:02x}:{slot:02x}.{function:x}".format(
            **{part: int(address.get(part, "0"), 16) for part in ("domain", "bus", "slot", "function")}
        )
        for address in found
    ]


T = TypeVar("T")

_NOT_FOUND = {
    libvirt.VIR_ERR_NO_DOMAIN,
    libvirt.VIR_ERR_NO_NETWORK,
    libvirt.VIR_ERR_NO_STORAGE_POOL,
    libvirt.VIR_ERR_NO_STORAGE_VOL,
}


def _found(lookup: Callable[[str], T], name: str) -> T | None:
    try:
        return lookup(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() in _NOT_FOUND:
            return None
        raise
