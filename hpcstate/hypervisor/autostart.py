"""Whether libvirt brings a cluster back as the hypervisor boots: its network, its storage pool, its nodes.

libvirt starts the domains in no order of ours. That needs none: a slurmd without its slurmctld asks again
and again, at most two minutes apart (src/slurmd/slurmd/slurmd.c, _registration_engine), and slurmctld takes
a node back when it registers (ReturnToService=2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from hpcstate.hypervisor.connection import LibvirtHost
from hpcstate.hypervisor.machine import MachineDifference, autostart_difference
from hpcstate.model import Cluster


class _Thing(Protocol):
    """A network, storage pool or domain of libvirt's."""

    def autostart(self) -> int: ...

    def setAutostart(self, autostart: int) -> int: ...


def of_file(cluster: Cluster) -> dict[str, bool]:
    """What the file says for each node, by name; nothing where it says nothing. A node that does not start
    with the cluster does not start with the hypervisor either."""
    if cluster.autostart is None:
        return {}
    return {node.name: cluster.autostart and node.auto_start for node in cluster.nodes}


def left_out(cluster: Cluster, wanted: Mapping[str, bool]) -> list[str]:
    """The nodes that are never started so, though it is ``wanted``: those with devices of the host. A domain
    names them by address, libvirt takes what is there from its driver (``managed``), and a boot is when
    another one may be there (the root disk). Nobody compares it then.
    """
    return [node.name for node in cluster.nodes if node.passthrough and wanted.get(node.name)]


def differences(host: LibvirtHost, cluster: Cluster, wanted: Mapping[str, bool]) -> list[MachineDifference]:
    """Where libvirt has it otherwise than ``wanted`` for the nodes; network and pool come with any node,
    also one that nothing is wanted for. What is not there is no difference."""
    return [row for _, row in _rows(host, cluster, wanted)]


def bring(host: LibvirtHost, cluster: Cluster, wanted: Mapping[str, bool]) -> list[MachineDifference]:
    """Tell libvirt what is ``wanted``. Returns what was otherwise."""
    rows = _rows(host, cluster, wanted)
    for thing, row in rows:
        thing.setAutostart(int(row.wanted == "on"))
    return [row for _, row in rows]


def booted_with_devices(host: LibvirtHost, cluster: Cluster) -> list[str]:
    """The domains of nodes with devices of the host that libvirt starts as the hypervisor boots: somebody
    said so, hpcstate never does."""
    there = [host.domain(cluster, node) for node in cluster.nodes if node.passthrough]
    return [domain.name() for domain in there if domain is not None and domain.autostart()]


def _rows(
    host: LibvirtHost, cluster: Cluster, wanted: Mapping[str, bool]
) -> list[tuple[_Thing, MachineDifference]]:
    if not wanted:
        return []
    never = left_out(cluster, wanted)
    others = [host.domain(cluster, node) for node in cluster.nodes if node.name not in wanted]
    any_of_them = any(wanted.values()) or any(domain.autostart() for domain in others if domain is not None)
    things: list[tuple[str, _Thing | None, bool]] = [
        (f"network {cluster.network.name}", host.network(cluster), any_of_them),
        ("storage pool", host.volumes.pool(cluster), any_of_them),
    ]
    things += [
        (node.name, host.domain(cluster, node), wanted[node.name] and node.name not in never)
        for node in cluster.nodes
        if node.name in wanted
    ]
    return [
        (thing, row)
        for what, thing, on in things
        if thing is not None
        for row in autostart_difference(what, bool(thing.autostart()), on)
    ]
