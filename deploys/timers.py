"""What systemd starts again and again on a Slurm cluster's controller, as the cluster file has it.

    pyinfra inventories/gpu.py deploys/timers.py

Late: what is started asks Slurm, or looks at people's files. Never in an image.
"""

from __future__ import annotations

from pyinfra.context import config, host

from deploys.util.context import is_build, target
from hpcstate.node.timers import timers as wanted_timers
from operations import timers

config.SUDO = True

if not is_build() and "controller" in host.groups:
    this = target()
    timers.state(name="Timers", wanted=wanted_timers(this.cluster, this.node))
