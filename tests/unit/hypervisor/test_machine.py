"""What libvirt has against what the file says, row by row.

libvirt/running-with-devices.xml is what libvirt 11.3.0 with QEMU 10.0.13 (Debian 13) said of a node that ran.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from hpcstate.hypervisor import xml as objects
from hpcstate.hypervisor.machine import (
    DOMAIN,
    IMPACTS,
    NETWORK,
    MachineDifference,
    Shape,
    autostart_difference,
    disk_difference,
    domain_differences,
    handed_on,
    image_difference,
    network_differences,
    network_updates,
    shape,
    shrinks,
)
from hpcstate.hypervisor.own import keeping_names
from hpcstate.hypervisor.xml import HypervisorFacts
from hpcstate.model import Cluster, Mount
from hpcstate.probe.cpus import HostCell
from tests.unit.fake_live import TWO, a_node
from tests.unit.hypervisor.test_compare import PAGES, RUNNING, rendered

FACTS = HypervisorFacts(kvm=True)
NODE = TWO.workers[0]


SHARES = (
    Mount("nfs", "nas:/x", "/x", ""),
    Mount("virtio_fs", "/data/b", "/b", "two", read_only=True),
    Mount("virtio_fs", "/data/a", "/a", "one"),
)


def domain_xml(cluster: Cluster = TWO, facts: HypervisorFacts = FACTS, **changes: object) -> str:
    return objects.domain_xml(cluster, replace(NODE, **changes), facts)  # type: ignore[arg-type]


def accelerated(**changes: object) -> Cluster:
    return replace(TWO, acceleration=replace(TWO.acceleration, **changes))  # type: ignore[arg-type]


def test_what_runs_as_it_was_rendered_differs_in_nothing() -> None:
    assert domain_differences("compute-01", rendered(PAGES), RUNNING, RUNNING) == []
    assert domain_differences("compute-01", domain_xml(), domain_xml(), domain_xml()) == []


@pytest.mark.parametrize(
    ("wanted", "name", "found", "should"),
    [
        (domain_xml(memory_mb=3072), "memory", "2048 MiB", "3072 MiB"),
        (domain_xml(cpu_cores=4), "CPUs", "2", "4"),
        (domain_xml(accelerated(cpu_model="qemu64")), "CPU model", "host-model", "qemu64"),
        (
            domain_xml(accelerated(cpu_features=("+avx2",))),
            "CPU features",
            "",
            "optional avx2",
        ),
        (domain_xml(facts=HypervisorFacts(kvm=False)), "emulation", "KVM", "TCG"),
        (
            domain_xml(facts=HypervisorFacts(kvm=False)),
            "disk access",
            "cache none, io native",
            "cache unsafe",
        ),
        (domain_xml().replace('"q35"', '"pc-i440fx-10.0"'), "machine", "q35", "i440fx"),
        (domain_xml(accelerated(memory_backing="memfd")), "memory backing", "", "memfd"),
        (domain_xml(accelerated(numa_nodes=2)), "NUMA cells", "", "CPUs 0, CPUs 1"),
        (
            domain_xml(mac="52:54:00:00:00:99"),
            "network interface",
            "52:54:00:00:00:0b on test",
            "52:54:00:00:00:99 on test",
        ),
        (domain_xml(data_gb=20), "data volume", "", "compute-01_data.qcow2"),
        (domain_xml(accelerated(enable_hugepages=True)), "huge pages", "", "2048 KiB"),
        (domain_xml(mounts=SHARES), "memory backing", "", "memfd, shared"),
        (
            domain_xml(replace(TWO, home="virtio_fs", home_path="/data/home")),
            "shared folders",
            "",
            "/data/home as hpcstate-home",
        ),
        (
            domain_xml(mounts=SHARES),
            "shared folders",
            "",
            "/data/a as one; /data/b as two, read-only",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 25 else "",
)
def test_a_property_of_a_domain(wanted: str, name: str, found: str, should: str) -> None:
    differences = domain_differences("compute-01", wanted, domain_xml(), domain_xml())
    assert MachineDifference("compute-01", name, found, should, "power-cycle") in differences


def test_each_row_of_the_tables_has_been_different() -> None:
    """A row that no test changes would never be missed."""
    changed = {"memory", "CPUs", "CPU model", "CPU features", "emulation", "memory backing", "NUMA cells"}
    changed |= {
        "network interface",
        "CPU topology",
        "machine",
        "disk access",
        "data volume",
        "shared folders",
    }
    assert {row.name for row in DOMAIN} == changed
    assert {row.name for row in NETWORK} == {"address", "bridge", "forward", "DNS servers", "DNS domain"}
    assert {row.impact for row in (*DOMAIN, *NETWORK)} <= IMPACTS.keys()


CORES = (HostCell(0, ((0,), (1,), (2,), (3,), (4,), (5,), (6,), (7,))),)


@pytest.mark.parametrize(
    ("before", "now", "names"),
    [
        (FACTS, HypervisorFacts(kvm=False), ["CPU model", "CPU features", "emulation", "disk access"]),
        (HypervisorFacts(kvm=False), FACTS, ["CPU model", "CPU features", "emulation", "disk access"]),
        (FACTS, HypervisorFacts(kvm=True, cells=CORES), ["CPU 0 pinned to", "CPU 1 pinned to"]),
        (HypervisorFacts(kvm=True, cells=CORES), FACTS, ["CPU 0 pinned to", "CPU 1 pinned to"]),
    ],
    ids=["KVM is gone", "KVM is there", "cores to pin to", "too few cores"],
)
def test_a_host_that_changed_is_planned_like_any_other_change(
    before: HypervisorFacts, now: HypervisorFacts, names: list[str]
) -> None:
    pinned = accelerated(cpu_pinning=True)
    found = domain_xml(pinned, before)
    rows = domain_differences("compute-01", domain_xml(pinned, now), found, found)
    assert [row.name for row in rows] == names
    assert {row.impact for row in rows} == {"power-cycle"}


def test_another_version_of_qemu_is_no_difference_and_comes_with_the_next_start() -> None:
    """libvirt writes the machine's version and the emulator into a definition; each start defines it anew."""
    emulator = "<devices>\n    <emulator>/opt/qemu-7/bin/qemu-system-x86_64</emulator>"
    found = domain_xml().replace('"q35"', '"pc-q35-7.2"').replace("<devices>", emulator)
    assert domain_differences("compute-01", domain_xml(), found, found) == []
    again = keeping_names(domain_xml(), found)
    assert 'machine="q35"' in again
    assert "emulator" not in again


