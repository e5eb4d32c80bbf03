"""On the nodes: each device came, its functions in one slot in their order, and its driver has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from hpcstate.check.suite import CheckFailed, RecordProperty, fault
from hpcstate.hypervisor.guest_pci import root_ports
from hpcstate.model import Node, PassthroughDevice
from hpcstate.node.ssh import Live
from hpcstate.passthrough.kinds import VFIO, described
from hpcstate.probe import pci
from hpcstate.probe.pci import PciDevice
from tests.suites.pci import given_to, off_the_bus, on_hypervisor, on_node

NVIDIA = "10de"


@dataclass(frozen=True)
class Function:
    """A function as it should be in a slot of the node. ``ids`` is ``vendor:device``."""

    device: PassthroughDevice
    number: int
    ids: str


@pytest.mark.needs(passthrough=True)
def test_slots(live: Live, record_property: RecordProperty) -> None:
    """Each device is on its node's bus, its functions in one slot and in their order"""
    problems, lines = [], []
    for node in _nodes(live):
        bus = _bus(live, node)
        for functions, slot in placed(_expected(live, node), bus):
            shown = ", ".join(f".{function.number} {function.ids}" for function in functions)
            if slot:
                lines.append(f"{node.name} {slot}: {shown}")
            else:
                problems.append(f"{node.name} has no slot with {shown}; {_near(functions, bus)}")
    if problems:
        raise CheckFailed(
            "each device in a slot of its own with all its functions",
            "; ".join(problems),
            "passthrough.domain tells whether libvirt gave it; lspci on the node",
        )
    record_property("observed", "; ".join(lines))


@pytest.mark.needs(passthrough=True)
def test_drivers(live: Live, record_property: RecordProperty) -> None:
    """As many GPUs are on each node's bus as the file declares, and a driver has each"""
    problems, lines = [], []
    for node in _nodes(live):
        bus = _bus(live, node)
        ids = [
            function.ids
            for slot in _expected(live, node)
            for function in slot
            if function.device.device_type == "gpu"
        ]
        gpus = [device for device in bus.values() if _ids(device) in ids]
        if len(gpus) != len(ids):
            problems.append(f"{node.name} has {len(gpus)} GPUs, {len(ids)} are declared")
        for gpu in gpus:
            driver = gpu["driver"]
            lines.append(f"{node.name} {described(gpu)} {driver or 'no driver'}")
            if driver in ("", VFIO) or (gpu["vendor"] == NVIDIA and driver != "nvidia"):
                problems.append(lines[-1])
    if problems:
        raise CheckFailed(
            "a driver for each GPU (nvidia for NVIDIA's), and no GPU more or less",
            "; ".join(problems),
            "pyinfra deploys/nvidia.py; dmesg on the node says why a driver refused",
        )
    record_property("observed", "; ".join(lines) or "the file passes through no GPU, only other devices")


def placed(
    expected: list[list[Function]], bus: Mapping[str, PciDevice]
) -> Iterator[tuple[list[Function], str]]:
    """The slot (``0000:05:00``) of each expected set of functions, no slot twice; empty for one without."""
    free = dict.fromkeys(address.rpartition(".")[0] for address in bus)
    for functions in expected:
        fitting = (
            slot
            for slot in free
            if all(
                f"{slot}.{function.number}" in bus and _ids(bus[f"{slot}.{function.number}"]) == function.ids
                for function in functions
            )
        )
        slot = next(fitting, "")
        free.pop(slot, None)
        yield functions, slot


def _expected(live: Live, node: Node) -> list[list[Function]]:
    """The functions behind each root port; ids that the file does not name are asked on the hypervisor."""
    unnamed = [device for device in node.passthrough if not (device.vendor_id and device.device_id)]
    host = pci.parse(on_hypervisor(live)(pci.command())) if unnamed else {}

    def ids(device: PassthroughDevice) -> str:
        found = host.get(device.pci_address)
        if device in unnamed and found is None:
            raise CheckFailed(f"{device.pci_address} on the hypervisor's bus", "it is not there")
        return _ids(found) if found else f"{device.vendor_id}:{device.device_id}"

    return [
        [Function(function.device, function.function, ids(function.device)) for function in port.functions]
        for port in root_ports(node.passthrough)
    ]


def _nodes(live: Live) -> list[Node]:
    return [node for node in live.workers if node.passthrough]


def _bus(live: Live, node: Node) -> dict[str, PciDevice]:
    return pci.parse(live.run(node.name, pci.command()).stdout)


def _ids(device: PciDevice) -> str:
    return f"{device['vendor']}:{device['device']}"


def _near(functions: list[Function], bus: Mapping[str, PciDevice]) -> str:
    """Where the ids of ``functions`` are on the node's bus."""
    ids = {function.ids for function in functions}
    found = [f"{address} {_ids(device)}" for address, device in bus.items() if _ids(device) in ids]
    return f"it has {', '.join(found)}" if found else "none of them is on its bus"


def _last_gpu(live: Live) -> tuple[Node, str]:
    """The last node with a passed-through GPU, and the last of its GPUs by its address there."""
    node = [node for node in _nodes(live) if any(d.device_type == "gpu" for d in node.passthrough)][-1]
    (*_, found) = (
        f"{slot}.{function.number}"
        for functions, slot in placed(_expected(live, node), _bus(live, node))
        for function in functions
        if function.device.device_type == "gpu"
    )
    return node, found


@fault("the last function of a node's last device is off its bus", "passthrough.slots")
def function_missing(live: Live) -> Iterator[None]:
    node = _nodes(live)[-1]
    *_, (functions, slot) = placed(_expected(live, node), _bus(live, node))
    with off_the_bus(on_node(live, node), f"{slot}.{functions[-1].number}"):
        yield


@fault("the last GPU of a node has no driver", "passthrough.drivers")
def driverless(live: Live) -> Iterator[None]:
    node, address = _last_gpu(live)
    with given_to(on_node(live, node), address, ""):
        yield


@fault("the last GPU of a node is off its bus", "passthrough.drivers")
def gpu_missing(live: Live) -> Iterator[None]:
    node, address = _last_gpu(live)
    with off_the_bus(on_node(live, node), address):
        yield
