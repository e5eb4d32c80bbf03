"""The NoCloud seed: the small CD that gives a node its name, its user and its host key at first boot."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from hpcstate.model import Cluster, Node
from hpcstate.node.secrets import KeyPair, host_key, new_key
from hpcstate.node.ssh import SSH_HOME, SSH_USER
from hpcstate.paths import ClusterPaths
from hpcstate.render import render
from hpcstate.run import run

SITE_MARK = "# hpcstate: the address of"
"""What the CD of a node in a site's network has, and no other."""


@dataclass(frozen=True)
class SiteAddress:
    """Where a node is in the network of a site, which tells it nothing: ``address`` with the subnet."""

    address: IPv4Interface
    gateway: IPv4Address
    dns_servers: tuple[IPv4Address, ...]


@dataclass(frozen=True)
class CloudInit:
    """What one node gets. ``mac`` matches its network card; empty for the only card of a build VM.
    ``home`` is that of ``user``, empty for the usual one. ``site`` is None where DHCP tells the address."""

    hostname: str
    user: str
    authorized_key: str
    host_key: KeyPair
    mac: str = ""
    home: str = ""
    site: SiteAddress | None = None

    @property
    def instance_id(self) -> str:
        """Changes when one of the keys does: the seed is then applied again."""
        return instance_id(self.hostname, self.host_key.public, self.authorized_key)


def instance_id(hostname: str, public_host_key: str, authorized_key: str) -> str:
    """What a seed is known by: it names the node, its SSH host key and the key that opens it (``ssh-ed25519
    AAAA…``). It differs in length from those of earlier versions, which did not name the second.
    """
    ends = [key.split()[1][-12:] for key in (public_host_key, authorized_key)]
    return "-".join([hostname, *ends])


def seed_of(cluster: Cluster, node: Node) -> CloudInit:
    """What ``node`` gets: the keys are those below build/, made when there are none."""
    return CloudInit(
        hostname=node.name,
        user=SSH_USER,
        authorized_key=new_key(ClusterPaths.of(cluster.name).ssh_key).public,
        host_key=host_key(cluster, node.name),
        mac=node.mac,
        home=SSH_HOME,
        site=_site_address(cluster, node),
    )


def _site_address(cluster: Cluster, node: Node) -> SiteAddress | None:
    network = cluster.network
    if not network.is_of_the_site:
        return None
    address = IPv4Interface(f"{node.address}/{network.subnet.prefixlen}")
    return SiteAddress(address, network.gateway, network.dns_servers)


def site_network(hostname: str, mac: str, site: SiteAddress) -> str:
    """The file of systemd-networkd that gives a node its address."""
    return render("cloud-init/site.network.j2", hostname=hostname, mac=mac, site=site)


def has_network_of(cluster: Cluster, node: Node, content: bytes) -> bool:
    """Whether a CD with ``content`` gives ``node`` the address that the file says: ISO 9660 stores files
    uncompressed and in one piece."""
    site = _site_address(cluster, node)
    if site is None:
        return SITE_MARK.encode() not in content
    return site_network(node.name, node.mac, site).encode() in content


def write_cidata(data: CloudInit, iso: Path) -> None:
    """Write the ISO 9660 image ``iso``, volume ``cidata``; mode 0600, for it holds a private host key."""
    folder = Path(tempfile.mkdtemp(dir=iso.parent, prefix=".cidata."))
    try:
        for name in ("meta-data", "user-data", "network-config"):
            (folder / name).write_text(render(f"cloud-init/{name}.j2", node=data))
        for name, content in _plain_files(data).items():
            path = folder / "hpcstate" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)
        iso.unlink(missing_ok=True)
        iso.touch(mode=0o600)
        run(["xorriso", "-as", "mkisofs", "-quiet", "-V", "cidata", "-J", "-r", "-o", iso, folder])
        iso.chmod(0o600)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _plain_files(data: CloudInit) -> dict[str, str]:
    """The same once more as plain files, for the image's own first boot (packer/seed/files): cloud-init takes
    half a minute of processor time under software emulation to do as much.
    """
    return {
        "instance-id": data.instance_id + "\n",
        "hostname": data.hostname + "\n",
        "user": data.user + "\n",
        **({"home": data.home + "\n"} if data.home else {}),
        **({"network": site_network(data.hostname, data.mac, data.site)} if data.site else {}),
        "authorized_keys": data.authorized_key + "\n",
        "ssh_host_ed25519_key": data.host_key.private,
        "ssh_host_ed25519_key.pub": data.host_key.public + "\n",
    }
