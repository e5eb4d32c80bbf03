"""GPUs of the compute nodes: simulated ones are made, all are checked against the cluster file.

Runs on every compute node, not only on the group gpu: one whose simulated GPUs were taken out of the file has
left that group, and its device nodes have to go.
"""

from __future__ import annotations

from pyinfra.context import config, host

from deploys.util.context import is_build, target
from hpcstate.slurm.gres import declared_gres
from operations import gpu, gres, mig

config.SUDO = True

if not is_build() and "compute" in host.groups:
    node = target().node
    simulated = node.simulated_gpus
    gpu.simulated_devices(
        name="Simulated GPUs",
        node=node.name,
        count=simulated.count if simulated else 0,
        gres_type=simulated.gres_type if simulated else "",
    )
    declared = declared_gres(node)
    # Asked also where no instances are declared any more, but not of nodes whose GPUs can have none.
    if declared and not declared.simulated:
        mig.instances(name="MIG instances", node=node.name, declared=declared)
    if declared:
        gres.require(name="Declared GPUs are there", node=node.name, declared=declared)
