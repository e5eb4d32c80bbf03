"""What watches the health of a Slurm cluster's nodes, before slurmd is told to run it.

    pyinfra inventories/gpu.py deploys/health.py

Never in an image: it is off unless the cluster file asks for it. deploys/health_off.py removes it, behind
slurmd, which runs it no more by then.
"""

from __future__ import annotations

from pyinfra.context import config, host

from deploys.util.context import is_build, target
from hpcstate.health import files
from operations import health, text_files
from operations.text_files import TextFile

config.SUDO = True

if not is_build() and ("compute" in host.groups or "controller" in host.groups):
    this = target()
    if wanted := files.files(this.cluster, this.node):
        own = [check.name for check in this.cluster.health.own]
        tidy = health.tidy(own, [*files.modules(), *files.PROGRAMS])
        text_files.put(
            name="What watches the node",
            files=[
                TextFile(path, content, mode, then=tidy if path == files.CONFIG else "")
                for path, (content, mode) in wanted.items()
            ],
        )
