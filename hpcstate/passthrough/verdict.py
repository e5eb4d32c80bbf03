"""Passthrough decided by what is on the bus: which devices can go to a guest, what must go along, what is in
the way and what to do about it. Pure, but for ``local_host``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Literal

from hpcstate.passthrough.kinds import (
    AMD,
    NVIDIA,
    NVSWITCH,
    PCI_STUB,
    becomes_gres,
    is_gpu,
    is_vfio,
    kind_of,
    spoils_group,
    stays,
)
from hpcstate.probe import device_holders, iommu, pci, pci_use, vfio
from hpcstate.probe.device_holders import Holder
from hpcstate.probe.iommu import Iommu
from hpcstate.probe.pci import PciDevice
from hpcstate.probe.vfio import Vfio
from hpcstate.run import local

SYSFS = Path("/sys")
LARGEST_DOMAIN = 0xFFFF
"""Domains above are made by drivers, not by firmware: Intel's VMD has 10000 and on for the slots that it took
over (Linux: drivers/pci/controller/vmd.c). libvirt 9.0 takes such an address; whether a guest gets a device
from there was never seen, so none is given away."""

BOOT_DISPLAY = "the display it boots with"
DISPLAY_STEP = (
    "let the firmware show itself on another card (the processor's own graphics), or give that other "
    "card; `video=efifb:off` or `initcall_blacklist=sysfb_init` on the kernel command line keeps its "
    "framebuffer off. If you know that it may go: `in_use: false` for this device in the cluster file"
)
BELOW_STEP = (
    "lsblk shows what is on it; if the host needs none of that: `vgchange -an` (LVM), `mdadm --stop` (md), "
    "`multipath -f` or `cryptsetup close`"
)
OPEN_STEP = "end that program first (a guest: `virsh shutdown`), if the host can do without it"
IOMMU_HINT = "enable VT-d or AMD-Vi in the firmware, and intel_iommu=on on the kernel command line"


class State(Enum):
    """Whether a device can go to a guest now, once its driver lets go, or not."""

    READY = "ready"
    BIND = "needs binding"
    BLOCKED = "blocked"


@dataclass(frozen=True)
class PciHost:
    """What the facts say of one host. ``uses`` are what the host itself needs a device for, by address, and
    ``untraced`` its uses of storage and network of which nobody can tell the device; ``held`` are the running
    guests that have a device, by address, and ``holders`` the processes that have a GPU open.
    """

    devices: Mapping[str, PciDevice]
    iommu: Iommu
    vfio: Vfio
    uses: Mapping[str, list[str]] = field(default_factory=dict)
    held: Mapping[str, str] = field(default_factory=dict)
    untraced: Mapping[pci_use.Kind, list[str]] = field(default_factory=dict)
    holders: Sequence[Holder] = ()

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
class Obstacle:
    """Why a device cannot go to a guest. ``kind`` tells what it is about: the IOMMU, what ``held`` it, a
    ``guest`` that is not libvirt's, a ``use`` of the host's own, one that it ``may`` have, its ``group``,
    virtual functions (``sriov``), its ``domain``, that it is ``dead``.
    """

    kind: Literal["iommu", "held", "guest", "use", "may", "group", "sriov", "domain", "dead"]
    text: str
    step: str = ""


@dataclass(frozen=True)
class Verdict:
    """What is to be said of one device: ``companions`` must go along, ``reasons`` say why it is not ready,
    ``steps`` what would change that, ``notes`` what one should know besides.
    """

    address: str
    state: State
    group: int | None
    companions: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def local_host(sysfs: Path = SYSFS, held: Mapping[str, str] | None = None) -> PciHost:
    """This host, read from ``sysfs``. Raises HpcstateError when that holds what is no PCI device."""
    return read_host(local, str(sysfs), held)


def read_host(
    ask: Callable[[str], str], sysfs: str = str(SYSFS), held: Mapping[str, str] | None = None
) -> PciHost:
    """The host whose shell ``ask`` runs a command in, and returns what it prints: those of the facts."""
    uses = pci_use.parse(ask(pci_use.command(sysfs)))
    return PciHost(
        devices=pci.parse(ask(pci.command(sysfs))),
        iommu=iommu.parse(ask(iommu.command(sysfs))),
        vfio=vfio.parse(ask(vfio.command(sysfs))),
        uses=uses["devices"],
        held=held or {},
        untraced=uses["untraced"],
        holders=device_holders.parse(ask(device_holders.command(sysfs))),
    )


def companions(host: PciHost, address: str) -> tuple[str, ...]:
    """What must go to the same guest: the rest of its IOMMU group but for what stays (kernel:
    driver-api/vfio.rst), and the other functions of its slot, which a reset takes along.

    A virtual function is reset by itself, and shares the slot's number with others only by name.
    """
    group = host.group_of(address)
    together: set[str] = set()
    if not host.devices[address]["physfn"]:
        slot = address.rpartition(".")[0]
        together = {
            other
            for other, device in host.devices.items()
            if other.rpartition(".")[0] == slot and not device["physfn"]
        }
    if group is not None:
        together |= set(host.iommu["groups"][group]) & set(host.devices)
    return tuple(sorted(other for other in together - {address} if not stays(host.devices[other])))


def obstacles(host: PciHost, address: str, unused: Collection[str] = ()) -> list[Obstacle]:
    """All that keeps the device at ``address``, which exists, and its companions from a guest.

    Everybody who gives devices away asks here: inventory, init, validate, start, deploys/vfio.py. ``unused``
    are addresses of which the file says that the host does not use them, where that cannot be traced.
    """
    group, along = host.group_of(address), companions(host, address)
    found = _iommu_missing(host) if group is None else []
    for device in (host.devices[member] for member in (address, *along)):
        where = device["address"]
        if int(where.split(":")[0], 16) > LARGEST_DOMAIN:
            found.append(
                Obstacle(
                    "domain",
                    f"{where} is in a PCI domain of its own, behind Intel's VMD: none is given away",
                    "switch Intel's VMD off in the firmware, for the slot of this device at least",
                )
            )
        found += _dead(host, device)
        if holder := host.held.get(where):
            found.append(Obstacle("held", f"{where} is held by {holder}, which runs", f"stop {holder} first"))
        found += _open_by(host, device)
        found += [
            Obstacle("use", f"{where} is the host's own: {use}", _step_for(use))
            for use in uses(host, where)
            # Somebody with one GPU and no screen gives the display away knowingly; a root disk nobody does.
            if not (use == BOOT_DISPLAY and where in unused)
        ]
        if where not in unused:
            found += _maybe_used(host, device)
        found += _virtual_functions(host, device)
    found += _spoilt_by_what_stays(host, group)
    strangers = [other for other in along if other.rpartition(".")[0] != address.rpartition(".")[0]]
    if any(stranger in obstacle.text for stranger in strangers for obstacle in found):
        found.append(
            Obstacle(
                "group",
                "",
                "slots of this group are not isolated from each other (no ACS): put the card into another "
                "slot, behind a root port of the processor",
            )
        )
    return found


def verdict(host: PciHost, address: str, unused: Collection[str] = ()) -> Verdict:
    """Whether the device at ``address``, which exists, can be passed through together with its companions."""
    group, along = host.group_of(address), companions(host, address)
    found, notes = obstacles(host, address, unused), _notes(host, address)
    reasons = tuple(dict.fromkeys(obstacle.text for obstacle in found if obstacle.text))
    if reasons:
        steps = tuple(dict.fromkeys(obstacle.step for obstacle in found if obstacle.step))
        return Verdict(address, State.BLOCKED, group, along, reasons, steps, notes)
    foreign = [
        device
        for device in (host.devices[member] for member in (address, *along))
        if device["driver"] and not is_vfio(device["driver"])
    ]
    if foreign:
        return Verdict(
            address,
            State.BIND,
            group,
            along,
            tuple(f"{device['address']} has the driver {device['driver']}" for device in foreign),
            ("libvirt takes it from its driver as the node starts; one in use is better bound at boot",),
            notes,
        )
    return Verdict(address, State.READY, group, along, notes=notes)


def verdicts(host: PciHost, *, everything: bool = False) -> tuple[Verdict, ...]:
    """The verdict of each GPU; with ``everything`` of each device that is no bridge."""
    wanted = [d["address"] for d in host.devices.values() if is_gpu(d) or (everything and not stays(d))]
    return tuple(verdict(host, address) for address in wanted)


def yaml_of(host: PciHost, *addresses: str) -> str:
    """The entries of ``pcie_passthrough.devices`` for these devices, to paste: validate accepts them."""
    lines = []
    for address in addresses:
        device = host.devices[address]
        name = f"{device['vendor_name']} {device['device_name']}".strip()
        lines += [
            f'- pci_address: "{address}"',
            f"  device_type: {'other' if is_gpu(device) and not becomes_gres(device) else kind_of(device)}",
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
    display = [BOOT_DISPLAY] if device["boot_vga"] else []
    return [*display, *host.uses.get(device["address"], [])]


def _step_for(use: str) -> str:
    """What ends a use, where something can that the host survives."""
    if use == BOOT_DISPLAY:
        return DISPLAY_STEP
    if use.endswith(pci_use.OPEN):
        return OPEN_STEP
    return BELOW_STEP if use.startswith(pci_use.BELOW) else ""


def _open_by(host: PciHost, device: PciDevice) -> list[Obstacle]:
    """The processes that have ``device`` open: its driver would not let go of it before they end."""
    processes = {
        (holder["pid"], holder["command"]): holder["node"]
        for holder in host.holders
        if holder["address"] == device["address"]
    }
    return [
        Obstacle(
            "guest" if node.startswith(device_holders.VFIO_NODES) else "held",
            f"{device['address']} is open in {command} (process {pid}, {node})",
            f"end {command} first" if command not in _SERVICES else f"systemctl stop {_SERVICES[command]}",
        )
        for (pid, command), node in processes.items()
    ]


_SERVICES = {
    "Xorg": "display-manager",
    "gnome-shell": "display-manager",
    "kwin_wayland": "display-manager",
    "sddm": "display-manager",
    "nvidia-persiste": "nvidia-persistenced",
    "nvidia-persistenced": "nvidia-persistenced",
    "nv-hostengine": "nvidia-dcgm",
    "slurmd": "slurmd",
}
"""The systemd unit of a process that holds GPUs for long; the kernel cuts names after 15 letters."""


_MAY_BE: dict[str, pci_use.Kind] = {"01": "storage", "0c04": "storage", "02": "network", "0c06": "network"}
"""Classes by what may be reached through them: 0c04 is Fibre Channel, 0c06 InfiniBand."""


def _maybe_used(host: PciHost, device: PciDevice) -> list[Obstacle]:
    """What the host may use ``device`` for: uses that nobody can trace to a device count for each that could
    be meant. One that no driver of the host has is not in use.
    """
    code = device["class_code"]
    kind = _MAY_BE.get(code[:4]) or _MAY_BE.get(code[:2])
    if kind is None or not device["driver"] or is_vfio(device["driver"]) or device["driver"] == PCI_STUB:
        return []
    return [
        Obstacle(
            "may",
            f"{device['address']} may be the host's own: {what} cannot be traced to a device",
            "install what can tell (zfsutils-linux for ZFS, iproute2); or, if you know that the host does "
            "not use it, say `in_use: false` of this device in the cluster file",
        )
        for what in host.untraced.get(kind, ())
    ]


_LEAST_APERTURE = 64 << 20
"""Bytes: each GPU of NVIDIA that CUDA 12 knows has more than that behind its second register (BAR1), and up
to that behind the first."""


def _dead(host: PciHost, device: PciDevice) -> list[Obstacle]:
    """A device that does not answer, or has no addresses: no guest's driver could start it."""
    where = device["address"]
    if device["header_type"] == pci.GONE:
        return [
            Obstacle(
                "dead",
                f"{where} does not answer on the bus (rev ff): it fell off it, or did not wake up",
                "power the host off and on; if it comes again, check power, slot and riser, and "
                "`pcie_port_pm=off` on the kernel command line",
            )
        ]
    if device["unassigned"]:
        # pci_enable_resources() of the kernel refuses to enable it, and vfio-pci to open it.
        missing = f"{where} has a region of {_size(max(device['unassigned']))} without an address"
    elif (
        _is_nvidia(device) and not device["physfn"] and 0 < max(device["bars"], default=0) <= _LEAST_APERTURE
    ):
        missing = f"{where} has no address for its memory (BAR1)"
    else:
        return []
    step = "switch Above 4G Decoding on in the firmware; `pci=realloc` on the kernel command line may help"
    return [Obstacle("dead", missing, step)]


