"""The PCI devices of this host, as the kernel describes them in sysfs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hpcstate.errors import HpcstateError

SYSFS = Path("/sys")

DISPLAY_CLASS = 0x03
BRIDGE_CLASS = 0x06
"""Base classes of the PCI Code and ID Assignment Specification: display controllers (VGA 0x0300, 3D
0x0302, other 0x0380), and bridges, which stay with the host when their IOMMU group is passed through."""


@dataclass(frozen=True, order=True)
class PciDevice:
    """One function of a PCI device.

    ``address`` is ``dddd:bb:dd.f``; ``vendor_id`` and ``device_id`` are four hex digits; ``class_code`` has
    24 bits (base class, subclass, interface); ``driver`` is empty without one; ``iommu_group`` is None
    when the IOMMU is off.
    """

    address: str
    vendor_id: str
    device_id: str
    class_code: int
    driver: str = ""
    iommu_group: int | None = None

    @property
    def is_display(self) -> bool:
        """Whether it is a GPU: any display controller, also one without an output."""
        return self.class_code >> 16 == DISPLAY_CLASS

    @property
    def is_bridge(self) -> bool:
        """Whether it is a PCI bridge."""
        return self.class_code >> 16 == BRIDGE_CLASS


def read_devices(sysfs: Path = SYSFS) -> tuple[PciDevice, ...]:
    """All PCI functions below ``sysfs``, by address; none where there is no PCI bus.

    Raises HpcstateError when sysfs holds something that is no PCI device.
    """
    folder = sysfs / "bus" / "pci" / "devices"
    if not folder.is_dir():
        return ()
    return tuple(sorted(_read_device(entry) for entry in folder.iterdir()))


def _read_device(entry: Path) -> PciDevice:
    try:
        return PciDevice(
            address=entry.name.lower(),
            vendor_id=f"{_hex(entry / 'vendor'):04x}",
            device_id=f"{_hex(entry / 'device'):04x}",
            class_code=_hex(entry / "class"),
            driver=_link(entry / "driver"),
            iommu_group=int(group) if (group := _link(entry / "iommu_group")) else None,
        )
    except (OSError, ValueError) as error:
        raise HpcstateError(f"not readable as a PCI device: {error}", where=str(entry)) from error


def _hex(file: Path) -> int:
    return int(file.read_text().strip(), 16)


def _link(link: Path) -> str:
    return link.readlink().name if link.is_symlink() else ""
