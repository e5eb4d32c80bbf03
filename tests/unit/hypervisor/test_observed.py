"""Machines as libvirt has them, in libvirt's own test driver: real XML and network updates, no machines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import libvirt
import pytest

from hpcstate import paths
from hpcstate.errors import HpcstateError
from hpcstate.hypervisor import observed
from hpcstate.hypervisor import xml as objects
from hpcstate.hypervisor.connection import LibvirtHost, connect
from hpcstate.hypervisor.mark import NAMESPACE, PREFIX, Mark, new_mark
from hpcstate.hypervisor.volumes import LibvirtVolumes
from hpcstate.hypervisor.xml import HypervisorFacts
from hpcstate.model import Cluster, SimulatedGpus
from tests.unit.fake_live import TWO, a_node

THREE = replace(TWO, nodes=(*TWO.nodes, a_node("compute-03", 13)))
_TEST_URI = "test:///default"


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mark:
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    return new_mark(TWO, Path("gpu.yaml"))


@pytest.fixture
def host(mark: Mark, monkeypatch: pytest.MonkeyPatch) -> Iterator[LibvirtHost]:
    """Network and nodes of TWO are there and run."""
    rendered = objects.domain_xml

    def of_type_test(*arguments: object) -> str:
        return rendered(*arguments).replace('<domain type="kvm">', '<domain type="test">')  # type: ignore[arg-type]

    monkeypatch.setattr(objects, "domain_xml", of_type_test)
    monkeypatch.setattr(LibvirtHost, "facts", lambda *_: HypervisorFacts(kvm=True))
    # The test driver has no inactive XML of a network, from which its mark is read.
    monkeypatch.setattr(
        LibvirtHost,
        "network",
        lambda self, cluster: self.connection.networkLookupByName(cluster.network.name),
    )
    with connect(_TEST_URI) as host:
        host.connection.networkDefineXML(objects.network_xml(TWO, mark)).create()
        for node in TWO.nodes:
            xml = of_type_test(TWO, node, host.facts(TWO), mark)
            host.connection.defineXML(xml).create()
        yield host
        for domain in host.connection.listAllDomains():
            if domain.name() != "test":
                if domain.isActive():
                    domain.destroy()
                domain.undefine()
        network = host.network(TWO)
        assert network is not None
        if network.isActive():
            network.destroy()
        network.undefine()


def said(host: LibvirtHost, cluster: Cluster) -> list[str]:
    return [f"{each.what} {each.name} {each.impact}" for each in observed.differences(host, cluster)]


def test_what_is_as_the_file_says_differs_in_nothing(host: LibvirtHost) -> None:
    assert said(host, TWO) == []


def test_a_node_with_more_memory(host: LibvirtHost) -> None:
    more = replace(TWO.nodes[1], memory_mb=3072)
    wanted = replace(TWO, nodes=(TWO.nodes[0], more, TWO.nodes[2]))
    assert said(host, wanted) == ["compute-01 memory power-cycle"]


def test_one_that_is_off_gets_it_as_it_starts(host: LibvirtHost) -> None:
    more = replace(TWO.nodes[1], memory_mb=3072)
    wanted = replace(TWO, nodes=(TWO.nodes[0], more, TWO.nodes[2]))
    host.power_off(wanted, more)
    assert said(host, wanted) == ["compute-01 memory boot"]


def test_a_node_that_is_not_there_is_made_and_no_difference(host: LibvirtHost) -> None:
    assert said(host, THREE) == ["network test leases and names live"]
    (row,) = observed.differences(host, THREE)
    assert row.wanted.endswith(" (2 added)")


def test_the_network_learns_of_a_node_while_it_runs(host: LibvirtHost, mark: Mark) -> None:
    assert observed.update_network(host, THREE, mark) == ["network test: 2 changes of leases and names"]
    network = host.network(TWO)
    assert network is not None and network.isActive()
    assert network.XMLDesc().count("compute-03") == 2, "a lease and a name"
    assert observed.update_network(host, THREE, mark) == []
    assert observed.update_network(host, TWO, mark) == ["network test: 2 changes of leases and names"]
    assert "compute-03" not in network.XMLDesc()


def test_a_node_that_the_file_no_longer_has_is_seen(host: LibvirtHost) -> None:
    fewer = replace(TWO, nodes=TWO.nodes[:2])
    assert observed.removed(host, fewer) == ["compute-02"]
    assert said(host, fewer) == ["network test leases and names live", "compute-02 node remove"]


def test_a_node_taken_out_of_the_middle(host: LibvirtHost, mark: Mark) -> None:
    """compute-01 is out of the file, and compute-02 would be compute-01 now, on its disk."""
    big = replace(TWO.nodes[2], memory_mb=4096)
    host.power_off(TWO, big)
    host.ensure_domain(TWO, big, host.facts(TWO), mark)
    moved_up = replace(TWO, nodes=(TWO.nodes[0], replace(big, name="compute-01", mac=TWO.nodes[1].mac)))
    rows = observed.differences(host, moved_up)
    with pytest.raises(HpcstateError, match="compute-01 would become what compute-02 is") as caught:
        observed.refuse_other_identity(moved_up, rows)
    assert "write `name: compute-02` at" in caught.value.hint
    named = replace(moved_up, nodes=(TWO.nodes[0], replace(big, named=True)))
    rows = observed.differences(host, named)
    assert "compute-01 node remove" in [f"{row.what} {row.name} {row.impact}" for row in rows]
    observed.refuse_other_identity(named, rows)


def test_what_a_node_was_is_noted_as_it_passes(
    host: LibvirtHost, mark: Mark, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it runs, and without a word."""
    monkeypatch.setattr(LibvirtHost, "_network", lambda *_: None)
    domain = host.connection.lookupByName(TWO.domain_name(TWO.nodes[1]))
    before = replace(mark, file="/other.yaml", node="compute-01")
    both = libvirt.VIR_DOMAIN_AFFECT_CONFIG | libvirt.VIR_DOMAIN_AFFECT_LIVE
    kind, element = libvirt.VIR_DOMAIN_METADATA_ELEMENT, before.to_element()
    domain.setMetadata(kind, element, PREFIX, NAMESPACE, both)
    named = replace(TWO.nodes[1], named=True, simulated_gpus=SimulatedGpus(1))
    wanted = replace(TWO, nodes=(TWO.nodes[0], named, TWO.nodes[2]))
    assert said(host, wanted) == []
    taken = host.take(wanted, mark, unmarked_only=True)
    assert not any("domain" in line for line in taken)
    noted = replace(before, named="yes", simulated="simulated:1")
    for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE):
        assert Mark.from_xml(domain.XMLDesc(flags)) == noted
    # A new owner knows no better what the node was.
    host.take(TWO, mark)
    assert Mark.from_xml(domain.XMLDesc()) == replace(noted, file=mark.file)


