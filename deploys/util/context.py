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


_FLAGS = {"": False, "false": False, "no": False, "0": False, "true": True, "yes": True, "1": True}


@lru_cache
def _sound(cluster_file: str, kind: str) -> Cluster:
    """The cluster of the file, whose templates of the site work: looked at once in a process, not for each
    deploy of each host. Raises HpcstateError."""
    cluster = cluster_of(cluster_file, kind)
    demand_templates(cluster)
    return cluster


def flag(name: str) -> bool:
    """Whether ``--data NAME=true`` was given. Raises DeployError for a value that is neither yes nor no:
    ``no`` would be true to Python."""
    value = host.data.get(name)
    found = _FLAGS.get(str(value or "").lower())
    if found is None:
        raise DeployError(f"--data {name}={value}: true or false is meant")
    return found


def seconds(name: str, default: float) -> float:
    """The seconds of ``--data NAME=60``. Raises DeployError for what are none."""
    value = host.data.get(name)
    try:
        found = default if value is None else float(value)
    except (TypeError, ValueError):
        found = -1.0
    if not 0 <= found < float("inf"):
        raise DeployError(f"--data {name}={value}: a number of seconds is meant")
    return found


def target() -> Target:
    """The cluster and the node of this host. Raises DeployError, which ends the run without a traceback."""
    if lacking := [key for key in ("cluster_file", "cluster_kind", "node") if host.data.get(key) is None]:
        raise DeployError(
            f"{host.name} is no node of a cluster (no data {', '.join(lacking)}): give the inventory of a "
            "cluster file, like inventories/gpu.py, or inventories/chosen.py with HPCSTATE_CLUSTER_FILE=FILE"
        )
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
        drain_seconds=seconds("slurm_drain_seconds", 3600),
        force=flag("slurm_force"),
    )
