"""What libvirt starts as the hypervisor boots, against its own test driver."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import libvirt
import pytest

from hpcstate import paths, schema
from hpcstate.cluster import lifecycle
from hpcstate.errors import HpcstateError
from hpcstate.hypervisor import autostart
from hpcstate.hypervisor.connection import LibvirtHost
from hpcstate.model import Cluster, Node

CLUSTER = schema.load(paths.ROOT / "inventories" / "passthrough.yaml").clusters[0]
WITH_DEVICES = [node.name for node in CLUSTER.nodes if node.passthrough]
PLAIN = [node.name for node in CLUSTER.nodes if not node.passthrough]


class Thing:
    """A network or a storage pool."""

    def __init__(self) -> None:
        self.on = 0

    def autostart(self) -> int:
        return self.on

    def setAutostart(self, on: int) -> None:
        self.on = on


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[LibvirtHost]:
    """Network, pool and domains of the cluster are there."""
    connection = libvirt.open("test:///default")
    domains = {
        node.name: connection.defineXML(
            f"<domain type='test'><name>{node.name}</name><memory>8192</memory>"
            "<os><type>hvm</type></os></domain>"
        )
        for node in CLUSTER.nodes
    }
    host = LibvirtHost(connection, "test:///default")
    network, pool = Thing(), Thing()

    def domain(_cluster: Cluster, node: Node) -> libvirt.virDomain:
        return domains[node.name]

    monkeypatch.setattr(host, "network", lambda _: network)
    monkeypatch.setattr(host.volumes, "pool", lambda _: pool)
    monkeypatch.setattr(host, "domain", domain)
    yield host
    connection.close()


def of_file(wanted: bool | None) -> dict[str, bool]:
    return autostart.of_file(replace(CLUSTER, autostart=wanted))


def what(host: LibvirtHost, wanted: dict[str, bool]) -> list[str]:
    return [str(row) for row in autostart.differences(host, CLUSTER, wanted)]


def test_a_file_that_says_nothing_leaves_it_as_it_is(host: LibvirtHost) -> None:
    host.domain(CLUSTER, CLUSTER.nodes[0]).setAutostart(1)  # type: ignore[union-attr]  # by virsh
    assert of_file(None) == {}
    assert autostart.bring(host, CLUSTER, {}) == []
    assert what(host, {}) == []
    assert host.domain(CLUSTER, CLUSTER.nodes[0]).autostart()  # type: ignore[union-attr]


def test_network_pool_and_nodes_come_with_the_host(host: LibvirtHost) -> None:
    wanted = of_file(True)
    rows = what(host, wanted)
    assert rows[:2] == [
        f"network {CLUSTER.network.name}: autostart off -> on (at once, nothing notices)",
        "storage pool: autostart off -> on (at once, nothing notices)",
    ]
    assert [row.partition(":")[0] for row in rows[2:]] == PLAIN
    assert [str(row) for row in autostart.bring(host, CLUSTER, wanted)] == rows
    assert what(host, wanted) == []
    assert len(what(host, of_file(False))) == len(rows)
    autostart.bring(host, CLUSTER, of_file(False))
    assert what(host, of_file(False)) == []


def test_a_node_with_devices_of_the_host_never_starts_as_it_boots(host: LibvirtHost) -> None:
    """libvirt would take what sits at the address by then, the root disk too."""
    first = next(node for node in CLUSTER.nodes if node.passthrough)
    host.domain(CLUSTER, first).setAutostart(1)  # type: ignore[union-attr]  # by virsh
    assert autostart.booted_with_devices(host, CLUSTER) == [first.name]
    assert autostart.left_out(CLUSTER, of_file(True)) == WITH_DEVICES
    autostart.bring(host, CLUSTER, of_file(True))
    assert autostart.booted_with_devices(host, CLUSTER) == []


def test_network_and_pool_stay_for_the_nodes_that_nothing_was_said_of(host: LibvirtHost) -> None:
    plain = replace(CLUSTER, nodes=tuple(replace(node, passthrough=()) for node in CLUSTER.nodes))
    autostart.bring(host, plain, autostart.of_file(replace(plain, autostart=True)))
    one = {plain.nodes[0].name: False}
    assert [row.what for row in autostart.bring(host, plain, one)] == [plain.nodes[0].name]


def test_a_node_that_does_not_start_with_the_cluster_does_not_start_with_the_host() -> None:
    resting = replace(
        CLUSTER, autostart=True, nodes=(*CLUSTER.nodes[:-1], replace(CLUSTER.nodes[-1], auto_start=False))
    )
    assert autostart.of_file(resting)[CLUSTER.nodes[-1].name] is False


def test_the_option_counts_where_the_file_says_nothing() -> None:
    nodes = CLUSTER.nodes[:1]
    assert lifecycle._at_boot(CLUSTER, nodes, True) == {nodes[0].name: True}
    assert lifecycle._at_boot(CLUSTER, nodes, None) == {}
    says_no = replace(CLUSTER, autostart=False)
    assert lifecycle._at_boot(says_no, nodes, False) == {nodes[0].name: False}
    with pytest.raises(HpcstateError, match="autostart: false"):
        lifecycle._at_boot(says_no, nodes, True)
