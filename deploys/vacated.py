"""Whether jobs stand in the way of the change at hand, before anything of it is made; where they do, the
nodes that could be vacated run on as they were."""

from __future__ import annotations

from pyinfra.context import config, host

from deploys.util.context import is_build, target
from deploys.util.slurm_files import slurm_files
from hpcstate.slurm.gres import declared_gres
from operations import barrier, slurm

config.SUDO = True

if not is_build():
    barrier.wait(name="Nodes are vacated", what="been vacated")
    if "controller" in host.groups:
        this = target()
        slurm.demand_vacant(
            name="No job is in slurmctld's way", files=slurm_files(this.cluster), force=this.force
        )
    barrier.wait(name="slurmctld may change", what="been asked whether slurmctld may change")
    if "compute" in host.groups:
        this = target()
        slurm.keep(
            name="As it was where slurmctld may not change",
            node=this.node.name,
            files=slurm_files(this.cluster),
            declared=declared_gres(this.node),
            controller=this.cluster.controller.name,
        )
