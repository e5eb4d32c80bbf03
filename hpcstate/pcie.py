"""Passthrough decided by what is on the bus: which devices can go to a guest, what must go along, what is in
the way and what to do about it. Pure, but for ``local_host``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from hpcstate.model.gpu import DeviceType
from hpcstate.probe import iommu, local, pci, pci_use, vfio
from hpcstate.probe.iommu import Iommu
from hpcstate.probe.pci import PciDevice
from hpcstate.probe.vfio import Vfio

SYSFS = Path("/sys")
VFIO = "vfio-pci"

DISPLAY = "03"
BRIDGE = "06"
"""Base classes of the PCI Code and ID Assignment Specification: display controllers (VGA 0300, 3D 0302, other
0380), and bridges, which stay with the host when their IOMMU group is passed through."""

_KINDS: dict[str, DeviceType] = {
    "03": "gpu",
    "0401": "audio",
    "0403": "audio",
    "02": "network",
    "01": "storage",
}
"""``device_type`` of the cluster file by class; the longer code wins."""

BOOT_DISPLAY = "the display it boots with"
IOMMU_HINT = "enable VT-d or AMD-Vi in the firmware, and intel_iommu=on on the kernel command line"


class State(Enum):
    """Whether a device can go to a guest now, once its driver lets go, or not."""

    READY = "ready"
    BIND = "needs binding"
    BLOCKED = "blocked"


@dataclass(frozen=True)
class PciHost:
    """What the facts say of one host. ``uses`` are what the host itself needs a device for; ``held`` the
    running guests that have one, both by address.
    """

    devices: Mapping[str, PciDevice]
    iommu: Iommu
    vfio: Vfio
    uses: Mapping[str, list[str]] = field(default_factory=dict)
    held: Mapping[str, str] = field(default_factory=dict)

    @property
    def numa_nodes(self) -> dict[str, int]:
        """The NUMA node of each device by address, -1 where the host does not know it."""
        return {address: device["numa_node"] for address, device in self.devices.items()}

    def group_of(self, address: str) -> int | None:
        """The IOMMU group of a device; None while the IOMMU is off."""
        for group, members in self.iommu["groups"].items():
            if address in members:
                return group
        return None


@dataclass(frozen=True)
class Verdict:
    """What is to be said of one device: ``companions`` must go along, ``reasons`` say why it is not ready,
    ``steps`` what would change that.
    """

    address: str
    state: State
    group: int | None
    companions: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()


def local_host(sysfs: Path = SYSFS, held: Mapping[str, str] | None = None) -> PciHost:
    """This host, read from ``sysfs``. Raises HpcstateError when that holds what is no PCI device."""
    return read_host(local, str(sysfs), held)


def read_host(
    ask: Callable[[str], str], sysfs: str = str(SYSFS), held: Mapping[str, str] | None = None
) -> PciHost:
    """The host whose shell ``ask`` runs a command in, and returns what it prints: those of the facts."""
    return PciHost(
        devices=pci.parse(ask(pci.command(sysfs))),
        iommu=iommu.parse(ask(iommu.command(sysfs))),
        vfio=vfio.parse(ask(vfio.command(sysfs))),
        uses=pci_use.parse(ask(pci_use.command(sysfs))),
        held=held or {},
    )


def kind_of(device: PciDevice) -> DeviceType:
    """The ``device_type`` of a device in the cluster file; ``other`` when it has no name there."""
    code = device["class_code"]
    return _KINDS.get(code[:4]) or _KINDS.get(code[:2], "other")


def is_gpu(device: PciDevice) -> bool:
    """Whether it is a GPU: any display controller, also one without an output."""
    return device["class_code"].startswith(DISPLAY)


def is_bridge(device: PciDevice) -> bool:
    """Whether it is a bridge of any kind (PCI, host, ISA)."""
    return device["class_code"].startswith(BRIDGE)


def described(device: PciDevice) -> str:
    """Address, identifiers and name: ``0000:01:00.0 (10de:2805 NVIDIA Corporation AD106)``."""
    name = f"{device['vendor_name']} {device['device_name']}".strip()
    return f"{device['address']} ({device['vendor']}:{device['device']}{' ' * bool(name)}{name})"


def companions(host: PciHost, address: str) -> tuple[str, ...]:
    """What must go to the same guest: the rest of its IOMMU group but for bridges (kernel:
    driver-api/vfio.rst), and the other functions of its slot, which a reset takes along.
    """
    slot, group = address.rpartition(".")[0], host.group_of(address)
    together = {other for other in host.devices if other.rpartition(".")[0] == slot}
    if group is not None:
        together |= set(host.iommu["groups"][group]) & set(host.devices)
    return tuple(sorted(other for other in together - {address} if not is_bridge(host.devices[other])))


def verdict(host: PciHost, address: str) -> Verdict:
    """Whether the device at ``address``, which exists, can be passed through together with its companions."""
    group, along = host.group_of(address), companions(host, address)
    together = [host.devices[each] for each in (address, *along)]
    reasons, steps = _iommu_missing(host) if group is None else ([], [])
    for device in together:
        if holder := host.held.get(device["address"]):
            reasons.append(f"{device['address']} is held by {holder}, which runs")
            steps.append(f"stop {holder} first")
        for use in uses(host, device["address"]):
            reasons.append(f"{device['address']} is the host's own: {use}")
    strangers = [each for each in along if each.rpartition(".")[0] != address.rpartition(".")[0]]
    if reasons and strangers and any(stranger in reason for stranger in strangers for reason in reasons):
        steps.append(
            "slots of this group are not isolated from each other (no ACS): put the card into another slot, "
            "behind a root port of the processor"
        )
    if reasons:
        return Verdict(address, State.BLOCKED, group, along, tuple(reasons), tuple(dict.fromkeys(steps)))
    foreign = [device for device in together if device["driver"] not in ("", VFIO)]
    if foreign:
        return Verdict(
            address,
            State.BIND,
            group,
            along,
            tuple(f"{device['address']} has the driver {device['driver']}" for device in foreign),
            ("libvirt takes it from its driver as the node starts; one in use is better bound at boot",),
        )
    return Verdict(address, State.READY, group, along)


def verdicts(host: PciHost, *, everything: bool = False) -> tuple[Verdict, ...]:
    """The verdict of each GPU; with ``everything`` of each device that is no bridge."""
    wanted = [d["address"] for d in host.devices.values() if is_gpu(d) or (everything and not is_bridge(d))]
    return tuple(verdict(host, address) for address in wanted)


def yaml_of(host: PciHost, *addresses: str) -> str:
    """The entries of ``pcie_passthrough.devices`` for these devices, to paste."""
    lines = []
    for each in addresses:
        device = host.devices[each]
        name = f"{device['vendor_name']} {device['device_name']}".strip()
        lines += [
            f'- pci_address: "{each}"',
            f"  device_type: {kind_of(device)}",
            f'  vendor_id: "{device["vendor"]}"',
            f'  device_id: "{device["device"]}"',
        ]
        if name:
            quoted = name.replace("\\", "\\\\").replace('"', '\\"')
            lines.append(f'  description: "{quoted}"')
    return "\n".join(lines)


def uses(host: PciHost, address: str) -> list[str]:
    """What the host itself needs the device at ``address`` for; empty when for nothing."""
    device = host.devices[address]
    display = [BOOT_DISPLAY] if device["boot_vga"] and is_gpu(device) else []
    return [*display, *host.uses.get(device["address"], [])]


def _iommu_missing(host: PciHost) -> tuple[list[str], list[str]]:
    arguments = host.iommu["kernel_arguments"]
    off = [f"{key}={value}" for key, value in arguments.items() if "off" in value.split(",")]
    if host.iommu["groups"]:
        return ["it is in no IOMMU group, though others are: the IOMMU does not cover its slot"], []
    if off:
        return [f"the IOMMU is off: {off[0]} on the kernel command line"], [f"remove {off[0]}"]
    if host.iommu["requested"]:
        return ["the kernel was asked for the IOMMU but found none"], [
            "enable VT-d or AMD-Vi in the firmware"
        ]
    return ["the IOMMU is off"], [IOMMU_HINT]
