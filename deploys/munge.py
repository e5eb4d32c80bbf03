"""munge on every node of a Slurm cluster: one key for all, and the daemon."""

from __future__ import annotations

from pyinfra.api.exceptions import DeployError
from pyinfra.context import config

from deploys.util.context import is_build, target
from hpcstate.paths import ClusterPaths
from operations import munge, text_files

config.SUDO = True

if is_build():
    # The package makes a key when it is installed: every cluster made from the image would share it.
    text_files.absent(name="No munge key in an image", paths=[munge.KEY])
elif target().cluster.kind == "hpc":
    key = ClusterPaths.of(target().cluster.name).munge_key
    if not key.exists():
        raise DeployError(f"the munge key of the cluster is missing: {key} (hpcstate start makes it)")
    munge.key(name="The cluster's munge key", path=str(key))
    munge.daemon(name="munge is on")
