"""Nodes that run already: greeted while a start looks at their machines; what Slurm has of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from hpcstate.cluster import drains
from hpcstate.errors import HpcstateError
from hpcstate.hypervisor.connection import connect
from hpcstate.hypervisor.daemon import SYSTEM_URI, answers
from hpcstate.model import Cluster, Node
from hpcstate.node.ssh import Live
from hpcstate.paths import ClusterPaths
from hpcstate.probe.slurm import nodes_command, parse_nodes


@contextmanager
def greet(of: Sequence[tuple[Cluster, Sequence[Node]]]) -> Iterator[dict[str, Live]]:
    """Connections, by the names of clusters, to ``of`` (a cluster and nodes of it) where all of them run.
    They are opened while the block goes on: a slow node takes longer than all that a start looks at.
    """
    with ExitStack() as stack:
        greeted: dict[str, Live] = {}
        for cluster, nodes in of:
            if cluster.uri == SYSTEM_URI and answers() and _run_here(cluster, nodes):
                live = greeted[cluster.name] = stack.enter_context(Live(cluster))
                live.connect_soon(node.name for node in nodes)
        yield greeted


def _run_here(cluster: Cluster, nodes: Sequence[Node]) -> bool:
    """Whether ``nodes`` run with keys that are here; False where libvirt says nothing."""
    at = ClusterPaths.of(cluster.name)
    if not (at.ssh_key.exists() and at.known_hosts.exists()):
        return False
    try:
        with connect(cluster.uri) as host:
            return all(host.state(cluster, node) == "running" for node in nodes)
    except HpcstateError:
        return False


def drains_of_ours(live: Live) -> list[str]:
    """What a stop or a removal that was killed has left, and nodes that Slurm refuses as they are, a line
    each; none where slurmctld does not answer or was never there."""
    if live.cluster.kind != "hpc":
        return []
    name = live.cluster.controller.name
    try:
        known = parse_nodes(live.run(name, nodes_command(), user="root", check=False).stdout)
    except HpcstateError:
        return []
    return [*drains.left(known, name, others=False).values(), *drains.refused(known).values()]
