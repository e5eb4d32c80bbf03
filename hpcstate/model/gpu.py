"""GPUs as declared: passed through from the host's PCI bus, or simulated by device nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DeviceType = Literal["gpu", "audio", "network", "storage", "other"]


@dataclass(frozen=True)
class PassthroughDevice:
    """One PCI device that a node takes from the host (``pcie_passthrough.devices[]``).

    ``pci_address`` is ``dddd:bb:dd.f`` in lower case; ``vendor_id`` and ``device_id`` are four hex digits
    in lower case or empty; ``gres_type`` is the Slurm GRES type of a GPU, ``device_id`` unless the file
    names another; ``mig`` are the profiles of the MIG instances that it is split into (``3g.20gb``).
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
    def gres_types(self) -> tuple[str, ...]:
        """What it is to Slurm: one GRES of its type, or one of ``<type>_<profile>`` for each MIG instance.

        So Slurm's NVML plugin names them (gres.html, MIG Management: ``gpu:a100_3g.20gb:2``).
        """
        if self.device_type != "gpu":
            return ()
        whole = self.gres_type or self.device_id
        return tuple(f"{whole}_{profile}" for profile in self.mig) or (whole,)


@dataclass(frozen=True)
class SimulatedGpus:
    """GPUs that are only device nodes (character 195:N): real to Slurm's GRES and to the kernel's device
    filter, no computing behind them. Shown as simulated everywhere.
    """

    count: int
    gres_type: str = "simulated"