def test_what_libvirt_starts_as_the_host_boots_changes_at_once() -> None:
    row = MachineDifference("compute-01", "autostart", "off", "on", "live")
    assert autostart_difference("compute-01", False, True) == [row]
    assert autostart_difference("compute-01", True, False) == [replace(row, found="on", wanted="off")]
    assert autostart_difference("compute-01", True, True) == []


def test_more_cpus_are_another_topology_too() -> None:
    differences = domain_differences("compute-01", domain_xml(cpu_cores=4), domain_xml(), domain_xml())
    assert [each.name for each in differences] == ["CPUs", "CPU topology"]


def test_a_model_that_libvirt_has_written_out_is_read_from_the_definition() -> None:
    """libvirt writes host-model as the model that it found, once the domain runs."""
    wanted = domain_xml(accelerated(cpu_model="host-model"))
    running = wanted.replace('<cpu mode="host-model">', '<cpu mode="custom"><model>EPYC-Milan</model>')
    assert domain_differences("compute-01", wanted, running, wanted) == []


NETWORK_XML = objects.network_xml(TWO)


@pytest.mark.parametrize(
    ("change", "name", "found", "should"),
    [
        (
            {"subnet": IPv4Network("10.1.0.0/16"), "gateway": IPv4Address("10.1.0.1")},
            "address",
            "192.168.150.1/24",
            "10.1.0.1/16",
        ),
        ({"bridge": "virbr9"}, "bridge", "virbr150", "virbr9"),
        ({"forward": "none"}, "forward", "nat", ""),
        ({"forward": "route"}, "forward", "nat", "route"),
        ({"dns_servers": (IPv4Address("9.9.9.9"),)}, "DNS servers", "", "9.9.9.9"),
    ],
)
def test_a_property_of_a_network(change: dict[str, object], name: str, found: str, should: str) -> None:
    wanted = objects.network_xml(replace(TWO, network=replace(TWO.network, **change)))  # type: ignore[arg-type]
    assert MachineDifference("network test", name, found, should, "stop") in network_differences(
        wanted, NETWORK_XML
    )


