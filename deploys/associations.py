"""Who may use how much of a Slurm cluster: accounts, users and QOS in the slurmdbd of its controller.

    pyinfra inventories/gpu.py deploys/associations.py

Behind slurmctld, which says what is counted and which jobs there are, and behind the users of the nodes. What
must be there before slurmctld begins to enforce it was made by deploys/accounting.py.
"""

from __future__ import annotations

from pyinfra.context import config, host

from deploys.util.context import is_build, target
from hpcstate.node.ssh import JOB_USER, SSH_USER
from hpcstate.slurm.accounting import files
from hpcstate.slurm.associations import wanted
from operations import associations

config.SUDO = True

if not is_build() and "controller" in host.groups and files(target().cluster):
    associations.state(name="Accounts, users and QOS", wanted=wanted(target().cluster, (JOB_USER, SSH_USER)))