def _size(count: int) -> str:
    if count < 1 << 20:
        return f"{count} bytes"
    return f"{count >> 20} MiB" if count < 1 << 30 else f"{count >> 30} GiB"


def _is_nvidia(device: PciDevice) -> bool:
    return device["vendor"] == NVIDIA and is_gpu(device)


def _virtual_functions(host: PciHost, device: PciDevice) -> list[Obstacle]:
    """A function with virtual ones does not go: it makes them, and they end with it. One of NVIDIA's GPUs is
    nothing by itself (Virtual GPU Software User Guide, SR-IOV: the host's driver gives it a type).
    """
    if device["physfn"] and _is_nvidia(device):
        return [
            Obstacle(
                "sriov",
                f"{device['address']} is a virtual function of the GPU {device['physfn']}: it works with "
                "NVIDIA's vGPU software on the host alone",
                f"give the whole GPU: echo 0 >/sys/bus/pci/devices/{device['physfn']}/sriov_numvfs",
            )
        ]
    own = [other["address"] for other in host.devices.values() if other["physfn"] == device["address"]]
    if not own:
        return []
    remove = f"echo 0 >/sys/bus/pci/devices/{device['address']}/sriov_numvfs"
    return [
        Obstacle(
            "sriov",
            f"{device['address']} has virtual functions: {', '.join(own)}",
            remove if _is_nvidia(device) else f"give these to guests; or remove them: {remove}",
        )
    ]


