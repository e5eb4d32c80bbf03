"""The whole state of all nodes, in order. Each line is a deploy that can also be run by itself.

NVIDIA's driver comes before what looks at the GPUs, and before slurmd is stopped: it may reboot a node.

Slurm's order: nodes that must not change under jobs are vacated before the controller changes, because the
controller takes note of their new cores and GRES; slurmdbd and its database come before slurmctld, which
records jobs there; what it no longer enforces leaves slurmdbd behind it; compute nodes follow, because they
register with it. People come when the homes that they get are in their place: on the data volume, or on each
node's own disk. The registry of containers comes late: it may have much to send, and nothing else waits for
it; when it is there, Slurm is told what the nodes run. What is left as it is gets named last. Behind
all of that come the deploys of the site.
"""

from __future__ import annotations

from pyinfra import local

from deploys.util.context import is_build, target
from operations import barrier

of_their_own = not is_build() and target().cluster.home == "local"

local.include("deploys/base.py")
local.include("deploys/munge.py")
local.include("deploys/containers.py")
local.include("deploys/nvidia.py")
local.include("deploys/vacate.py")
local.include("deploys/homes_change.py")
local.include("deploys/gpu.py")
barrier.wait(name="All nodes are ready for slurmctld", what="its base, munge and GPUs")
local.include("deploys/data.py")
if not of_their_own:
    local.include("deploys/users.py")
local.include("deploys/accounting.py")
local.include("deploys/controller.py")
barrier.wait(name="slurmctld is ready for the nodes", what="seen slurmctld change first")
local.include("deploys/homes.py")
local.include("deploys/mounts.py")
if of_their_own:
    local.include("deploys/users.py")
local.include("deploys/associations.py")
local.include("deploys/compute.py")
local.include("deploys/login.py")
local.include("deploys/work.py")
local.include("deploys/timers.py")
local.include("deploys/registry.py")
local.include("deploys/runs.py")
local.include("deploys/named.py")
if not is_build():
    for path in target().cluster.site.deploys:
        local.include(path)
