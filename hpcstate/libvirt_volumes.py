"""The disks of a cluster's nodes: a storage pool of its own, base images, overlays, CDs and console logs."""

from __future__ import annotations

from pathlib import Path

import libvirt

from hpcstate import libvirt_objects as objects
from hpcstate.cidata import seed_of, write_cidata
from hpcstate.errors import HpcstateError
from hpcstate.libvirt_lookup import found, refuse_namesake
from hpcstate.model import Cluster, Node
from hpcstate.paths import ROOT, ClusterPaths, sidecar
from hpcstate.store import Manifest


class LibvirtVolumes:
    """The storage of one hypervisor, the one that ``connection`` leads to."""

    def __init__(self, connection: libvirt.virConnect, uri: str) -> None:
        self.connection = connection
        self.uri = uri

    def pool(self, cluster: Cluster) -> libvirt.virStoragePool | None:
        """The cluster's storage pool, None when it does not exist."""
        return found(self.connection.storagePoolLookupByUUIDString, objects.cluster_uuid(cluster, "pool"))

    def console(self, cluster: Cluster, node: Node) -> str:
        """What the node wrote to its serial console since it was started; empty when nothing is known."""
        pool = self.pool(cluster)
        if pool is None:
            return ""
        pool.refresh()
        volume = found(pool.storageVolLookupByName, objects.console_volume(node))
        return "" if volume is None else self._download(volume).decode(errors="replace")

    def has_other_keys(self, cluster: Cluster, node: Node) -> bool:
        """Whether the node's CD was made for another host key than the one below build/ (or for none)."""
        pool = self.pool(cluster)
        volume = None
        if pool is not None and pool.isActive():
            volume = found(pool.storageVolLookupByName, f"{node.name}.iso")
        if volume is None:
            return False
        # ISO 9660 stores files uncompressed and in one piece, and the instance id names the host key.
        return seed_of(cluster, node).instance_id.encode() not in self._download(volume)

    def ensure_pool(self, cluster: Cluster) -> libvirt.virStoragePool:
        """Define, build and start the storage pool."""
        pool = self.pool(cluster)
        if pool is None:
            refuse_namesake(
                self.connection.storagePoolLookupByName, objects.pool_name(cluster), "storage pool", self.uri
            )
            pool = self.connection.storagePoolDefineXML(objects.pool_xml(cluster))
        if not pool.isActive():
            pool.build()
            pool.create()
        pool.refresh()
        return pool

    def ensure(self, cluster: Cluster, node: Node, pool: libvirt.virStoragePool) -> None:
        """The node's base image, overlay and cloud-init CD; those that are there stay as they are."""
        if found(pool.storageVolLookupByName, f"{node.name}.qcow2") is None:
            base = self._ensure_base(node, pool)
            pool.createXML(
                objects.volume_xml(f"{node.name}.qcow2", node.disk_gb << 30, "qcow2", backing=base.path())
            )
        if found(pool.storageVolLookupByName, f"{node.name}.iso") is None:
            self._upload_cidata(cluster, node, pool)

    def remove_cidata(self, cluster: Cluster, node: Node) -> None:
        """Remove the CD of a node that is off; ``ensure`` makes it anew."""
        pool = self.ensure_pool(cluster)
        pool.storageVolLookupByName(f"{node.name}.iso").delete()

    def remove(self, cluster: Cluster) -> list[str]:
        """Remove the cluster's pool with all that is in it. What was removed."""
        pool = self.pool(cluster)
        if pool is None:
            return []
        if not pool.isActive():
            pool.create()
        pool.refresh()
        for volume in pool.listAllVolumes():
            volume.delete()
        pool.destroy()
        pool.delete()
        pool.undefine()
        return [f"storage pool {objects.pool_name(cluster)}"]

    def _ensure_base(self, node: Node, pool: libvirt.virStoragePool) -> libvirt.virStorageVol:
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
        volume = found(pool.storageVolLookupByName, name)
        if volume is not None and found(pool.storageVolLookupByName, marker) is not None:
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
