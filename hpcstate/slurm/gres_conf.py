"""gres.conf of one node for Slurm 24.11, from the devices it really has. Pure: devices in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpcstate.hostlist import ranges
from hpcstate.model import GresSettings
from hpcstate.model.gres import EXPLICIT
from hpcstate.render import render


@dataclass(frozen=True)
class GresDevice:
    """One GPU, or one MIG instance, that Slurm gives to jobs as a whole: its GRES type and its device files.

    A MIG instance has three files: its GPU's and two of /dev/nvidia-caps. ``cores`` are the cores near it in
    Slurm's abstract numbering, empty when all are; ``simulated``: no hardware behind the file.
    """

    gres_type: str
    files: tuple[str, ...]
    simulated: bool = False
    cores: tuple[int, ...] = ()


def gres_conf(node_name: str, devices: Sequence[GresDevice], settings: GresSettings = EXPLICIT) -> str:
    """The text of gres.conf of one node.

    A node without devices gets a file too: without one slurmd would believe ``Gres=`` of slurm.conf and count
    devices that it cannot isolate (gres.conf(5)).
    """
    return render(
        "slurm/gres.conf.j2",
        node_name=node_name,
        lines=gres_lines(node_name, devices, settings),
        simulated=any(device.simulated for device in devices),
    )


def gres_lines(node_name: str, devices: Sequence[GresDevice], settings: GresSettings = EXPLICIT) -> list[str]:
    """The lines of gres.conf for ``devices`` of ``node_name``.

    With ``autodetect`` slurmd finds the GPUs and there is no line for each; the shares of GPUs are then given
    as one total, which Slurm divides evenly (gres.html, Sharding).
    """
    if not devices:
        return []
    shared = settings.sharing
    if settings.autodetect != "off":
        lines = [f"NodeName={node_name} AutoDetect={settings.autodetect}"]
        if shared:
            lines.append(f"NodeName={node_name} Name={shared[0]} Count={shared[1] * len(devices)}")
        return lines
    lines = [_gpu_line(node_name, device) for device in devices]
    if shared:
        name, count = shared
        lines += [
            f"NodeName={node_name} Name={name} Count={count} File={device.files[0]}" for device in devices
        ]
    return lines


def _gpu_line(node_name: str, device: GresDevice) -> str:
    key = "File" if len(device.files) == 1 else "MultipleFiles"
    line = f"NodeName={node_name} Name=gpu Type={device.gres_type} {key}={','.join(device.files)}"
    return f"{line} Cores={ranges(device.cores)}" if device.cores else line