def test_the_dns_domain_of_a_network() -> None:
    found = NETWORK_XML.replace("test.internal", "other.internal")
    (difference,) = network_differences(NETWORK_XML, found)
    assert (difference.name, difference.impact) == ("DNS domain", "stop")


def test_a_node_more_and_a_node_less_are_leases_and_names() -> None:
    three = replace(TWO, nodes=(*TWO.nodes, a_node("compute-03", 13)))
    more = network_updates(objects.network_xml(three), NETWORK_XML)
    assert [(update.section, update.remove) for update in more] == [("lease", False), ("name", False)]
    assert 'name="compute-03"' in more[0].xml
    less = network_updates(NETWORK_XML, objects.network_xml(three))
    assert [(update.section, update.remove) for update in less] == [("lease", True), ("name", True)]
    assert [each.impact for each in network_differences(objects.network_xml(three), NETWORK_XML)] == ["live"]


def test_a_lease_that_moves_goes_before_it_comes() -> None:
    """libvirt refuses a second lease for an address, and a second for a MAC address."""
    moved = replace(TWO.nodes[2], mac="52:54:00:00:00:77")
    wanted = objects.network_xml(replace(TWO, nodes=(*TWO.nodes[:2], moved)))
    assert [update.remove for update in network_updates(wanted, NETWORK_XML)] == [True, False]


def test_the_order_and_quotes_of_attributes_are_no_difference() -> None:
    """libvirt writes mac, name, ip; the template too, but nothing promises it."""
    other = NETWORK_XML.replace(
        '<host mac="52:54:00:00:00:0b" name="compute-01" ip="192.168.150.11"/>',
        "<host ip='192.168.150.11' name='compute-01' mac='52:54:00:00:00:0b'/>",
    )
    assert other != NETWORK_XML
    assert network_differences(NETWORK_XML, other) == []


@pytest.mark.parametrize(
    ("found", "wanted", "impact"), [(20, 20, ""), (20, 30, "grow"), (30, 20, "never"), (2.5, 3, "grow")]
)
def test_disks(found: float, wanted: int, impact: str) -> None:
    assert "".join(each.impact for each in disk_difference("compute-01", found, wanted)) == impact


@pytest.mark.parametrize(
    ("found", "wanted", "number"), [("a", "a", 0), ("a", "b", 1), ("", "b", 0), ("a", "", 0)]
)
def test_images(found: str, wanted: str, number: int) -> None:
    differences = image_difference("compute-01", found, wanted)
    assert [each.impact for each in differences] == ["replace"] * number


@pytest.mark.parametrize(
    ("name", "found", "wanted", "smaller"),
    [
        ("memory", "2048 MiB", "1024 MiB", True),
        ("memory", "2048 MiB", "3072 MiB", False),
        ("CPUs", "4", "2", True),
        ("CPU model", "host-model", "qemu64", False),
        ("0000:01:00.0 in the guest", "00.0 behind 00:02.0", "", True),
        ("0000:01:00.0 in the guest", "", "00.0 behind 00:02.0", False),
    ],
)
def test_what_shrinks(name: str, found: str, wanted: str, smaller: bool) -> None:
    assert shrinks(MachineDifference("compute-01", name, found, wanted, "power-cycle")) is smaller


