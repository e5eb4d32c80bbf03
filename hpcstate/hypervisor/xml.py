"""What libvirt should have for a cluster: names, UUIDs and XML. Pure; nothing here talks to libvirt.

Every object has a UUID made from the names of the cluster and the node (RFC 9562, version 5): that is how it
is found, also under another name. Whose it is, only its mark says (hpcstate.hypervisor.mark).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from hpcstate.hypervisor.guest_pci import root_ports
from hpcstate.hypervisor.mark import Mark
from hpcstate.hypervisor.placement import placements
from hpcstate.model import Cluster, Mount, Node
from hpcstate.model.cells import guest_cells
from hpcstate.model.mount import HOME_TAG
from hpcstate.node import data_volume as data_volume_of_node
from hpcstate.probe.cpus import HostCell
from hpcstate.render import render

_OURS = uuid.UUID("7d0f6c1e-1f57-4f0b-9f0a-68706373746a")
POOL_ROOT = PurePosixPath("/var/lib/libvirt/images")
"""Where QEMU's unprivileged user may read: a home directory often is closed to it."""


@dataclass(frozen=True)
class HypervisorFacts:
    """What the domains depend on: whether KVM really works there, and the cores to pin to by NUMA node.

    Without ``cells`` nothing is pinned. ``numa_nodes`` has the NUMA node of each PCI device by address, -1
    where it is not known.
    """

    kvm: bool
    cells: tuple[HostCell, ...] = ()
    numa_nodes: Mapping[str, int] = field(default_factory=dict)

    def for_cluster(self, cluster: Cluster) -> HypervisorFacts:
        """What ``cluster`` uses of it: ``enable_kvm: false`` has its nodes emulated."""
        return replace(self, kvm=self.kvm and cluster.acceleration.enable_kvm)


def cluster_uuid(cluster: Cluster, what: str) -> str:
    """The UUID of the cluster's ``network``, ``pool`` or of the node of that name."""
    return str(uuid.uuid5(_OURS, f"{cluster.name}/{what}"))


def pool_name(cluster: Cluster) -> str:
    """The storage pool with the cluster's volumes."""
    return f"hpcstate-{cluster.name}"


def pool_path(cluster: Cluster) -> PurePosixPath:
    """The pool's folder on the hypervisor."""
    return POOL_ROOT / pool_name(cluster)


def console_volume(node: Node) -> str:
    """The volume in which libvirt logs the node's serial console."""
    return f"{node.name}.console"


def pool_xml(cluster: Cluster) -> str:
    """The pool: a folder of our own."""
    return (
        f"<pool type='dir'><name>{pool_name(cluster)}</name><uuid>{cluster_uuid(cluster, 'pool')}</uuid>"
        f"<target><path>{pool_path(cluster)}</path><permissions><mode>0711</mode></permissions></target></pool>"
    )


def network_xml(cluster: Cluster, mark: Mark | None = None) -> str:
    """The network: bridge, DHCP with one lease a node, DNS for the nodes' names; and ``mark``."""
    return render(
        "libvirt/network.xml.j2",
        cluster=cluster,
        network=cluster.network,
        uuid=cluster_uuid(cluster, "network"),
        mark=mark.to_xml() if mark else "",
    )


def domain_xml(
    cluster: Cluster, node: Node, host: HypervisorFacts, mark: Mark | None = None, disk: str = ""
) -> str:
    """The domain of ``node``: KVM where it works and is wanted, else TCG; with the owner's ``mark``, on the
    volume ``disk``, or on the one that its first start makes."""
    host = host.for_cluster(cluster)
    # libvirt does not pin the virtual CPUs of TCG: it refuses to start such a domain.
    pinned = placements(cluster, host.cells, host.numa_nodes) if host.kvm else {}
    return render(
        "libvirt/domain.xml.j2",
        cluster=cluster,
        node=node,
        host=host,
        acceleration=cluster.acceleration,
        topology=cluster.acceleration.topology_of(node.cpu_cores),
        cells=guest_cells(cluster.acceleration, node),
        placement=pinned.get(node.name),
        ports=root_ports(node.passthrough),
        name=cluster.domain_name(node),
        uuid=cluster_uuid(cluster, node.name),
        pool=pool_name(cluster),
        disk=disk or disk_volume(node),
        data=data_volume(node) if node.data_gb else "",
        data_serial=data_volume_of_node.SERIAL,
        shares=shares(cluster, node),
        console=pool_path(cluster) / console_volume(node),
        mark=mark.of(node).to_xml() if mark else "",
    )


