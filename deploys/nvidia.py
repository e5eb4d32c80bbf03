"""NVIDIA's driver on the compute nodes with an NVIDIA GPU; elsewhere nothing, not even a source of packages.

    pyinfra inventories/passthrough.py deploys/nvidia.py --data nvidia_update=true    newer packages, if any
    pyinfra inventories/passthrough.py deploys/nvidia.py --data nvidia_reboot=true    reboot what needs it

Both drain a node first and wait for its jobs. Other choices: --data nvidia_modules=open (Turing and newer).

An image gets no driver: which one is needed depends on the GPU, and most nodes have none. A node to which the
file passes no GPU is not even asked: a virtual machine has no device that its file does not give it.
"""

from __future__ import annotations

from pyinfra.context import config, host

from deploys.util.context import flag, is_build, target
from operations import nvidia

config.SUDO = True

if not is_build() and "compute" in host.groups:
    this = target()
    if any(device.device_type == "gpu" for device in this.node.passthrough):
        nvidia.driver(
            name="NVIDIA's driver",
            node=this.node.name,
            asked=nvidia.Asked(
                modules=str(host.data.get("nvidia_modules") or ""),
                mps=bool(this.node.gres_settings.mps),
                update=flag("nvidia_update"),
                reboot=flag("nvidia_reboot"),
            ),
            timeout_s=this.drain_seconds,
        )
