"""The disks of a cluster's nodes: a storage pool of its own, base images, overlays, CDs and console logs.

The pool's record (hpcstate.hypervisor.mark) says whose it is and which volumes were made in it: a volume is
written down before it is made, and no other is ever removed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from xml.etree import ElementTree

import libvirt

from hpcstate.artifact.store import Manifest
from hpcstate.errors import HpcstateError
from hpcstate.hypervisor import xml as objects
from hpcstate.hypervisor.lookup import found
from hpcstate.hypervisor.mark import RECORD, RECORD_BYTES, Mark, PoolRecord, Stranger, owner_of
from hpcstate.model import Cluster, Node
from hpcstate.node.cidata import has_network_of, seed_of, write_cidata
from hpcstate.paths import ROOT, ClusterPaths, sidecar


class LibvirtVolumes:
    """The storage of one hypervisor, the one that ``connection`` leads to."""

    def __init__(self, connection: libvirt.virConnect, uri: str) -> None:
        self.connection = connection
        self.uri = uri

    # Whose it is -----------------------------------------------------------------------------------------

    def pool(self, cluster: Cluster) -> libvirt.virStoragePool | None:
        """The cluster's own storage pool; None when there is none, or when it is somebody else's."""
        pool = self._by_uuid(cluster)
        return pool if pool is not None and self._is_own(cluster, pool) else None

    def recognised(self, cluster: Cluster) -> bool:
        """Whether the keys below build/ are those of a node of the cluster: so one is known that was made
        before there were marks.
        """
        return any(self.opened_by(cluster, node) for node in cluster.nodes)

    def stranger(self, cluster: Cluster) -> Stranger | None:
        """The storage pool that stands where the cluster's would, when it is not its own."""
        pool = self._by_uuid(cluster)
        if pool is None:
            name = objects.pool_name(cluster)
            there = found(self.connection.storagePoolLookupByName, name)
            return None if there is None else Stranger("storage pool", name, None)
        if self._is_own(cluster, pool):
            return None
        record = self.record(pool)
        return Stranger("storage pool", pool.name(), record.mark if record else None, ours_once=True)

    def record(self, pool: libvirt.virStoragePool) -> PoolRecord | None:
        """The record in ``pool``; None where there is none (it was made before there were records)."""
        volume = found(_active(pool).storageVolLookupByName, RECORD)
        return None if volume is None else PoolRecord.from_bytes(self._download(volume))

    def take(self, cluster: Cluster, mark: Mark, *, unmarked_only: bool = False) -> str:
        """Write ``mark`` into the pool that stands where the cluster's would; with ``unmarked_only`` if it
        has no record yet: what has the names of the cluster's volumes then counts as made for it. Returns
        the pool's name, empty when nothing was done.
        """
        pool = self._by_uuid(cluster)
        record = None if pool is None else self.record(pool)
        if pool is None or (record and unmarked_only):
            return ""
        volumes = record.volumes if record else _made_before_records(pool)
        self._write(pool, PoolRecord(mark, tuple(volumes)))
        name: str = pool.name()
        return name

    def _by_uuid(self, cluster: Cluster) -> libvirt.virStoragePool | None:
        return found(self.connection.storagePoolLookupByUUIDString, objects.cluster_uuid(cluster, "pool"))

    def _is_own(self, cluster: Cluster, pool: libvirt.virStoragePool) -> bool:
        record = self.record(pool)
        if record is not None:
            return record.mark.owner == owner_of(cluster)
        # One with nothing in it is what a first start left that was interrupted before the record.
        empty = all(volume.name() == RECORD for volume in _active(pool).listAllVolumes())
        return empty or self.recognised(cluster)

    def opened_by(self, cluster: Cluster, node: Node, keys: Path | None = None) -> bool | None:
        """Whether the CD of ``node`` was made for the SSH key and its host key in the folder ``keys`` (or
        else below build/); None when there is no CD or no key.
        """
        at = ClusterPaths.of(cluster.name)
        public = (keys or at.secrets) / f"{at.host_key(node.name).name}.pub"
        pool = self._by_uuid(cluster)
        volume = None if pool is None else found(_active(pool).storageVolLookupByName, f"{node.name}.iso")
        if volume is None or not public.is_file():
            return None
        user = (keys or at.secrets) / f"{at.ssh_key.name}.pub"
        wanted = [" ".join(key.read_text().split()[:2]) for key in (public, user) if key.is_file()]
        # ISO 9660 stores files uncompressed and in one piece.
        content = self._download(volume)
        return all(text.encode() in content for text in wanted)

    def has_cd(self, cluster: Cluster, node: Node) -> bool:
        """Whether the cluster's pool has a CD of ``node``."""
        pool = self.pool(cluster)
        return pool is not None and found(pool.storageVolLookupByName, f"{node.name}.iso") is not None

    # Looking ---------------------------------------------------------------------------------------------

    def console(self, cluster: Cluster, node: Node) -> str:
        """What the node wrote to its serial console since it was started; empty when nothing is known."""
        pool = self.pool(cluster)
        if pool is None:
            return ""
        volume = found(pool.storageVolLookupByName, objects.console_volume(node))
        return "" if volume is None else self._download(volume).decode(errors="replace")

    def base_name(self, node: Node) -> str:
        """The name of the volume that the image of ``node`` has as it is now; empty when there is no
        image."""
        image = _image_of(node)
        if not image.is_file():
            return ""
        manifest = Manifest.read(sidecar(image))
        stat = image.stat()
        return objects.base_volume(
            image, manifest.digest if manifest else f"{stat.st_size:x}{stat.st_mtime_ns:x}"
        )

    def has_other_keys(self, cluster: Cluster, node: Node) -> bool:
        """Whether the CD of the node was made for another host key than that below build/, or for none."""
        return self.has_cd(cluster, node) and not self.opened_by(cluster, node)

    def has_other_address(self, cluster: Cluster, node: Node) -> bool:
        """Whether the CD of the node gives it another address in a site's network than the file, or one
        where DHCP should."""
        pool = self.pool(cluster)
        volume = None if pool is None else found(pool.storageVolLookupByName, f"{node.name}.iso")
        return volume is not None and not has_network_of(cluster, node, self._download(volume))

    def made(self, pool: libvirt.virStoragePool) -> tuple[list[libvirt.virStorageVol], list[str]]:
        """The volumes of the cluster's own ``pool`` that were made for it, and the names of the others."""
        record = self.record(pool)
        names = set(record.volumes if record else _made_before_records(pool))
        ours, others = [], []
        for volume in _active(pool).listAllVolumes():
            name = volume.name()
            if name in names or name == RECORD or _cd_of_console(name) in names:
                ours.append(volume)
            else:
                others.append(name)
        return ours, sorted(others)

    # Making ----------------------------------------------------------------------------------------------

    def ensure_pool(self, cluster: Cluster, mark: Mark) -> libvirt.virStoragePool:
        """Define, build and start the storage pool, with its record. The caller has looked for strangers."""
        pool = self._by_uuid(cluster)
        if pool is None:
            pool = self.connection.storagePoolDefineXML(objects.pool_xml(cluster))
        if not pool.isActive():
            pool.build()
        record = self.record(pool)
        if record is None or record.mark != mark:
            self._write(pool, PoolRecord(mark, record.volumes if record else ()))
        return pool

    def ensure(self, cluster: Cluster, node: Node, pool: libvirt.virStoragePool, disk: str) -> None:
        """The node's base image, the overlay ``disk``, its cloud-init CD and its data volume; those that are
        there stay as they are."""
        if not self._is_made(pool, disk):
            self.make_disk(node, pool, disk)
        if not self._is_made(pool, f"{node.name}.iso"):
            self._upload_cidata(cluster, node, pool)
        data = objects.data_volume(node)
        if node.data_gb and not self._is_made(pool, data):
            self._note(pool, [data])
            pool.createXML(objects.volume_xml(data, node.data_gb << 30, "qcow2"))

    def make_disk(self, node: Node, pool: libvirt.virStoragePool, disk: str) -> None:
        """Make the overlay ``disk`` on the image that ``node`` has now."""
        base = self._ensure_base(node, pool)
        self._note(pool, [disk])
        pool.createXML(objects.volume_xml(disk, node.disk_gb << 30, "qcow2", backing=base.path()))

    def disks(self, cluster: Cluster, node: Node) -> list[str]:
        """The disks that were made for ``node`` and are there, by name: more than one while a new one is
        tried."""
        pool = self.pool(cluster)
        made = [] if pool is None else self.made(pool)[0]
        return sorted(volume.name() for volume in made if objects.is_disk(node, volume.name()))

    def stands_on(self, cluster: Cluster, disk: str) -> str:
        """The name of the image's copy that the volume ``disk`` stands on; empty when there is none."""
        pool = self.pool(cluster)
        volume = None if pool is None else found(pool.storageVolLookupByName, disk)
        backing = (
            ""
            if volume is None
            else ElementTree.fromstring(volume.XMLDesc()).findtext("backingStore/path", "")
        )
        return PurePosixPath(backing).name

    def _is_made(self, pool: libvirt.virStoragePool, name: str) -> bool:
        """Whether the volume ``name`` is there. Raises HpcstateError when it is, and was not made by us."""
        if found(pool.storageVolLookupByName, name) is None:
            return False
        record = self.record(pool)
        if record is None or name not in record.volumes:
            raise HpcstateError(
                f"the storage pool {pool.name()} has a volume {name} that hpcstate did not make",
                where=self.uri,
                hint=f"rename or move it: virsh vol-list {pool.name()}",
            )
        return True

    def modes(self, cluster: Cluster) -> dict[str, int]:
        """The access mode of each volume made for the cluster, by path: a node's disk holds its munge
        key and its SSH host keys.
        """
        pool = self.pool(cluster)
        made = [] if pool is None else self.made(pool)[0]
        return {volume.path(): _mode(volume.XMLDesc()) for volume in made}

    def remove_cidata(self, cluster: Cluster, node: Node) -> None:
        """Remove the CD of a node that is off; ``ensure`` makes it anew."""
        pool = self.pool(cluster)
        if pool is not None:
            pool.storageVolLookupByName(f"{node.name}.iso").delete()

    def remove(self, cluster: Cluster, spared: Iterable[str] = ()) -> list[str]:
        """Remove the volumes that were made for the cluster, but for those ``spared`` (paths that somebody
        else uses), and then the pool, if nothing is left in it. What was removed.
        """
        pool = self.pool(cluster)
        if pool is None:
            return []
        ours, others = self.made(pool)
        keep = {volume.name() for volume in ours if volume.path() in set(spared)}
        name = objects.pool_name(cluster)
        going = [volume for volume in ours if volume.name() not in keep]
        if others or keep:
            gone = sorted(volume.name() for volume in going if volume.name() != RECORD)
            for volume in going:
                if volume.name() != RECORD:
                    volume.delete()
            record = self.record(pool)
            if record is not None:
                self._write(pool, PoolRecord(record.mark, tuple(sorted(keep))))
            return [f"{', '.join(gone)} from storage pool {name}"] if gone else []
        # The record goes last: until then an interrupted removal is taken up by the next one.
        for volume in sorted(going, key=lambda volume: volume.name() == RECORD):
            volume.delete()
        pool.destroy()
        pool.delete()
        pool.undefine()
        return [f"storage pool {name}"]

    def remove_named(self, cluster: Cluster, names: Iterable[str]) -> None:
        """Remove the volumes ``names`` that were made for the cluster; the pool and the others stay."""
        pool = self.pool(cluster)
        if pool is None:
            return
        going = [volume for volume in self.made(pool)[0] if volume.name() in set(names) - {RECORD}]
        gone = {volume.name() for volume in going}
        for volume in going:
            volume.delete()
        record = self.record(pool)
        if record is not None:
            left = tuple(name for name in record.volumes if name not in gone)
            self._write(pool, PoolRecord(record.mark, left))

    def _ensure_base(self, node: Node, pool: libvirt.virStoragePool) -> libvirt.virStorageVol:
        image = _image_of(node)
        name = self.base_name(node)
        if not name:
            raise HpcstateError(
                f"the image {node.image} does not exist", where=node.place, hint="doit build_images builds it"
            )
        manifest = Manifest.read(sidecar(image))
        # A pool has no rename: an upload counts once its marker volume exists, else it is sent again.
        marker = f"{name}.complete"
        there = self._is_made(pool, name)
        volume = found(pool.storageVolLookupByName, name)
        if there and self._is_made(pool, marker):
            return volume
        if volume is not None:
            volume.delete()
        self._note(pool, [name, marker])
        volume = pool.createXML(objects.volume_xml(name, image.stat().st_size, "raw"))
        digest = self._upload(volume, image)
        if manifest is not None and digest != manifest.digest:
            volume.delete()
            raise HpcstateError(
                f"{node.image} is not what was built: its bytes have the digest {digest[:12]}, its "
                f"sidecar says {manifest.digest[:12]}",
                where=node.place,
                hint=f"remove it and its sidecar ({sidecar(image).name}): the next `./hpc up` makes it anew",
            )
        pool.createXML(objects.volume_xml(marker, 1, "raw"))
        return volume

    def _upload_cidata(self, cluster: Cluster, node: Node, pool: libvirt.virStoragePool) -> None:
        at = ClusterPaths.of(cluster.name)
        iso = at.secrets / f"{node.name}.iso"
        write_cidata(seed_of(cluster, node), iso)
        try:
            xml = objects.volume_xml(f"{node.name}.iso", iso.stat().st_size, "raw")
            self._note(pool, [f"{node.name}.iso"])
            self._upload(pool.createXML(xml), iso)
        finally:
            iso.unlink(missing_ok=True)

    # The record ------------------------------------------------------------------------------------------

    def _note(self, pool: libvirt.virStoragePool, names: Iterable[str]) -> None:
        """Write down that the volumes ``names`` are made for the cluster."""
        record = self.record(pool)
        assert record is not None, "ensure_pool writes it"
        if more := set(names) - set(record.volumes):
            self._write(pool, PoolRecord(record.mark, (*record.volumes, *more)))

    def _write(self, pool: libvirt.virStoragePool, record: PoolRecord) -> None:
        volume = found(_active(pool).storageVolLookupByName, RECORD)
        if volume is None:
            volume = pool.createXML(objects.volume_xml(RECORD, RECORD_BYTES, "raw"))
        stream = self.connection.newStream()
        volume.upload(stream, 0, RECORD_BYTES)
        content = memoryview(record.to_bytes())
        while content:
            content = content[stream.send(bytes(content)) :]
        stream.finish()

    def _upload(self, volume: libvirt.virStorageVol, path: Path) -> str:
        """Send ``path`` into ``volume``; the sha256 of the bytes that were sent."""
        stream = self.connection.newStream()
        volume.upload(stream, 0, path.stat().st_size)
        sent = hashlib.sha256()

        def read(_stream: libvirt.virStream, size: int, file: BinaryIO) -> bytes:
            chunk = file.read(size)
            sent.update(chunk)
            return chunk

        with path.open("rb") as source:
            stream.sendAll(read, source)
        stream.finish()
        return sent.hexdigest()

    def _download(self, volume: libvirt.virStorageVol) -> bytes:
        received: list[bytes] = []
        stream = self.connection.newStream()
        volume.download(stream, 0, 0)
        stream.recvAll(lambda _stream, data, _opaque: received.append(data), None)
        stream.finish()
        return b"".join(received)