def shares(cluster: Cluster, node: Node) -> tuple[Mount, ...]:
    """The folders of the hypervisor that ``node`` has, each a device of its machine: that of the homes first.
    Their ``place`` is where the file has the path."""
    place = f".clusters.{cluster.kind}.storage.home_path"
    homes = Mount("virtio_fs", cluster.home_path, "/home", HOME_TAG, place=place)
    own = tuple(
        replace(mount, place=f"{mount.place}.host_path") for mount in node.mounts if mount.type == "virtio_fs"
    )
    return (homes, *own) if cluster.home == "virtio_fs" else own


def disk_volume(node: Node, base: str = "") -> str:
    """The volume with the disk of ``node``: that of its first start, or the one that replaces it, on the
    volume ``base`` (see base_volume)."""
    return f"{node.name}.{PurePosixPath(base).stem[-8:]}.qcow2" if base else f"{node.name}.qcow2"


def new_disk_volume(node: Node, base: str, there: Sequence[str]) -> str:
    """The volume that replaces the disk of ``node``, on the volume ``base``: by a name that none of ``there``
    has, also where these stand on the same image."""
    first = disk_volume(node, base)
    more = (f"{first.removesuffix('.qcow2')}-{number}.qcow2" for number in range(2, len(there) + 2))
    return next(name for name in (first, *more) if name not in there)


def is_disk(node: Node, volume: str) -> bool:
    """Whether ``volume`` is the name of a disk of ``node``, of its first start or a later one."""
    return volume.startswith(f"{node.name}.") and volume.endswith(".qcow2")


def disk_of(domain_xml: str) -> str:
    """The volume that is the disk of a domain; empty where it has none in a storage pool."""
    source = ElementTree.fromstring(domain_xml).find("devices/disk[@device='disk']/source")
    return "" if source is None else source.get("volume", "")


def with_disk(domain_xml: str, volume: str) -> str:
    """The domain with ``volume`` as its disk."""
    root = ElementTree.fromstring(domain_xml)
    source = root.find("devices/disk[@device='disk']/source")
    assert source is not None, "every domain of ours has one"
    source.set("volume", volume)
    return ElementTree.tostring(root, encoding="unicode")


def base_volume(image: Path, key: str) -> str:
    """The name of the image's copy in the pool; another content is another volume."""
    return f"{image.stem}-{key[:16]}.qcow2"


def data_volume(node: Node) -> str:
    """The volume with what outlives the disk of ``node``. No name of a node has an underscore, so that none
    has a disk of this name."""
    return f"{node.name}_data.qcow2"


def data_of(domain: Element) -> str:
    """The volume that is the data volume of a domain, known by its serial; empty where it has none."""
    for disk in domain.iterfind("devices/disk"):
        source = disk.find("source")
        if disk.findtext("serial") == data_volume_of_node.SERIAL and source is not None:
            return source.get("volume", "")
    return ""


VOLUME_MODE = 0o600
"""A node's disk holds its munge key and SSH host keys, and its path can be guessed. QEMU's user gets it as
its own when the domain starts (qemu.conf, dynamic_ownership)."""


OTHERS = 0o077
"""The bits of a mode that let somebody else than the owner in."""


def volume_xml(name: str, capacity: int, kind: str, backing: str = "") -> str:
    """A volume of ``capacity`` bytes, ``kind`` qcow2 or raw, on top of the file ``backing`` if given."""
    store = f"<backingStore><path>{backing}</path><format type='qcow2'/></backingStore>" if backing else ""
    return (
        f"<volume><name>{name}</name><capacity>{capacity}</capacity><allocation>0</allocation>"
        f"<target><format type='{kind}'/><compat>1.1</compat>"
        f"<permissions><mode>{VOLUME_MODE:04o}</mode></permissions></target>"
        f"{store}</volume>"
    )
