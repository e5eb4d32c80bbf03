"""Where passed-through PCI devices sit in the guest: a PCIe root port for each slot of the host. Pure.

The functions of a device (a GPU and its audio, say) stay together: drivers expect them in one slot, and they
are reset together. A slot without function 0 is not seen by the guest: the PCI specification has software
look at the other functions only where function 0 answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpcstate.model import PassthroughDevice

FIRST_SLOT = 0x10
"""First slot of our root ports on the guest's bus 0.

libvirt puts its own root ports (disks, network) from slot 1 up and q35 has its chipset at 1f. Firmware
numbers buses by slot: the virtio devices come first, whatever is passed through.
"""


@dataclass(frozen=True)
class GuestFunction:
    """A device of the host as a function of a slot in the guest.

    ``multifunction`` is set for function 0 of several (QEMU's property of that name).
    """

    device: PassthroughDevice
    function: int
    multifunction: bool

    @property
    def alias(self) -> str:
        """The device's name within libvirt; those that users give must begin with ``ua-`` (formatdomain)."""
        return "ua-" + self.device.pci_address.replace(":", "-").replace(".", "-")


@dataclass(frozen=True)
class RootPort:
    """A PCIe root port with the functions behind it, lowest first.

    ``index`` is the number of libvirt's controller, which is the bus in the addresses of the functions, and
    the chassis; ``slot`` and ``function`` are its own address on bus 0.
    """

    index: int
    slot: int
    function: int
    multifunction: bool
    functions: tuple[GuestFunction, ...]

    @property
    def port(self) -> int:
        """The port number as libvirt itself gives it: slot and function in one."""
        return self.slot << 3 | self.function


def root_ports(devices: Sequence[PassthroughDevice]) -> tuple[RootPort, ...]:
    """A root port for each slot of the host that ``devices`` are functions of, in the order of declaration.

    Functions keep their numbers. Where function 0 stays on the host the lowest becomes function 0.
    """
    slots: dict[str, list[PassthroughDevice]] = {}
    for device in devices:
        slots.setdefault(device.pci_address.rpartition(".")[0], []).append(device)
    return tuple(
        RootPort(
            index=number + 1,  # 0 is the root complex
            slot=FIRST_SLOT + number // 8,
            function=number % 8,
            multifunction=number % 8 == 0 and len(slots) > number + 1,
            functions=_functions(of_slot),
        )
        for number, of_slot in enumerate(slots.values())
    )


def _functions(devices: Sequence[PassthroughDevice]) -> tuple[GuestFunction, ...]:
    ordered = sorted(devices, key=lambda device: device.pci_address)
    numbers = [0, *(int(device.pci_address[-1]) for device in ordered[1:])]
    return tuple(
        GuestFunction(device, number, multifunction=number == 0 and len(ordered) > 1)
        for device, number in zip(ordered, numbers, strict=True)
    )