def test_another_network_waits_until_no_node_runs(host: LibvirtHost, mark: Mark) -> None:
    other = replace(TWO, network=replace(TWO.network, dns_servers=(IPv4Address("9.9.9.9"),)))
    assert observed.update_network(host, other, mark) == []
    assert said(host, other) == ["network test DNS servers stop"]
    guest = "<domain type='test'><name>guest</name><memory>1024</memory><os><type>hvm</type></os><devices>"
    guest += "<interface type='network'><source network='test'/></interface></devices></domain>"
    somebodys = host.connection.createXML(guest)
    for node in TWO.nodes:
        host.power_off(TWO, node)
    assert observed.update_network(host, other, mark) == [], "a guest of somebody has a card in it"
    somebodys.destroy()
    (line,) = observed.update_network(host, other, mark)
    assert "DNS servers none -> 9.9.9.9" in line
    network = host.network(TWO)
    assert network is not None and network.isActive()
    assert said(host, other) == []


def test_a_node_that_runs_keeps_its_address(host: LibvirtHost, mark: Mark) -> None:
    """Its lease would go, and nobody would find it where the file says."""
    elsewhere = replace(TWO.nodes[1], address=IPv4Address("192.168.150.77"))
    other = replace(TWO, nodes=(TWO.nodes[0], elsewhere, TWO.nodes[2]))
    with pytest.raises(HpcstateError, match=r"compute-01 has 192\.168\.150\.11, the file says .*77"):
        observed.update_network(host, other, mark)
    network = host.network(TWO)
    assert network is not None
    assert "192.168.150.77" not in network.XMLDesc()
    assert said(host, other) == ["compute-01 address address"], "and nothing of the network, which stays"
    host.power_off(TWO, TWO.nodes[1])
    assert said(host, other) == ["network test leases and names live"]
    assert observed.update_network(host, other, mark) == ["network test: 4 changes of leases and names"]
    assert "192.168.150.77" in network.XMLDesc()


