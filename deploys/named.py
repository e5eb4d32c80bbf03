"""What is otherwise than described and is left as it is, because somebody may have made it on purpose: named.

    pyinfra inventories/gpu.py deploys/named.py

The last line of a deploy, so that it is what a person reads last. docs/drift.md has what is named.
"""

from __future__ import annotations

from pyinfra.context import config

from deploys.util.context import is_build, target
from hpcstate.node.drift import to_be_in_force
from operations import apptainer, in_force

config.SUDO = True

if not is_build():
    this = target()
    in_force.named(name="What is left as it is", wanted=to_be_in_force(this.cluster, this.node))
    if target().cluster.kind == "hpc":
        apptainer.named(name="What Apptainer lacks")
