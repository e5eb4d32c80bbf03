"""Apptainer on the nodes of a Slurm cluster: the program, its settings, and a job's way into a container.

    pyinfra inventories/gpu.py deploys/containers.py

An image has all of it with the default settings, so that a node of it differs at most in what the cluster
file declares (containers.require_signature, containers.session_dir_mb) and in the public key.
"""

from __future__ import annotations

from pyinfra.context import config

from deploys.util.context import is_build, target
from hpcstate import paths
from hpcstate.node import apptainer_files
from operations import apptainer, text_files
from operations.text_files import TextFile

config.SUDO = True

THEN = {apptainer_files.TMPFILES: f"systemd-tmpfiles --create {apptainer_files.TMPFILES}"}

users = apptainer_files.subid_users(() if is_build() else target().cluster.users)
if is_build():
    files = dict(apptainer_files.image_files())
elif target().cluster.kind == "hpc":
    apptainer.installed(name="Apptainer is installed", at_least=apptainer_files.AT_LEAST)
    files = dict(apptainer_files.cluster_files(target().cluster.containers))
    # Made with the first container that is signed: before that there is none to verify.
    if paths.PUBLIC_KEY.exists():
        files[apptainer_files.PUBLIC_KEY] = paths.PUBLIC_KEY.read_text(encoding="utf-8")
else:
    files = {}

if files:
    text_files.put(
        name="Containers: settings, policy and container-exec",
        files=[
            TextFile(path, content, apptainer_files.MODES.get(path, "644"), THEN.get(path, ""))
            for path, content in files.items()
        ],
    )
    apptainer.subids(
        name="Subordinate numbers of the users",
        users={user: apptainer_files.subid_start(uid) for user, uid in users.items()},
        count=apptainer_files.SUBIDS,
    )