def test_a_device_that_is_taken_shrinks_its_node() -> None:
    """Slurm has to forget a GPU before it goes."""
    without = rendered(PAGES).replace('type="pci" managed', 'type="usb" managed')
    differences = domain_differences("compute-01", without, RUNNING, RUNNING)
    assert [each.name for each in differences if shrinks(each)] == [
        "0000:03:00.0 in the guest",
        "0000:03:00.1 in the guest",
    ]


def test_words() -> None:
    difference = MachineDifference("compute-01", "memory", "2048 MiB", "3072 MiB", "power-cycle")
    assert str(difference) == "compute-01: memory 2048 MiB -> 3072 MiB (the node goes off and on)"


def shapes(found: str, wanted: str, named: str = "") -> dict[str, Shape]:
    """Nodes 1 and on: a letter is what a node is, a blank one that is not there."""
    pairs = list(zip(found.ljust(len(wanted)), wanted.ljust(len(found)), strict=True))
    return {
        str(number): Shape(
            {"it": there} if there != " " else None,
            {"it": should} if should != " " else None,
            str(number) in named,
        )
        for number, (there, should) in enumerate(pairs, start=1)
    }


@pytest.mark.parametrize(
    ("found", "wanted", "named", "rows"),
    [
        ("ABC", "ABC", "", []),
        ("ABC", "AC", "", ["2 is 3"]),
        ("ABCD", "ACD", "", ["2 is 3", "3 is 4"]),
        ("AC", "ABC", "", ["3 is 2"]),
        ("AB", "BA", "", ["1 is 2", "2 is 1"]),
        ("ABC", "BC", "", ["1 is 2", "2 is 3"]),
        # Changes that hand nothing on: all alike, a size of one, of all, one more, one less.
        ("AAA", "AA", "", []),
        ("AB", "BB", "", []),
        ("AA", "BB", "", []),
        ("AA", "BBB", "", []),
        ("BBB", "AA", "", []),
        ("AA", "AAA", "", []),
        # The file says which is which.
        ("ABC", "A C", "3", []),
        ("AB", "BA", "12", []),
        ("AC", "ABC", "23", []),
    ],
)
def test_a_node_that_would_become_another(found: str, wanted: str, named: str, rows: list[str]) -> None:
    said = handed_on(shapes(found, wanted, named), {})
    assert [f"{row.what} is {row.wanted}" for row in said] == rows


@pytest.mark.parametrize(
    ("addresses", "leases", "named", "rows"),
    [
        # 1 has a change of its own that makes it look like 3, which the file has at the second place.
        (("a", "c", ""), {"1": "a", "2": "b", "3": "c"}, "", ["2 is 3"]),
        (("a", "c", ""), {"1": "a", "2": "b", "3": "c"}, "12", []),
        (("b", "a", ""), {"1": "a", "2": "b", "3": "c"}, "", ["1 is 2", "2 is 1"]),
        # A node that was never made has a lease, and nothing that could be handed on.
        (("a", "d", ""), {"1": "a", "2": "b", "4": "d"}, "", ["1 is 3"]),
    ],
)
def test_an_address_tells_who_would_become_another(
    addresses: tuple[str, ...], leases: dict[str, str], named: str, rows: list[str]
) -> None:
    known = {
        name: replace(each, address=address)
        for (name, each), address in zip(shapes("AXB", "BX ", named).items(), addresses, strict=True)
    }
    assert [f"{row.what} is {row.wanted}" for row in handed_on(known, leases)] == rows


def test_what_tells_nodes_apart() -> None:
    assert shape(domain_xml(memory_mb=3072)) != shape(domain_xml())
    assert shape(domain_xml(cpu_cores=4)) != shape(domain_xml())
    assert shape(domain_xml(mac="52:54:00:00:00:99", name="compute-07")) == shape(domain_xml())
    assert shape(RUNNING)["devices"].startswith("0000:")
