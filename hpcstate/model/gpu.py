"""GPUs as declared: passed through from the host's PCI bus, or simulated by device nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DeviceType = Literal["gpu", "audio", "network", "storage", "other"]

UNTYPED_GPU = "passthrough"
"""GRES type of a GPU that has neither ``gres_type`` nor ``device_id``; a type is needed in gres.conf."""


def instance_type(whole: str, profile: str) -> str:
    """The GRES type of a MIG instance of ``profile`` (``3g.20gb``), where the GPU as a whole is a ``whole``.

    So Slurm's NVML plugin names them (gres.html, MIG Management: ``gpu:a100_3g.20gb:2``). The plus of
    ``1g.18gb+me`` becomes a dot, as in the names of NVIDIA's device plugin: a GRES type has none here.
    """
    return f"{whole}_{profile.replace('+', '.')}"


@dataclass(frozen=True)
class PassthroughDevice:
    """One PCI device that a node takes from the host (``pcie_passthrough.devices[]``).

    ``pci_address`` is ``dddd:bb:dd.f`` in lower case; ``vendor_id`` and ``device_id`` are four hex digits
    in lower case or empty; ``gres_type`` is the Slurm GRES type that the file names for a GPU, or empty (see
    ``whole_type``); ``mig`` are the profiles of the MIG instances that it is split into (``3g.20gb``).
    ``rom_file`` is the path of an image on the host that stands in for the device's ROM;
    without ``in_use`` the host does not use it, where that cannot be traced (hpcstate.passthrough.verdict);
    without ``rom_bar`` the guest sees no ROM; ``x_vga`` lets it use the legacy VGA registers.
    """

    pci_address: str
    device_type: DeviceType
    vendor_id: str = ""
    device_id: str = ""
    iommu_group: int | None = None
    gres_type: str = ""
    mig: tuple[str, ...] = ()
    description: str = ""
    rom_file: str = ""
    rom_bar: bool = True
    in_use: bool = True
    x_vga: bool = False

    @property
    def whole_type(self) -> str:
        """The GRES type of the GPU that it is, were it not split; empty for other devices."""
        return (self.gres_type or self.device_id or UNTYPED_GPU) if self.device_type == "gpu" else ""

    @property
    def gres_types(self) -> tuple[str, ...]:
        """What it is to Slurm: one GRES of its type, or one for each MIG instance."""
        whole = self.whole_type
        if not whole:
            return ()
        return tuple(instance_type(whole, profile) for profile in self.mig) or (whole,)


@dataclass(frozen=True)
class SimulatedGpus:
    """GPUs that are only device nodes (character 195:N): real to Slurm's GRES and to the kernel's device
    filter, no computing behind them. Shown as simulated everywhere.
    """

    count: int
    gres_type: str = "simulated"
