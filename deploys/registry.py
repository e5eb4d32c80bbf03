"""The registry of containers on every node of a Slurm cluster, with the containers that its file declares.

    pyinfra inventories/gpu.py deploys/registry.py

Never in an image: what lies in a registry is a cluster's. Others come by `hpcstate container deploy`.
"""

from __future__ import annotations

from pyinfra.api.exceptions import DeployError
from pyinfra.context import config

from deploys.util.context import is_build, target
from hpcstate.errors import HpcstateError
from hpcstate.registry import delivery as container_delivery
from hpcstate.registry.layout import config_text
from operations import registry

config.SUDO = True

if not is_build() and target().cluster.kind == "hpc":
    this = target()
    try:
        delivery = container_delivery.shared(this.cluster)
    except HpcstateError as error:
        raise DeployError(str(error)) from None
    registry.state(
        name="Registry of containers",
        node=this.node.name,
        config=config_text(this.cluster.name, this.cluster.containers),
        wanted=delivery.wanted,
        deliver=delivery.to,
    )
