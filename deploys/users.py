"""The people of a Slurm cluster, the same on all nodes: accounts, groups, keys, homes, sudo.

    pyinfra inventories/gpu.py deploys/users.py

After the base, which tells sshd where keys are, and after the data volume, on which homes may lie. Never in
an image: people are a cluster's.
"""

from __future__ import annotations

from pyinfra.context import config

from deploys.util.context import is_build, target
from deploys.util.directory_files import directory_files
from hpcstate.node.base_files import KEYS
from hpcstate.node.ssh import JOB_USER, SSH_USER
from hpcstate.node.users import keys_text, wanted_users
from hpcstate.paths import ClusterPaths
from operations import directory, text_files, users
from operations.text_files import TextFile

config.SUDO = True

if not is_build() and target().cluster.kind == "hpc":
    this = target()
    key = ClusterPaths.of(this.cluster.name).ssh_key
    own_key = key.with_name(f"{key.name}.pub")
    if own_key.exists():
        # The way in of hpcstate itself, also where homes are away, and of the checks as somebody ordinary.
        text = keys_text([own_key.read_text(encoding="utf-8").strip()])
        text_files.put(
            name="hpcstate's own key",
            files=[TextFile(f"{KEYS}/{user}", text) for user in (SSH_USER, JOB_USER)],
        )
    directory.state(name="What the directory leaves to the file", files=directory_files(this), early=True)
    users.state(name="Users and groups", wanted=wanted_users(this.cluster, this.node))