def _spoilt_by_what_stays(host: PciHost, group: int | None) -> list[Obstacle]:
    """What of the group stays with the host, and has a driver that keeps the whole group from guests."""
    members = () if group is None else host.iommu["groups"][group]
    return [
        Obstacle(
            "group",
            f"{device['address']} of its group stays with the host and has the driver {device['driver']}",
            f"unload {device['driver']}, if the host can do without it",
        )
        for device in (host.devices[member] for member in members if member in host.devices)
        if stays(device) and spoils_group(device)
    ]


_RESET_BUG = (
    (0x67C0, 0x67DF, "Polaris 10"),
    (0x67E0, 0x67FF, "Polaris 11"),
    (0x6980, 0x699F, "Polaris 12"),
    (0x6860, 0x687F, "Vega 10"),
    (0x66A0, 0x66AF, "Vega 20"),
    (0x7310, 0x731F, "Navi 10"),
    (0x7360, 0x7362, "Navi 12"),
    (0x7340, 0x734F, "Navi 14"),
)
"""AMD's GPUs that no reset of the bus brings back (first and last device number): those that the module
vendor-reset has a reset of its own for (gnif/vendor-reset, README)."""

_DEVICE_SPECIFIC = "device_specific"
"""The reset method of a quirk or of vendor-reset (Linux: Documentation/ABI/testing/sysfs-bus-pci)."""


