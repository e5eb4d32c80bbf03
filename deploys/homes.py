"""People's homes on compute and login nodes: mounted from the controller or the hypervisor, or their own.

    pyinfra inventories/gpu.py deploys/homes.py

Behind what makes the controller serve them, and before slurmd starts. A node whose homes change is drained;
deploys/compute.py, which follows, lifts that. Where homes are no longer shared, the controller goes last: the
nodes would wait for a server that is gone.
"""

from __future__ import annotations

from pyinfra.context import config, host

from deploys.util.context import is_build, target
from hpcstate.node.drift import homes_to_be_in_force
from hpcstate.node.homes import client_files, file_system, source
from operations import barrier, homes, in_force, text_files
from operations.text_files import TextFile

config.SUDO = True

not_the_server = "compute" in host.groups or "login" in host.groups

if not is_build() and host.groups and ("controller" in host.groups or not_the_server):
    this = target()
    shared = this.cluster.home != "local"
    if not_the_server and shared:
        text_files.put(
            name="Units of the homes",
            files=[
                TextFile(path, content, then="systemctl daemon-reload")
                for path, content in client_files(this.cluster).items()
            ],
        )
        homes.mounted(
            name="Homes are mounted",
            node=this.node.name,
            source=source(this.cluster),
            kind=file_system(this.cluster),
            timeout_s=this.drain_seconds,
            force=this.force,
        )
    if not_the_server and not shared:
        homes.unshared(
            name="Homes of its own", node=this.node.name, timeout_s=this.drain_seconds, force=this.force
        )
        in_force.mended(
            name="Folders in homes of its own", wanted=homes_to_be_in_force(this.cluster, this.node)
        )
    if not shared:
        barrier.wait(name="No node needs the controller's homes", what="taken homes of its own")
    if "controller" in host.groups and not shared:
        homes.unshared(name="Homes are no longer served", timeout_s=this.drain_seconds, force=this.force)
