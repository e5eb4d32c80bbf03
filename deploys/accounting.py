"""What records the jobs of a Slurm cluster, on its controller: MariaDB, then slurmdbd; and the accounts
without which slurmctld would refuse jobs.

    pyinfra inventories/gpu.py deploys/accounting.py

After the data volume, where the database lies, and before slurmctld, which is told of slurmdbd. Where the
file turns it off, deploys/controller.py does so: when slurmctld does not need it any more.
"""

from __future__ import annotations

from pyinfra.context import config, host

from deploys.util.context import is_build, target
from hpcstate.node.ssh import JOB_USER, SSH_USER
from hpcstate.slurm import associations as people
from hpcstate.slurm.accounting import files
from operations import accounting, associations

config.SUDO = True

if not is_build() and "controller" in host.groups and (wanted := files(target().cluster)):
    accounting.state(name="slurmdbd and its database", cluster=target().cluster.name, files=wanted)
    if (declared := people.wanted(target().cluster, (JOB_USER, SSH_USER))).things:
        associations.state(
            name="Accounts, users and QOS, before slurmctld enforces them", wanted=declared, ahead=True
        )
