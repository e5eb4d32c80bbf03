"""PCI devices for guests: handed to vfio-pci, and back to the driver they had."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from pyinfra.api.command import PyinfraCommand, StringCommand
from pyinfra.context import host

from facts.device_holders import DeviceHolders
from facts.iommu import IommuGroups
from facts.pci import PciDevices, PciUses
from facts.vfio import VfioState
from hpcstate.passthrough import kinds, verdict
from hpcstate.passthrough.kinds import VFIO
from hpcstate.passthrough.verdict import PciHost
from operations.util.arguments import operation
from operations.util.commands import stop_host

Commands = Generator[PyinfraCommand, None, None]

BIND_PROGRAM = Path(__file__).with_name("vfio_bind.sh").read_text()
GUEST_PROGRAM = Path(__file__).with_name("vfio_guest.sh").read_text()

NOTHING: Mapping[str, str] = MappingProxyType({})


@operation()
def require(
    addresses: Sequence[str],
    *,
    claimed: Mapping[str, str] = NOTHING,
    unused: Sequence[str] = (),
    force: bool = False,
) -> Commands:
    """The devices at ``addresses`` may be given to guests, also at the next boot; never changes anything.

    Stops the host for the reasons of ``bind``, but not for an IOMMU that is off: that may end with a boot.
    """
    found = _observed()
    before_boot = not found.iommu["groups"]
    if problem := refusal(
        found, addresses, claimed=claimed, unused=unused, force=force, before_boot=before_boot
    ):
        yield stop_host(problem)
        return
    host.noop(f"{', '.join(addresses)} may be given to guests")


@operation()
def bind(
    addresses: Sequence[str],
    *,
    claimed: Mapping[str, str] = NOTHING,
    unused: Sequence[str] = (),
    force: bool = False,
) -> Commands:
    """The devices at ``addresses`` have the driver vfio-pci, until the next boot.

    Stops the host when one does not exist, is another one than ``claimed`` says, is in no IOMMU group, or
    must go together with another that is not among them; when a process has it open; and when the host lives
    on one (its display, the disk of a file system, the card of its default route) or may do so, unless
    ``force``, or ``unused`` names one that it only may use.
    """
    found = _observed()
    if problem := refusal(found, addresses, claimed=claimed, unused=unused, force=force):
        yield stop_host(problem)
        return
    todo = [address for address in addresses if not kinds.is_vfio(found.devices[address]["driver"])]
    if not todo:
        host.noop(f"{', '.join(addresses)} have vfio-pci")
        return
    yield StringCommand("modprobe vfio-pci")
    for address in todo:
        yield _hand_over(address, VFIO)


@operation()
def unbind(addresses: Sequence[str]) -> Commands:
    """The devices at ``addresses`` are given back from vfio-pci to the driver that the kernel has for them.

    Fails, with nothing changed, where a guest has the device: the kernel would wait for the guest's end.
    """
    found = _observed()
    todo = [a for a in addresses if a in found.devices and found.devices[a]["driver"] == VFIO]
    if not todo:
        host.noop(f"vfio-pci has none of {', '.join(addresses)}")
        return
    for address in todo:
        yield _unless_a_guest_has(address)
        yield _hand_over(address, "")


def refusal(
    found: PciHost,
    addresses: Sequence[str],
    *,
    claimed: Mapping[str, str] = NOTHING,
    unused: Sequence[str] = (),
    force: bool = False,
    before_boot: bool = False,
) -> str:
    """Why the devices at ``addresses`` must not be bound, all reasons at once; empty when they may.

    ``before_boot`` leaves out what the next boot can change: the IOMMU. The reasons are those of
    ``hpcstate inventory pcie`` (hpcstate.passthrough.verdict.obstacles).
    """
    passed_over = _passed_over(force, before_boot)
    reasons: list[str] = []
    for address in addresses:
        if address not in found.devices:
            reasons.append(f"there is no PCI device {address}")
            continue
        here = found.devices[address]
        if claimed.get(address, identifiers := f"{here['vendor']}:{here['device']}") != identifiers:
            reasons.append(f"{address} is {identifiers}, and not {claimed[address]} as the file says")
            continue
        if missing := [other for other in verdict.companions(found, address) if other not in addresses]:
            names = ", ".join(kinds.described(found.devices[other]) for other in missing)
            reasons.append(f"{address} must go together with {names}")
        for obstacle in verdict.obstacles(found, address, unused):
            if obstacle.kind not in passed_over and obstacle.text:
                hint = f": {obstacle.step}" if obstacle.kind == "iommu" and obstacle.step else ""
                reasons.append(f"{obstacle.text}{hint}")
    return "\n".join(dict.fromkeys(reasons))


def _passed_over(force: bool, before_boot: bool) -> set[str]:
    # A guest that has the device has vfio-pci there already.
    return {"guest", *(("use", "may") if force else ()), *(("iommu",) if before_boot else ())}


def _observed() -> PciHost:
    devices, uses = host.get_fact(PciDevices), host.get_fact(PciUses)
    return PciHost(
        devices,
        host.get_fact(IommuGroups),
        host.get_fact(VfioState),
        uses["devices"],
        untraced=uses["untraced"],
        holders=host.get_fact(DeviceHolders),
    )


def _hand_over(address: str, driver: str) -> StringCommand:
    """vfio_bind.sh for one device; the program travels on standard input."""
    return StringCommand("sh -s --", address, shlex.quote(driver), _stdin=BIND_PROGRAM)


def _unless_a_guest_has(address: str) -> StringCommand:
    """vfio_guest.sh for one device."""
    return StringCommand("sh -s --", address, _stdin=GUEST_PROGRAM)
