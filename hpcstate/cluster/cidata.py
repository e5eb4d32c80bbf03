"""Nodes whose CD of cloud-init has other keys or another address than it should: a new one as they boot."""

from __future__ import annotations

from collections.abc import Sequence

from hpcstate.errors import HpcstateError
from hpcstate.hypervisor.connection import OFF, LibvirtHost
from hpcstate.model import Cluster, Node
from hpcstate.paths import ClusterPaths
from hpcstate.terminal import Say


def renew(cluster: Cluster, nodes: Sequence[Node], host: LibvirtHost, say: Say) -> None:
    """Nodes made with other keys than those below build/, which were lost, get these as they boot.

    Raises HpcstateError when such a node runs: it would never let us in, and is not ours to restart unasked.
    """
    strange = [node for node in nodes if host.volumes.has_other_keys(cluster, node)]
    saved = [node for node in strange if host.state(cluster, node) == "saved"]
    if saved:
        raise HpcstateError(
            f"saved with other keys than those in {ClusterPaths.of(cluster.name).secrets}: "
            f"{', '.join(node.name for node in saved)}",
            where=cluster.name,
            hint="they would go on from their memory, without a boot that gives them these keys: put that "
            f"folder back; or `virsh managedsave-remove {cluster.domain_name(saved[0])}` drops the memory",
        )
    running = [node.name for node in strange if host.state(cluster, node) not in OFF]
    if running:
        raise HpcstateError(
            f"running with other keys than those in {ClusterPaths.of(cluster.name).secrets}: "
            f"{', '.join(running)}",
            where=cluster.name,
            hint="put that folder back; or `hpcstate stop FILE` and `start`: new keys are taken, disks stay",
        )
    for node in strange:
        say(f"{node.name} was made with other keys: it gets the new ones as it boots")
        host.volumes.remove_cidata(cluster, node)
    _renew_addresses(cluster, [node for node in nodes if node not in strange], host, say)


def _renew_addresses(cluster: Cluster, nodes: Sequence[Node], host: LibvirtHost, say: Say) -> None:
    """Nodes whose CD gives them another address in a site's network than the file get a new one as they boot.

    Raises HpcstateError when such a node runs, or is saved: it keeps the address that it has.
    """
    moved = [node for node in nodes if host.volumes.has_other_address(cluster, node)]
    states = {node.name: host.state(cluster, node) for node in moved}
    awake = [name for name, state in states.items() if state not in OFF or state == "saved"]
    if awake:
        raise HpcstateError(
            f"nodes that run would get other addresses: {', '.join(awake)}",
            where=f".clusters.{cluster.kind}.network",
            hint="put the addresses back in the file, `hpcstate stop FILE`, change them, then `start`",
        )
    for node in moved:
        say(f"{node.name} gets the address {node.address} as it boots")
        host.volumes.remove_cidata(cluster, node)
