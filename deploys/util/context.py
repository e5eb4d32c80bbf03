"""What the deploys know about their host. Only deploys read host.data; operations get arguments."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from pyinfra.api.exceptions import DeployError
from pyinfra.context import host

from hpcstate.cluster.inventory import cluster_of
from hpcstate.cluster.rendered import demand_templates
from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster, Node


@dataclass(frozen=True)
class Target:
    """A host as the cluster file describes it. ``drain_seconds`` and ``force`` are the user's choice
    (``--data slurm_drain_seconds=60 --data slurm_force=true``): how long jobs are waited for, and whether
    running jobs are ignored.
    """

    cluster: Cluster
    node: Node
    drain_seconds: float
    force: bool


def is_build() -> bool:
    """Whether this host is a machine in which an image is built: lay out and enable, start nothing."""
    return bool(host.data.get("build_mode"))


@lru_cache
def _sound(cluster_file: str, kind: str) -> Cluster:
    """The cluster of the file, whose templates of the site work: looked at once in a process, not for each
    deploy of each host. Raises HpcstateError."""
    cluster = cluster_of(cluster_file, kind)
    demand_templates(cluster)
    return cluster


def target() -> Target:
    """The cluster and the node of this host. Raises DeployError, which ends the run without a traceback."""
    try:
        cluster = _sound(host.data.cluster_file, host.data.cluster_kind)
    except HpcstateError as error:
        raise DeployError(str(error)) from None
    node = next((node for node in cluster.nodes if node.name == host.data.node), None)
    if node is None:
        raise DeployError(f"the cluster {cluster.name} has no node {host.data.node}")
    return Target(
        cluster=cluster,
        node=node,
        drain_seconds=float(host.data.get("slurm_drain_seconds") or 3600),
        force=bool(host.data.get("slurm_force")),
    )