_BEFORE_RECORDS = re.compile(
    r"(controller|control-plane|(compute|worker)-[0-9]+)\.(qcow2|iso|console)|.+-[0-9a-f]{16}\.qcow2(\.complete)?"
)
"""The names that hpcstate gave when it kept no record: those of a node's volumes, of base images
(objects.base_volume) and of their markers."""

_CONSOLE = re.compile(r"(.+)\.console(\.\d+)?")
"""virtlogd writes these by itself, and turns one over when it is full (virtlogd.conf(5), max_backups)."""


def _image_of(node: Node) -> Path:
    return Path(node.image) if Path(node.image).is_absolute() else ROOT / node.image


def _active(pool: libvirt.virStoragePool) -> libvirt.virStoragePool:
    """``pool``, started and read anew: one that is not started has no volumes to look at."""
    if not pool.isActive():
        pool.create()
    pool.refresh()
    return pool


def _made_before_records(pool: libvirt.virStoragePool) -> list[str]:
    names = (volume.name() for volume in _active(pool).listAllVolumes())
    return [name for name in names if _BEFORE_RECORDS.fullmatch(name)]


def _cd_of_console(name: str) -> str:
    """The CD of the node whose console the volume ``name`` has; empty when it has none."""
    console = _CONSOLE.fullmatch(name)
    return f"{console[1]}.iso" if console else ""


def _mode(volume_xml: str) -> int:
    mode = re.search(r"<mode>([0-7]+)</mode>", volume_xml)
    return int(mode[1], 8) if mode else 0
