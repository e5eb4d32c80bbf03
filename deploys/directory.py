"""People of an LDAP directory, by sssd: the same on all nodes of a Slurm cluster.

    pyinfra inventories/gpu.py deploys/directory.py

Behind the packages of the file, sssd among them, and behind Slurm, which runs jobs without it. A node that
has sssd already gets its new settings with deploys/users.py: a name or a number that the cluster file takes
from the directory is free then. Never in an image: people are a cluster's.
"""

from __future__ import annotations

from pyinfra.context import config

from deploys.util.context import is_build, target
from deploys.util.directory_files import directory_files
from operations import directory

config.SUDO = True

if not is_build() and target().cluster.kind == "hpc":
    directory.state(name="People of the directory", files=directory_files(target()))
