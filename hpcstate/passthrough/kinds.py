"""What one PCI device is: a GPU, a bridge, one that VFIO has; whether it becomes a GPU of Slurm. Pure."""

from __future__ import annotations

from hpcstate.model.gpu import DeviceType
from hpcstate.probe.pci import PciDevice

VFIO = "vfio-pci"

ACCELERATORS = ("03", "12")
"""Base classes of the PCI Code and ID Assignment Specification: display controllers (VGA 0300, 3D 0302, other
0380) and processing accelerators (AMD's Instinct)."""

MANAGEMENT_DISPLAYS = ("1a03:", "102b:", "18ca:", "19e5:1711", "1002:515e")
"""Screens of a server's management controller (ASPEED, Matrox G200, XGI, Huawei iBMC, ATI ES1000), by the
beginning of their identifiers: nothing to compute with."""

NVIDIA, AMD = "10de", "1002"
NVSWITCH = "0680"
"""Class of an NVSWITCH, "other bridge": an endpoint (header type 0), which NVLink of its GPUs needs."""

PCI_STUB = "pci-stub"
PORT = "pcieport"
_KINDS: dict[str, DeviceType] = {
    "03": "gpu",
    "12": "gpu",
    "0401": "audio",
    "0403": "audio",
    "02": "network",
    "01": "storage",
}
"""``device_type`` of the cluster file by class; the longer code wins."""


def kind_of(device: PciDevice) -> DeviceType:
    """The ``device_type`` of a device in the cluster file; ``other`` when it has no name there."""
    code = device["class_code"]
    if code.startswith(ACCELERATORS) and not is_gpu(device):
        return "other"
    return _KINDS.get(code[:4]) or _KINDS.get(code[:2], "other")


def is_gpu(device: PciDevice) -> bool:
    """Whether it is a GPU: a display controller, also one without an output, or a processing accelerator, but
    not the screen of a management controller."""
    identifiers = f"{device['vendor']}:{device['device']}"
    return device["class_code"].startswith(ACCELERATORS) and not identifiers.startswith(MANAGEMENT_DISPLAYS)


def becomes_gres(device: PciDevice) -> bool:
    """Whether it becomes a GPU of Slurm here: hpcstate deploys NVIDIA's driver, and no other yet."""
    return is_gpu(device) and device["vendor"] == NVIDIA


def why_no_gres(device: PciDevice) -> str:
    """Why a device does not become a GPU of Slurm here; empty when it does."""
    if becomes_gres(device):
        return ""
    if is_gpu(device):
        return "hpcstate deploys NVIDIA's driver and no other yet"
    return "it is the screen of a management controller, or no GPU"


def stays(device: PciDevice) -> bool:
    """Whether it stays with the host when its IOMMU group goes to a guest: a bridge to another bus, a host or
    ISA bridge. An NVSwitch, which has the class of a bridge too, goes.
    """
    if device["header_type"] in (1, 2):
        return True
    return device["class_code"].startswith("06") and not device["class_code"].startswith(NVSWITCH)


def is_vfio(driver: str) -> bool:
    """Whether ``driver`` hands a device to guests: vfio-pci or one of its variants, which are called after it
    (Linux: drivers/vfio/pci; nvgrace-gpu-vfio-pci, mlx5_vfio_pci, ...).
    """
    return driver.replace("_", "-").endswith(VFIO)


def spoils_group(device: PciDevice) -> bool:
    """Whether a device keeps its IOMMU group from guests as it is: the kernel's rule.

    A group is viable when each of its devices has no driver, or one that leaves DMA to others: VFIO's,
    pci-stub, and pcieport of bridges; neither class nor header type counts (Linux since 5.19:
    driver_managed_dma in drivers/pci/pci-driver.c, pci_dma_configure; before, bridges did not count at all).
    """
    driver = device["driver"]
    return not (driver in ("", PCI_STUB, PORT) or is_vfio(driver))


def described(device: PciDevice) -> str:
    """Address, identifiers and name: ``0000:01:00.0 (10de:2805 NVIDIA Corporation AD106)``."""
    name = f"{device['vendor_name']} {device['device_name']}".strip()
    return f"{device['address']} ({device['vendor']}:{device['device']}{' ' * bool(name)}{name})"
