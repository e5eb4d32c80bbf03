"""In libvirt: the nodes run with the devices that the file gives them, and nobody else has one."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

import libvirt

from hpcstate.check.runner import CheckFailed, check, fault
from hpcstate.cluster import lifecycle
from hpcstate.hypervisor import xml as libvirt_objects
from hpcstate.hypervisor.compare import differences
from hpcstate.hypervisor.connection import connect
from hpcstate.node.ssh import Live
from tests.suites.pci import wanted


@check("passthrough.holder", "Of all running domains, the node's own has each device", needs_passthrough=True)
def holder(live: Live) -> str:
    with connect(live.cluster.uri, read_only=True) as host:
        held = host.held_devices()
    problems = [
        f"{device.pci_address} is held by {held.get(device.pci_address, 'no domain')}, not by {name}"
        for node, device in wanted(live)
        if held.get(device.pci_address) != (name := live.cluster.domain_name(node))
    ]
    if problems:
        raise CheckFailed(
            "each device held by its node",
            "; ".join(problems),
            "hpcstate stop and start, once the holder is off",
        )
    return ", ".join(
        f"{device.pci_address} {live.cluster.domain_name(node)}" for node, device in wanted(live)
    )


@check(
    "passthrough.domain",
    "libvirt runs the nodes with the devices, huge pages and pinning that the file asks for",
    needs_passthrough=True,
)
def domain(live: Live) -> str:
    problems, lines = [], []
    with connect(live.cluster.uri, read_only=True) as host:
        facts = host.facts().for_cluster(live.cluster)
        for node in live.workers:
            if not node.passthrough:
                continue
            running = host.running_xml(live.cluster, node)
            if not running:
                problems.append(f"{node.name} is not running")
                continue
            found = differences(libvirt_objects.domain_xml(live.cluster, node, facts), running)
            problems += [f"{node.name}: {difference}" for difference in found]
            lines.append(f"{node.name}: {len(node.passthrough)} devices as rendered")
    if problems:
        raise CheckFailed(
            "the XML that is rendered from the file",
            "; ".join(problems),
            "hpcstate stop and start takes it up",
        )
    return "; ".join(lines)


@fault("a node was started without its last device", "passthrough.holder", "passthrough.domain")
def without_last(live: Live) -> Iterator[None]:
    """The last node with devices is started without the last of them, and afterwards as it is defined."""
    node = [node for node in live.workers if node.passthrough][-1]
    with connect(live.cluster.uri) as host:
        ours = host.domain(live.cluster, node)
        assert ours is not None
        root = ElementTree.fromstring(ours.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        devices = root.find("devices")
        assert devices is not None
        devices.remove(devices.findall("hostdev")[-1])
        try:
            ours.destroy()
            host.connection.createXML(ElementTree.tostring(root, encoding="unicode"))
            yield
        finally:
            host.power_off(live.cluster, node)
            ours.create()
            lifecycle.wait_for_ssh(live.cluster, [node], host, lambda _: None)
