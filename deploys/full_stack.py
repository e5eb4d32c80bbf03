"""The whole state of all nodes, in order. Each line is a deploy that can also be run by itself.

NVIDIA's driver comes before what looks at the GPUs, and before slurmd is stopped: it may reboot a node.

Slurm's order: nodes that must not change under jobs are vacated before the controller changes, because the
controller takes note of their new cores and GRES, and where one could not be, all stay as they are; slurmdbd
and its database come before slurmctld, which records jobs there; what it no longer enforces leaves slurmdbd
behind it; compute nodes follow, because they register with it. People come when the homes that they get are
in their place: on the data volume, or on each node's own disk. The registry of containers comes late: it may
have much to send, and nothing else waits for it; when it is there, Slurm is told what the nodes run.
Reservations come behind what they reserve, and slurmctld may refuse one. What is left as it is gets named
last. Behind all of that come the deploys of the site.
"""

from __future__ import annotations

from pyinfra import local

from deploys.util.context import is_build, target
from deploys.util.include import include
from operations import barrier

of_their_own = not is_build() and target().cluster.home == "local"

include("base.py")
include("munge.py")
include("containers.py")
include("nvidia.py")
include("vacate.py")
include("vacated.py")
include("homes_change.py")
include("gpu.py")
barrier.wait(name="All nodes are ready for slurmctld", what="its base, munge and GPUs")
include("data.py")
if not of_their_own:
    include("users.py")
include("accounting.py")
include("controller.py")
barrier.wait(name="slurmctld is ready for the nodes", what="seen slurmctld change first")
include("homes.py")
include("mounts.py")
if of_their_own:
    include("users.py")
include("associations.py")
include("health.py")
include("compute.py")
include("health_off.py")
include("login.py")
include("work.py")
include("directory.py")
include("timers.py")
include("registry.py")
include("runs.py")
include("reservations.py")
include("monitoring.py")
include("named.py")
if not is_build():
    for path in target().cluster.site.deploys:
        local.include(path)