def reset_note(host: PciHost, address: str) -> str:
    """What happens when a guest lets go of the device at ``address``, where that is bad; else empty."""
    device = host.devices[address]
    methods = device["reset_methods"]
    kind = next((name for first, last, name in _RESET_BUG if first <= int(device["device"], 16) <= last), "")
    if device["vendor"] == AMD and is_gpu(device) and kind and _DEVICE_SPECIFIC not in methods:
        return (
            f"{address} is one of AMD's GPUs ({kind}) that a reset does not bring back: it works at a node's "
            "first start; after that it, or the host, hangs until the power was off. The module vendor-reset "
            "(DKMS) on the host resets it"
        )
    if methods or device["physfn"] or _functions(host, address) > 1:
        # Of several functions the bus is reset with all of them, which is no method of one (vfio hot reset).
        return ""
    return (
        f"{address} has no way to be reset: after a node stopped, the next one may find it as that left it; "
        "only the host's power off brings it back"
    )


def _functions(host: PciHost, address: str) -> int:
    slot = address.rpartition(".")[0]
    return sum(other.rpartition(".")[0] == slot for other in host.devices)


def _notes(host: PciHost, address: str) -> tuple[str, ...]:
    device = host.devices[address]
    note = reset_note(host, address) if is_gpu(device) else ""
    return (*([note] if note else []), *_switch_notes(host, device))


def nvswitches(host: PciHost) -> list[str]:
    """The addresses of the NVSwitches of ``host``."""
    return [
        device["address"]
        for device in host.devices.values()
        if device["vendor"] == NVIDIA and device["class_code"].startswith(NVSWITCH)
    ]


def _switch_notes(host: PciHost, device: PciDevice) -> tuple[str, ...]:
    switches = nvswitches(host)
    if not switches or device["vendor"] != NVIDIA or not is_gpu(device):
        return ()
    return (f"NVLink between GPUs in a guest needs the NVSwitches there too: {', '.join(switches)}",)


def _iommu_missing(host: PciHost) -> list[Obstacle]:
    arguments = host.iommu["kernel_arguments"]
    off = [f"{key}={value}" for key, value in arguments.items() if "off" in value.split(",")]
    if host.iommu["groups"]:
        return [
            Obstacle("iommu", "it is in no IOMMU group, though others are: the IOMMU does not cover its slot")
        ]
    if off:
        return [
            Obstacle("iommu", f"the IOMMU is off: {off[0]} on the kernel command line", f"remove {off[0]}")
        ]
    if host.iommu["requested"]:
        return [
            Obstacle(
                "iommu",
                "the kernel was asked for the IOMMU but found none",
                "enable VT-d or AMD-Vi in the firmware",
            )
        ]
    return [Obstacle("iommu", "the IOMMU is off", IOMMU_HINT)]
