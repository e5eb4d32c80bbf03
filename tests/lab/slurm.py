"""The part of deploys/full_stack.py that Slurm's configuration goes through: what most of these tests change.

Under software emulation the rest costs a quarter of a minute each time, to find nothing to do.
"""

from __future__ import annotations

from pyinfra import local

from operations import barrier

local.include("deploys/vacate.py")
local.include("deploys/vacated.py")
local.include("deploys/gpu.py")
barrier.wait(name="All nodes are ready for slurmctld", what="its GPUs")
local.include("deploys/controller.py")
barrier.wait(name="slurmctld is ready for the nodes", what="seen slurmctld change first")
local.include("deploys/compute.py")
local.include("deploys/runs.py")
