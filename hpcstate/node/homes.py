"""Where people's homes are, and what a node has for it. Pure: model in, text out.

With ``storage.home: nfs`` the homes lie on the controller's data volume and are at /home on every node: bound
there on the controller, mounted by NFS on the others. With ``virtio_fs`` they lie in a folder of the
hypervisor, and all nodes mount it alike. The account that the engine itself logs in with has its
home elsewhere (SSH_HOME): who looks up a name in /home waits for the server, and sshd reads a user's keys,
and begins in a user's home, before anything else. So what a dead server stops is people's work, not the way
to the node.
"""

from __future__ import annotations

from collections.abc import Mapping

from hpcstate.model import Cluster, Node
from hpcstate.model.cluster import SCRATCH
from hpcstate.model.mount import HOME_TAG
from hpcstate.node.data_volume import HOME, TOP, UNITS, unit
from hpcstate.render import of_site, render

EXPORTS = "/etc/exports.d/hpcstate.exports"
SERVER = "/etc/nfs.conf.d/hpcstate.conf"
SERVER_DROP_IN = "/etc/systemd/system/nfs-server.service.d/hpcstate.conf"

FSID = "6f0d6a1e-9b43-4f0c-8a57-1d5e0c7b52a4"
"""What the server calls the file system of the homes in its file handles (exports(5), fsid): nodes that have
it mounted go on with it when it comes back from another disk."""

SCRATCH_SERVED = f"{TOP}/scratch"
"""Where the folders of jobs lie on the data volume (hpcstate.node.scratch), which the same server has."""

SCRATCH_FSID = "b4d0a3e5-3c0e-4c62-9f43-0c5a5d7a6a1f"
"""As FSID, of those."""

MOUNT = unit(HOME)
AUTOMOUNT = MOUNT.removesuffix(".mount") + ".automount"


def owns_homes(cluster: Cluster, node: Node) -> bool:
    """Whether the homes at /home of ``node`` are on a disk of its own: there they are made, and removed."""
    return cluster.home == "local" or node is cluster.controller


@of_site
def server_files(cluster: Cluster) -> Mapping[str, str]:
    """Path to content of the NFS server's files on the controller of ``cluster``, whose homes it serves."""
    return {
        EXPORTS: render(
            "base/exports.j2",
            home=HOME,
            fsid=FSID,
            top=TOP,
            scratch=SCRATCH_SERVED if cluster.scratch == SCRATCH else "",
            scratch_fsid=SCRATCH_FSID,
            clients=[node.address for node in cluster.others],
        ),
        SERVER: render("base/nfs.conf.j2"),
        SERVER_DROP_IN: render("base/nfs-server.conf.j2", home=HOME),
    }


def served(cluster: Cluster) -> tuple[str, ...]:
    """What the controller of ``cluster`` exports."""
    return (HOME, *((SCRATCH_SERVED,) if cluster.scratch == SCRATCH else ()))


def source(cluster: Cluster) -> str:
    """What nodes mount at /home: ``192.168.150.10:/home``, or the tag of a folder of the hypervisor."""
    return HOME_TAG if cluster.home == "virtio_fs" else f"{cluster.controller.address}:{HOME}"


def file_system(cluster: Cluster) -> str:
    """What the kernel calls the file system that nodes mount at /home; empty where they mount none."""
    return {"nfs": "nfs4", "virtio_fs": "virtiofs", "local": ""}[cluster.home]


@of_site
def client_files(cluster: Cluster) -> Mapping[str, str]:
    """Path to content of the units of a node that mounts the homes."""
    template = "base/home-folder.mount.j2" if cluster.home == "virtio_fs" else "base/home.mount.j2"
    return {
        f"{UNITS}/{MOUNT}": render(template, home=HOME, source=source(cluster)),
        f"{UNITS}/{AUTOMOUNT}": render("base/home.automount.j2", home=HOME),
    }


def files(cluster: Cluster, node: Node) -> Mapping[str, str]:
    """Path to content of the files that ``node`` has for shared homes; none where they are its own."""
    if cluster.home == "local":
        return {}
    serves = cluster.home == "nfs" and node is cluster.controller
    return server_files(cluster) if serves else client_files(cluster)
