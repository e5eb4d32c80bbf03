"""The disks of nodes whose image is replaced: a new one beside the old, until it has passed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hpcstate.cluster.lifecycle import connected, select
from hpcstate.files import alone
from hpcstate.hypervisor import xml as objects
from hpcstate.hypervisor.connection import connect
from hpcstate.hypervisor.daemon import has_nothing_of
from hpcstate.hypervisor.mark import new_mark
from hpcstate.hypervisor.removal import unused_bases
from hpcstate.model import Cluster
from hpcstate.paths import ClusterPaths
from hpcstate.terminal import Say


def unfinished(cluster: Cluster) -> tuple[str, ...]:
    """The nodes with a new disk that has not passed yet: the old one is kept. Where it is gone, the new one
    had passed, and whoever confirmed it was killed."""
    if has_nothing_of(cluster):
        return ()
    with connect(cluster.uri) as host:
        return tuple(
            node.name
            for node in cluster.nodes
            if (before := host.disk_before(cluster, node)) and before in host.volumes.disks(cluster, node)
        )


def new_disks(cluster: Cluster, file: Path, say: Say, names: Sequence[str]) -> None:
    """Give nodes that are off new disks, made from their image as it is now; the old ones are kept."""
    with alone(ClusterPaths.of(cluster.name).root, say), connected(cluster, say) as host:
        pool = host.volumes.ensure_pool(cluster, new_mark(cluster, file))
        for node in select(cluster, names) if names else ():
            now = host.disk(cluster, node)
            # What an interrupted run made, and nothing uses, is nothing to keep.
            host.volumes.remove_named(cluster, set(host.volumes.disks(cluster, node)) - {now})
            new = objects.new_disk_volume(node, host.volumes.base_name(node), [now])
            host.volumes.make_disk(node, pool, new)
            host.put_disk(cluster, node, new, before=now)
            say(f"{node.name}: a new disk from {node.image}; the old one is kept until this one has passed")


def old_disks(cluster: Cluster, say: Say, names: Sequence[str]) -> None:
    """Give nodes that are off the disks back that they had; the new ones go."""
    with alone(ClusterPaths.of(cluster.name).root, say), connected(cluster, say) as host:
        for node in select(cluster, names):
            now, before = host.disk(cluster, node), host.disk_before(cluster, node)
            if before in host.volumes.disks(cluster, node):
                host.put_disk(cluster, node, before)
                host.volumes.remove_named(cluster, [now])
                say(f"{node.name}: its old disk again")


def confirm_disks(cluster: Cluster, say: Say, names: Sequence[str]) -> None:
    """The new disks of nodes have passed: the old ones go."""
    with alone(ClusterPaths.of(cluster.name).root, say), connected(cluster, say) as host:
        for node in select(cluster, names):
            now = host.disk(cluster, node)
            host.volumes.remove_named(cluster, set(host.volumes.disks(cluster, node)) - {now})
            host.put_disk(cluster, node, now)


def drop_unused_images(cluster: Cluster, say: Say) -> None:
    """Remove the copies of images that no node stands on any more."""
    with alone(ClusterPaths.of(cluster.name).root, say), connected(cluster, say) as host:
        going = unused_bases(host, cluster)
        host.volumes.remove_named(cluster, going)
        if names := [name for name in going if not name.endswith(".complete")]:
            say(f"removed from the storage pool, nothing stands on it: {', '.join(names)}")
