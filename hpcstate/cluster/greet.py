"""Nodes that run already: greeted while a start looks at their machines; what Slurm has of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from hpcstate.cluster import drains
from hpcstate.errors import HpcstateError
from hpcstate.hypervisor.daemon import emulators_run
from hpcstate.model import Cluster
from hpcstate.node.known_hosts import knows
from hpcstate.node.ssh import Live
from hpcstate.paths import ClusterPaths
from hpcstate.probe.slurm import nodes_command, parse_nodes


@contextmanager
def greet(clusters: Sequence[Cluster], only: Sequence[str] = ()) -> Iterator[dict[str, Live]]:
    """Connections, by the names of ``clusters``, to their nodes (those of ``only``, else all with auto_start)
    where all of them run. They are opened while the block goes on: a slow node takes longer than all that a
    start looks at, so this comes before it, and asks libvirt nothing.
    """
    with ExitStack() as stack:
        greeted: dict[str, Live] = {}
        for cluster in clusters:
            nodes = [node for node in cluster.nodes if (node.name in only if only else node.auto_start)]
            if _is_known(cluster) and emulators_run(cluster, nodes):
                live = greeted[cluster.name] = stack.enter_context(Live(cluster))
                live.connect_soon(node.name for node in nodes)
        yield greeted


def _is_known(cluster: Cluster) -> bool:
    """Whether there is a key for ``cluster``, and a host key for each address that its file has now: with
    those of another file, which a start refuses, nobody would get in any more."""
    at = ClusterPaths.of(cluster.name)
    if not (at.ssh_key.exists() and at.known_hosts.exists()):
        return False
    known = at.known_hosts.read_text(errors="replace")
    return all(knows(known, str(node.address)) for node in cluster.nodes)


def drains_of_ours(live: Live, *, asked: bool = False) -> list[str]:
    """What a stop or a removal that was killed has left, and nodes that Slurm refuses as they are, a line
    each; none where slurmctld does not answer or was never there. It is asked where such a stop has left its
    note, or with ``asked``: on a slow node that takes longer than all the rest of a start.
    """
    note = ClusterPaths.of(live.cluster.name).draining
    if live.cluster.kind != "hpc" or not (asked or note.exists()):
        return []
    name = live.cluster.controller.name
    try:
        known = parse_nodes(live.run(name, nodes_command(), user="root", check=False).stdout)
    except HpcstateError:
        return []
    left = drains.left(known, name, others=False)
    if known and not left:
        note.unlink(missing_ok=True)
    return [*left.values(), *drains.refused(known).values()]
