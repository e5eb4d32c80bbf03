"""In libvirt: the nodes run with the devices that the file gives them, and nobody else has one."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

import libvirt
import pytest

from hpcstate.check.suite import CheckFailed, RecordProperty, fault
from hpcstate.cluster import boot
from hpcstate.hypervisor import xml as libvirt_objects
from hpcstate.hypervisor.compare import differences
from hpcstate.hypervisor.connection import connect
from hpcstate.model import Cluster, Node
from hpcstate.node.ssh import Live
from tests.suites.pci import wanted


@pytest.mark.needs(passthrough=True)
def test_holder(live: Live, cluster: Cluster, record_property: RecordProperty) -> None:
    """Of all running domains, the node's own has each device"""
    with connect(cluster.uri, read_only=True) as host:
        held = host.held_devices()
    problems = [
        f"{device.pci_address} is held by {held.get(device.pci_address, 'no domain')}, not by {name}"
        for node, device in wanted(live)
        if held.get(device.pci_address) != (name := cluster.domain_name(node))
    ]
    if problems:
        raise CheckFailed(
            "each device held by its node",
            "; ".join(problems),
            "hpcstate stop and start, once the holder is off",
        )
    record_property(
        "observed",
        ", ".join(f"{device.pci_address} {cluster.domain_name(node)}" for node, device in wanted(live)),
    )


@pytest.mark.needs(passthrough=True)
def test_domain(cluster: Cluster, nodes: tuple[Node, ...], record_property: RecordProperty) -> None:
    """libvirt runs the nodes with the devices, huge pages and pinning that the file asks for"""
    problems, lines = [], []
    with connect(cluster.uri, read_only=True) as host:
        facts = host.facts(cluster)
        for node in nodes:
            if not node.passthrough:
                continue
            running = host.running_xml(cluster, node)
            if not running:
                problems.append(f"{node.name} is not running")
                continue
            found = differences(libvirt_objects.domain_xml(cluster, node, facts), running)
            problems += [f"{node.name}: {difference}" for difference in found]
            lines.append(f"{node.name}: {len(node.passthrough)} devices as rendered")
    if problems:
        raise CheckFailed(
            "the XML that is rendered from the file",
            "; ".join(problems),
            "hpcstate stop and start takes it up",
        )
    record_property("observed", "; ".join(lines))


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
            boot.wait_for_ssh(live.cluster, [node], host, lambda _: None)
