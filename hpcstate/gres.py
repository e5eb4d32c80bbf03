"""Which of a node's GPUs become generic resources of Slurm. Pure: declared and observed in, devices out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from hpcstate.model import Node
from hpcstate.probe.gpu import GpuDevice
from hpcstate.slurm_conf import GresDevice

GPU_MAJOR = 195
"""The major number of NVIDIA's character devices (Linux, Documentation/admin-guide/devices.txt)."""


@dataclass(frozen=True)
class DeclaredGpu:
    """One GPU that the cluster file promises. ``gres_type`` is its type in Slurm; a passed-through GPU is
    recognised on the node by its PCI ``device_id`` (any real GPU without one),
    a ``simulated`` one by its type.
    """

    gres_type: str
    device_id: str = ""
    simulated: bool = False

    def is_met_by(self, device: GpuDevice) -> bool:
        """Whether ``device`` is such a GPU."""
        if self.simulated or device["simulated"]:
            return self.simulated and device["simulated"] and device["gres_type"] == self.gres_type
        return device["gres_type"] == self.device_id or not self.device_id

    def __str__(self) -> str:
        if self.simulated or not self.device_id or self.device_id == self.gres_type:
            return self.gres_type
        return f"{self.gres_type} (PCI device {self.device_id})"


@dataclass(frozen=True)
class Assignment:
    """The devices for gres.conf; or ``problem``, why the node cannot offer what it declares. ``note`` tells
    of GPUs that are there and not declared: they are not used.
    """

    devices: tuple[GresDevice, ...] = ()
    problem: str = ""
    note: str = ""


def declared_gpus(node: Node) -> tuple[DeclaredGpu, ...]:
    """The GPUs that ``node`` declares, in the order of ``Node.gres_types``."""
    real = tuple(
        DeclaredGpu(device.gres_type or device.device_id, device.device_id)
        for device in node.passthrough
        if device.device_type == "gpu"
    )
    if node.simulated_gpus is None:
        return real
    return real + (DeclaredGpu(node.simulated_gpus.gres_type, simulated=True),) * node.simulated_gpus.count


def simulated_devices(count: int, gres_type: str) -> list[GpuDevice]:
    """What the fact GpuDevices reports once ``count`` simulated GPUs are there."""
    return [
        GpuDevice(file=f"/dev/nvidia{n}", major=GPU_MAJOR, minor=n, gres_type=gres_type, simulated=True)
        for n in range(count)
    ]


def assign(node: str, declared: Sequence[DeclaredGpu], observed: Sequence[GpuDevice]) -> Assignment:
    """A device for each declared GPU of ``node``, in the order of the device files.

    Slurm sets a node INVALID that reports fewer than configured (slurm.conf(5), NODE CONFIGURATION), and a
    type that is not there as configured counts as missing: both are refused here, before anything changes.
    """
    free = list(observed)
    devices: list[GresDevice] = []
    for gpu in sorted(declared, key=lambda gpu: not gpu.device_id):
        device = next((device for device in free if gpu.is_met_by(device)), None)
        if device is None:
            return Assignment(problem=_problem(node, declared, observed))
        free.remove(device)
        devices.append(GresDevice(gpu.gres_type, device["file"], device["simulated"]))
    spare = ", ".join(device["file"] for device in free)
    note = f"{node} has GPUs that it does not declare, they are not used: {spare}" if spare else ""
    return Assignment(tuple(sorted(devices, key=lambda device: _number(device.file))), note=note)


def _problem(node: str, declared: Sequence[DeclaredGpu], observed: Sequence[GpuDevice]) -> str:
    wanted = _counted(Counter(str(gpu) for gpu in declared))
    found = _counted(Counter(device["gres_type"] for device in observed))
    return (
        f"{node} declares {wanted} and has {found}.\n"
        "Nothing of Slurm was changed on this node. Look whether the device is passed through and its driver "
        "is loaded (lspci -nn; ls /dev/nvidia*; dmesg), or correct the GPUs of this node in the cluster file."
    )


def _counted(counts: Counter[str]) -> str:
    """``2 GPUs of type 2805, 1 of type simulated``; ``no GPU`` for none."""
    parts = [f"{count} of type {kind}" for kind, count in counts.items()]
    total = counts.total()
    return f"{total} GPU{'s' if total > 1 else ''} ({', '.join(parts)})" if parts else "no GPU"


def _number(file: str) -> int:
    return int("".join(character for character in file if character.isdigit()) or 0)
