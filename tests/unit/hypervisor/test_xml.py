"""The XML that libvirt gets, and whose objects are ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hpcstate import schema
from hpcstate.hypervisor import xml as objects
from hpcstate.hypervisor.xml import HypervisorFacts
from hpcstate.model import Acceleration, Cluster, CpuTopology
from hpcstate.paths import ROOT
from hpcstate.probe.cpus import HostCell

KVM, TCG = HypervisorFacts(kvm=True), HypervisorFacts(kvm=False)
FILES = ("gpu", "minimal", "passthrough", "full-stack")


def clusters() -> list[Cluster]:
    return [
        shipped for name in FILES for shipped in schema.load(ROOT / "inventories" / f"{name}.yaml").clusters
    ]


@pytest.fixture
def cluster() -> Cluster:
    return schema.load(ROOT / "inventories" / "gpu.yaml").clusters[0]


def domain(
    cluster: Cluster, host: HypervisorFacts, acceleration: Acceleration | None = None
) -> ElementTree.Element:
    if acceleration:
        cluster = replace(cluster, acceleration=acceleration)
    return ElementTree.fromstring(objects.domain_xml(cluster, cluster.workers[0], host))


@pytest.mark.parametrize("host", [KVM, TCG], ids=["kvm", "tcg"])
@pytest.mark.parametrize("shipped", clusters(), ids=lambda shipped: f"{shipped.name}-{shipped.kind}")
def test_every_domain_is_well_formed_and_its_own(shipped: Cluster, host: HypervisorFacts) -> None:
    roots = [ElementTree.fromstring(objects.domain_xml(shipped, node, host)) for node in shipped.nodes]
    for place in ("uuid", "name", "devices/interface/mac"):
        found = [ElementTree.tostring(element) for root in roots for element in root.iterfind(place)]
        assert len(set(found)) == len(shipped.nodes), place
    assert {root.get("type") for root in roots} == {"kvm" if host.kvm else "qemu"}


def test_without_kvm_the_disk_is_unsafe_and_with_kvm_it_is_not(cluster: Cluster) -> None:
    caches = [domain(cluster, host).find("devices/disk/driver").get("cache") for host in (KVM, TCG)]  # type: ignore[union-attr]
    assert caches == ["none", "unsafe"]


def test_a_fitting_topology_is_passed_on_and_another_is_not(cluster: Cluster) -> None:
    def topology(*numbers: int) -> dict[str, str]:
        found = domain(cluster, KVM, Acceleration(cpu_topology=CpuTopology(*numbers))).find("cpu/topology")
        assert found is not None
        return dict(found.attrib)

    assert topology(1, 1, 2) == {"sockets": "1", "cores": "1", "threads": "2"}
    assert topology(1, 4, 2) == {"sockets": "1", "cores": "2", "threads": "1"}


@pytest.mark.parametrize(
    ("acceleration", "place"),
    [
        (
            Acceleration(enable_hugepages=True, hugepage_size="1G"),
            "memoryBacking/hugepages/page[@unit='GiB']",
        ),
        (Acceleration(enable_nested=True), "cpu/feature[@name='vmx'][@policy='optional']"),
        (Acceleration(enable_nested=True), "cpu/feature[@name='svm'][@policy='optional']"),
        (
            Acceleration(enable_nested=True, cpu_features=("-svm",)),
            "cpu/feature[@name='svm'][@policy='disable']",
        ),
        (Acceleration(numa_nodes=2), "cpu/numa/cell[@id='1'][@cpus='1']"),
        (Acceleration(memory_backing="memfd"), "memoryBacking/source[@type='memfd']"),
        (Acceleration(cpu_model="host-passthrough"), "cpu[@mode='host-passthrough']"),
        (Acceleration(cpu_model="qemu64"), "cpu[@mode='custom']/model"),
        (Acceleration(cpu_features=("+avx2",)), "cpu/feature[@name='avx2'][@policy='optional']"),
        (Acceleration(cpu_features=("-hle",)), "cpu/feature[@name='hle'][@policy='disable']"),
    ],
)
def test_acceleration_settings_arrive(cluster: Cluster, acceleration: Acceleration, place: str) -> None:
    assert domain(cluster, KVM, acceleration).find(place) is not None
    assert domain(cluster, KVM).find(place) is None


def test_a_feature_is_named_once(cluster: Cluster) -> None:
    found = domain(cluster, KVM, Acceleration(enable_nested=True, cpu_features=("-svm", "+vmx", "+avx2")))
    assert [feature.get("name") for feature in found.iterfind("cpu/feature")] == ["vmx", "svm", "avx2"]


def test_a_cluster_without_the_wish_for_kvm_is_emulated(cluster: Cluster) -> None:
    assert domain(cluster, KVM, Acceleration(enable_kvm=False)).get("type") == "qemu"
    assert domain(cluster, KVM, Acceleration(enable_kvm=True)).get("type") == "kvm"


def test_virtual_cpus_are_pinned_under_kvm_only(cluster: Cluster) -> None:
    cells = (HostCell(0, tuple((cpu,) for cpu in range(8))),)
    for kvm, wished, pins in ((True, True, ["1", "2"]), (False, True, []), (True, False, [])):
        root = domain(cluster, HypervisorFacts(kvm, cells), Acceleration(cpu_pinning=wished))
        assert [pin.get("cpuset") for pin in root.iterfind("cputune/vcpupin")] == pins
        assert root.find("numatune") is None  # the host has one NUMA node


def test_memory_of_a_guest_with_and_without_cells_is_preferred_near_its_cores(cluster: Cluster) -> None:
    host = HypervisorFacts(True, (HostCell(0, ((0,), (1,))), HostCell(1, ((2,), (3,)))))
    for cells, place in ((0, "memory[@nodeset='0']"), (2, "memnode[@cellid='1'][@nodeset='1']")):
        root = domain(cluster, host, Acceleration(cpu_pinning=True, numa_nodes=cells))
        assert root.find(f"numatune/{place}[@mode='preferred']") is not None


def test_passed_through_devices_keep_their_order() -> None:
    shipped = schema.load(ROOT / "inventories" / "passthrough.yaml").clusters[0]
    node = next(node for node in shipped.nodes if node.passthrough)
    root = ElementTree.fromstring(objects.domain_xml(shipped, node, KVM))
    found = [
        "{domain}:{bus}:{slot}.{function}".format(**address.attrib).replace("0x", "")
        for address in root.iterfind("devices/hostdev/source/address")
    ]
    assert found == [device.pci_address for device in node.passthrough]


@pytest.mark.parametrize("shipped", clusters(), ids=lambda shipped: f"{shipped.name}-{shipped.kind}")
def test_every_node_has_its_lease_and_its_name(shipped: Cluster) -> None:
    root = ElementTree.fromstring(objects.network_xml(shipped))
    leases = {(host.get("mac"), host.get("ip"), host.get("name")) for host in root.iterfind("ip/dhcp/host")}
    assert leases == {(node.mac, str(node.address), node.name) for node in shipped.nodes}
    assert root.find("bridge").get("name") == shipped.network.bridge  # type: ignore[union-attr]


def test_an_isolated_network_has_no_forward(cluster: Cluster) -> None:
    isolated = replace(cluster, network=replace(cluster.network, forward="none"))
    assert ElementTree.fromstring(objects.network_xml(cluster)).find("forward[@mode='nat']") is not None
    assert ElementTree.fromstring(objects.network_xml(isolated)).find("forward") is None


def test_a_namesake_of_another_cluster_has_another_uuid(cluster: Cluster) -> None:
    other = replace(cluster, name="other")
    assert objects.cluster_uuid(cluster, "network") != objects.cluster_uuid(other, "network")
    assert objects.cluster_uuid(cluster, "network") == objects.cluster_uuid(
        replace(cluster, nodes=()), "network"
    )


def test_another_image_is_another_volume() -> None:
    names = {objects.base_volume(Path("hpc-base.qcow2"), key * 32) for key in ("ab", "cd")}
    assert len(names) == 2


def test_a_volume_names_its_backing_file() -> None:
    root = ElementTree.fromstring(objects.volume_xml("a.qcow2", 1 << 30, "qcow2", backing="/pool/base.qcow2"))
    assert root.findtext("backingStore/path") == "/pool/base.qcow2"
    alone = ElementTree.fromstring(objects.volume_xml("a.iso", 1, "raw"))
    assert alone.find("backingStore") is None
    assert alone.findtext("target/permissions/mode") == "0600"


def test_a_new_disk_has_a_name_of_its_own_also_on_the_same_image(cluster: Cluster) -> None:
    node = cluster.workers[0]
    base = objects.base_volume(Path("hpc-base.qcow2"), "0123456789abcdef")
    first = objects.new_disk_volume(node, base, [objects.disk_volume(node)])
    assert first == "compute-01.89abcdef.qcow2"
    second = objects.new_disk_volume(node, base, [first])
    assert second == "compute-01.89abcdef-2.qcow2"
    assert objects.new_disk_volume(node, base, [second]) == first
    assert all(objects.is_disk(node, name) for name in (first, second))
