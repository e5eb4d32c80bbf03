"""PCI devices of the hypervisor and of the nodes: what is there, ways to take it away and give it back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hpcstate.model import Node, PassthroughDevice
from hpcstate.node.ssh import Live
from hpcstate.passthrough import verdict as pcie
from hpcstate.passthrough.kinds import VFIO
from hpcstate.passthrough.verdict import PciHost

Shell = Callable[[str], str]
"""Runs a script as root somewhere and returns what it prints."""


def on_hypervisor(live: Live) -> Shell:
    """The shell of the hypervisor. Skips the check where it is another machine, which is not reached."""
    if live.hypervisor is None:
        pytest.skip(f"the nodes run on another host ({live.cluster.uri}), which the checks do not reach")
    return live.hypervisor


def on_node(live: Live, node: Node) -> Shell:
    """The shell of ``node``."""
    return lambda script: live.run(node.name, script, user="root").stdout


def seen(live: Live) -> PciHost:
    """What the facts say of the hypervisor."""
    return pcie.read_host(on_hypervisor(live))


def wanted(live: Live) -> list[tuple[Node, PassthroughDevice]]:
    """Each device that the file passes through to a compute node that is started, with its node."""
    return [(node, device) for node in live.workers for device in node.passthrough]


def there(live: Live, host: PciHost) -> list[tuple[Node, PassthroughDevice]]:
    """Those of ``wanted`` that are on the hypervisor's bus; passthrough.devices tells of the others."""
    return [(node, device) for node, device in wanted(live) if device.pci_address in host.devices]


@contextmanager
def off_the_bus(shell: Shell, address: str) -> Iterator[None]:
    """The device at ``address`` is taken off its bus, and afterwards back on it with the driver it had."""
    driver = driver_of(shell, address)
    try:
        shell(f"echo 1 >/sys/bus/pci/devices/{address}/remove")
        yield
    finally:
        shell("echo 1 >/sys/bus/pci/rescan")
        bind(shell, address, driver)


@contextmanager
def given_to(shell: Shell, address: str, driver: str) -> Iterator[None]:
    """The device at ``address`` has ``driver`` (none when empty), and afterwards the one it had."""
    before = driver_of(shell, address)
    try:
        bind(shell, address, driver)
        yield
    finally:
        bind(shell, address, before)


def driver_of(shell: Shell, address: str) -> str:
    """The driver that the device at ``address`` has, empty for none."""
    link = f"/sys/bus/pci/devices/{address}/driver"
    return shell(f'if [ -e {link} ]; then basename "$(readlink {link})"; fi').strip()


def bind(shell: Shell, address: str, driver: str) -> None:
    """Give the device at ``address`` to ``driver``, or take it from its driver when that is empty.

    Only vfio-pci has to be named to the kernel (driver_override); other drivers know their devices.
    """
    at = f"/sys/bus/pci/devices/{address}"
    override = VFIO if driver == VFIO else ""
    steps = [
        f"echo {override} >{at}/driver_override",
        f"if [ -e {at}/driver ]; then echo {address} >{at}/driver/unbind; fi",
    ]
    if driver:
        steps.append(f"echo {address} >/sys/bus/pci/drivers_probe")
    shell(" && ".join(steps))
