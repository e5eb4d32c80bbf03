"""A cluster in the site's own network (`forward: bridge`): what libvirt, the host and its nodes are told."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from xml.etree import ElementTree

import libvirt
import pytest

from hpcstate import schema
from hpcstate.errors import ProblemsError
from hpcstate.hypervisor import firewall, fit_host, routes
from hpcstate.hypervisor import xml as objects
from hpcstate.hypervisor.fit_host import Bridges
from hpcstate.hypervisor.machine import network_differences, network_updates
from hpcstate.hypervisor.rivals import DnsServer
from hpcstate.model import Cluster
from hpcstate.node.base_files import CHRONY, FIREWALL, SSHD, cluster_files
from hpcstate.node.cidata import SITE_MARK, SiteAddress, has_network_of, seed_of, site_network

NETWORK = "subnet: 10.1.2.0/24, forward: bridge, bridge: br0, gateway: 10.1.2.254, dns_servers: [10.1.2.53]"
FILE = """\
clusters:
  hpc:
    name: lab
    network: {{{network}}}
    controller: {{ip: 10.1.2.11}}
    compute_nodes: [{{ip: 10.1.2.21, count: 2}}]
"""


def read(network: str = NETWORK, file: str = FILE) -> Cluster:
    return schema.parse(file.format(network=network), Path("t.yaml")).clusters[0]


SITE = read()
OWN = read("subnet: 10.1.2.0/24")


@pytest.fixture
def connection() -> Iterator[libvirt.virConnect]:
    opened = libvirt.open("test:///default")
    yield opened
    opened.close()


def test_libvirt_gets_a_bridge_and_nothing_to_serve(connection: libvirt.virConnect) -> None:
    network = connection.networkDefineXML(objects.network_xml(SITE))
    root = ElementTree.fromstring(network.XMLDesc())
    assert root.find("forward").get("mode") == "bridge"  # type: ignore[union-attr]
    assert network.bridgeName() == "br0"
    assert [root.find(tag) for tag in ("ip", "dns", "domain")] == [None, None, None]
    assert network_differences(objects.network_xml(SITE), network.XMLDesc()) == []


@pytest.mark.parametrize(
    ("wanted", "there", "said"),
    [
        (SITE, OWN, "forward nat -> bridge: recreate the network"),
        (OWN, SITE, "forward bridge -> nat: recreate the network"),
        (read(NETWORK.replace("br0", "br1")), SITE, "bridge br0 -> br1"),
    ],
)
def test_a_change_of_the_kind_is_one_line_and_takes_the_cluster_off(
    connection: libvirt.virConnect, wanted: Cluster, there: Cluster, said: str
) -> None:
    network = connection.networkDefineXML(objects.network_xml(there))
    (row,) = network_differences(objects.network_xml(wanted), network.XMLDesc())
    assert (f"{row.name} {row.found} -> {row.wanted}", row.impact) == (said, "stop")
    # The network of a cluster that is off is defined anew, under its name.
    again = connection.networkDefineXML(objects.network_xml(wanted))
    assert network_differences(objects.network_xml(wanted), again.XMLDesc()) == []
    assert network_updates(objects.network_xml(wanted), again.XMLDesc()) == []


def test_only_the_nodes_are_trusted_in_a_network_that_others_are_in() -> None:
    files = cluster_files(SITE, SITE.controller)
    nodes = ["10.1.2.11", "10.1.2.21", "10.1.2.22"]
    assert f"ip saddr {{ {', '.join(nodes)} }} accept" in files[FIREWALL]
    assert [line for line in files[CHRONY].splitlines() if line.startswith("allow")] == [
        f"allow {address}" for address in nodes
    ]
    assert f"PerSourcePenaltyExemptList {','.join(nodes)}\n" in cluster_files(SITE, SITE.nodes[1])[SSHD]
    assert "10.1.2.0/24" not in "".join(files.values())
    own = cluster_files(OWN, OWN.controller)
    assert "ip saddr 10.1.2.0/24 accept" in own[FIREWALL] and "allow 10.1.2.0/24\n" in own[CHRONY]


def test_a_node_has_its_address_from_its_seed() -> None:
    site = SiteAddress(IPv4Interface("10.1.2.21/24"), IPv4Address("10.1.2.254"), (IPv4Address("10.1.2.53"),))
    text = site_network("compute-01", SITE.nodes[1].mac, site)
    assert text.startswith(SITE_MARK)
    for line in ("Address=10.1.2.21/24", "Gateway=10.1.2.254", "DNS=10.1.2.53"):
        assert f"\n{line}\n" in text
    assert f"\nMACAddress={SITE.nodes[1].mac}\n" in text
    assert has_network_of(SITE, SITE.nodes[1], b"..." + text.encode() + b"...")
    assert not has_network_of(SITE, SITE.nodes[2], text.encode())
    assert not has_network_of(SITE, SITE.nodes[1], b"")
    # With DHCP the CD says nothing.
    assert has_network_of(OWN, OWN.nodes[1], b"") and not has_network_of(OWN, OWN.nodes[1], text.encode())
    assert seed_of(SITE, SITE.nodes[1]).site == site
    assert seed_of(OWN, OWN.nodes[1]).site is None


@pytest.mark.parametrize(
    ("bridges", "said"),
    [
        (Bridges(frozenset({"br0"}), frozenset({"br0"}), {}, frozenset({"br0"})), []),
        (Bridges(frozenset({"eth0"}), frozenset({"br7"}), {}), ["this host has no bridge br0"]),
        (Bridges(frozenset({"br0"}), frozenset(), {}, frozenset({"br0"})), ["br0 is no bridge"]),
        (Bridges(frozenset({"br0"}), frozenset({"br0"}), {}), ["the bridge br0 is down"]),
    ],
)
def test_the_bridge_has_to_be_there_and_up(bridges: Bridges, said: list[str]) -> None:
    assert [problem.message for problem in fit_host._bridge(SITE, bridges)] == said


def test_what_others_do_on_the_host_is_nothing_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    dns = fit_host.HostAccess(dns=(DnsServer(address="0.0.0.0", protocol="tcp", program="named", pid=7),))
    assert list(fit_host._rivals(SITE, dns)) == [] and list(fit_host._rivals(OWN, dns)) != []
    monkeypatch.setattr(firewall, "look", lambda: pytest.fail("libvirt has no rules for it"))
    assert firewall.put_back(SITE) == ""
    ruled = firewall.Firewall(rules=("-A FORWARD -j ACCEPT",))
    failure = [firewall.Failure("a", "b")]
    assert "libvirt's firewall rules" not in firewall.decide(SITE, failure, ruled)[0]
    assert "libvirt's firewall rules" in firewall.decide(OWN, failure, ruled)[0]


def test_two_clusters_may_share_the_bridge_but_no_address() -> None:
    both = FILE + FILE.split("\n", 1)[1].replace("hpc:", "cloud:").replace("lab", "web").replace(
        "controller", "control_plane"
    ).replace("compute_nodes", "worker_nodes")
    with pytest.raises(ProblemsError) as caught:
        read(file=both)
    assert len(caught.value.problems) == 3
    assert all("is that of lab-" in problem.message for problem in caught.value.problems)
    first, _, second = both.partition("  cloud:")
    apart = f"{first}  cloud:{second.replace('10.1.2.11', '10.1.2.31').replace('10.1.2.21', '10.1.2.41')}"
    assert read(file=apart).network.is_of_the_site


def test_the_hosts_own_route_to_the_site_is_no_obstacle() -> None:
    route = routes.Route(SITE.network.subnet, "eno1", "")
    assert list(routes.findings(SITE, (route,), None)) == []
    assert list(routes.findings(OWN, (route,), None)) != []
