"""The registry of containers on every node of a Slurm cluster, with the containers that its file declares.

    pyinfra inventories/gpu.py deploys/registry.py

Never in an image: what lies in a registry is a cluster's. Others come by `hpcstate container deploy`.
"""

from __future__ import annotations

from threading import Lock

from pyinfra.api.exceptions import DeployError
from pyinfra.context import config, host

from deploys.context import is_build, target
from hpcstate.container_delivery import Delivery
from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster
from hpcstate.registry import config_text
from operations import registry

config.SUDO = True

_deliveries: dict[str, Delivery] = {}
_lock = Lock()
"""pyinfra reads the deploys for all hosts at the same time, and they share one delivery."""


def delivery(cluster: Cluster) -> Delivery:
    """The delivery of this run to ``cluster``. Raises DeployError when a declared container is not built."""
    with _lock:
        if cluster.name not in _deliveries:
            try:
                _deliveries[cluster.name] = Delivery(cluster)
            except HpcstateError as error:
                raise DeployError(str(error)) from None
        return _deliveries[cluster.name]


if not is_build() and host.data.cluster_kind == "hpc":
    this = target()
    shared = delivery(this.cluster)
    registry.state(
        name="Registry of containers",
        node=this.node.name,
        config=config_text(this.cluster.name, this.cluster.containers),
        wanted=shared.wanted,
        deliver=shared.to,
    )