class _Disk:
    def __init__(self, gib: float) -> None:
        self.bytes = int(gib * (1 << 30))

    def info(self) -> list[int]:
        return [0, self.bytes, 0]

    def name(self) -> str:
        return "a.qcow2"

    def resize(self, capacity: int) -> None:
        self.bytes = capacity


@pytest.mark.parametrize(("gib", "grows"), [(10, False), (5, True)])
def test_a_disk_grows(host: LibvirtHost, monkeypatch: pytest.MonkeyPatch, gib: float, grows: bool) -> None:
    disk = _Disk(gib)
    monkeypatch.setattr(observed, "_disk", lambda *_: disk)
    host.power_off(TWO, TWO.nodes[1])
    assert observed.grow_disk(host, TWO, TWO.nodes[1]) == ["disk"] * grows
    assert disk.info()[1] == 10 << 30


@pytest.mark.parametrize("how", ["running", "paused", "saved"])
def test_a_disk_in_use_is_not_touched(
    host: LibvirtHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    """QEMU has the file open as long as the domain is there, and a paused one counts as one to be started."""
    disk = _Disk(5)
    monkeypatch.setattr(observed, "_disk", lambda *_: disk)
    domain = host.domain(TWO, TWO.nodes[1])
    assert domain is not None
    if how == "paused":
        domain.suspend()
    elif how == "saved":
        domain.managedSave()
    assert observed.grow_disk(host, TWO, TWO.nodes[1]) == []
    assert disk.info()[1] == 5 << 30
    if how == "saved":
        domain.managedSaveRemove()


def test_a_disk_never_shrinks(host: LibvirtHost, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = _Disk(20)
    monkeypatch.setattr(observed, "_disk", lambda *_: disk)
    host.power_off(TWO, TWO.nodes[1])
    with pytest.raises(HpcstateError, match="cannot shrink to 10") as caught:
        observed.grow_disk(host, TWO, TWO.nodes[1])
    assert caught.value.where == ".clusters.hpc.compute-01.disk_gb"
    assert disk.info()[1] == 20 << 30


def test_disk_and_image_of_each_node(host: LibvirtHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observed, "_disk", lambda *_: _Disk(5))
    monkeypatch.setattr(LibvirtVolumes, "base_name", lambda *_: "hpc-base-fedcba9876543210.qcow2")
    monkeypatch.setattr(LibvirtVolumes, "stands_on", lambda *_: "hpc-base-0123456789abcdef.qcow2")
    assert said(host, TWO)[:2] == ["controller disk grow", "controller image replace"]


DATA = replace(TWO, nodes=(replace(TWO.nodes[0], data_gb=20), *TWO.nodes[1:]))


@pytest.mark.parametrize(
    ("gib", "rows"), [(20, []), (10, ["controller size of its data volume grow"]),
                      (30, ["controller size of its data volume never"])]
)  # fmt: skip
def test_a_controller_without_its_data_volume(
    host: LibvirtHost, monkeypatch: pytest.MonkeyPatch, gib: int, rows: list[str]
) -> None:
    monkeypatch.setattr(observed, "_disk", lambda *_: _Disk(10))
    monkeypatch.setattr(observed, "_data", lambda *_: _Disk(gib))
    assert said(host, DATA) == ["controller data volume power-cycle", *rows]


def test_a_data_volume_grows_and_never_shrinks(host: LibvirtHost, monkeypatch: pytest.MonkeyPatch) -> None:
    data = _Disk(10)
    monkeypatch.setattr(observed, "_disk", lambda *_: None)
    monkeypatch.setattr(observed, "_data", lambda *_: data)
    assert observed.grow_disk(host, DATA, DATA.nodes[0]) == []
    host.power_off(DATA, DATA.nodes[0])
    assert observed.grow_disk(host, DATA, DATA.nodes[0]) == ["data volume"]
    assert data.info()[1] == 20 << 30
    data.resize(21 << 30)
    with pytest.raises(HpcstateError, match="data volume of controller has 21 GiB") as caught:
        observed.grow_disk(host, DATA, DATA.nodes[0])
    assert caught.value.where == ".clusters.hpc.controller.data_gb"
    assert "destroy --data" in caught.value.hint


def test_a_data_volume_may_be_there_without_its_machine(
    host: LibvirtHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observed, "_data", lambda *_: _Disk(20))
    assert observed.data_volume(host, DATA) == "a.qcow2, 20 GiB of which 0.0 are used"
    assert observed.data_volume(host, TWO) == ""
    monkeypatch.setattr(observed, "_data", lambda *_: None)
    assert observed.data_volume(host, DATA) == ""
