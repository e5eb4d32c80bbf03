"""Who else on a host holds port 53 or the processor's virtualization."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate import schema
from hpcstate.hypervisor import fit_host
from hpcstate.hypervisor.connection import NetworkOfBridge
from hpcstate.hypervisor.fit_host import Bridges, HostAccess
from hpcstate.hypervisor.rivals import DnsServer, dns_in_the_way, other_hypervisors, parse_servers
from hpcstate.paths import ROOT

(CLUSTER,) = schema.load(ROOT / "inventories/gpu.yaml").clusters
GATEWAY = str(CLUSTER.network.gateway)
SS = """\
udp   UNCONN 0      0           127.0.0.54:53        0.0.0.0:*    users:(("systemd-resolve",pid=700,fd=18))
udp   UNCONN 0      0        127.0.0.53%lo:53        0.0.0.0:*    users:(("systemd-resolve",pid=700,fd=16))
udp   UNCONN 0      0              0.0.0.0:53        0.0.0.0:*    users:(("dnsmasq",pid=912,fd=4))
tcp   LISTEN 0      32             0.0.0.0:53        0.0.0.0:*    users:(("dnsmasq",pid=912,fd=5))
tcp   LISTEN 0      32                [::]:53           [::]:*    users:(("dnsmasq",pid=912,fd=7))
tcp   LISTEN 0      32    192.168.122.1:53        0.0.0.0:*    users:(("dnsmasq",pid=1012,fd=6))
tcp   LISTEN 0      4096                 *:53              *:*
"""


def test_servers_are_read_from_ss() -> None:
    found = parse_servers(SS)
    assert DnsServer("udp", "127.0.0.53", "systemd-resolve", 700) in found
    assert DnsServer("tcp", "0.0.0.0", "dnsmasq", 912) in found
    assert DnsServer("tcp", "::", "dnsmasq", 912) in found
    assert DnsServer("tcp", "0.0.0.0") in found
    assert parse_servers("") == ()


@pytest.mark.parametrize(
    ("servers", "who", "how"),
    [
        # NethServer/dev#7794
        ([DnsServer("tcp", "0.0.0.0", "dnsmasq", 912)], "dnsmasq (process 912)", "bind-interfaces"),
        ([DnsServer("tcp", "::", "pihole-FTL", 3)], "pihole-FTL (process 3)", "pihole.toml"),
        ([DnsServer("tcp", "0.0.0.0", "docker-proxy", 3)], "docker-proxy", "publish it at an address"),
        ([DnsServer("tcp", "0.0.0.0", "named", 3)], "named", "listen-on { 127.0.0.1"),
        ([DnsServer("udp", GATEWAY, "unbound", 3)], "unbound", "interface: 127.0.0.1"),
        ([DnsServer("tcp", "0.0.0.0", "strange", 3)], "strange", "own addresses only"),
        ([DnsServer("tcp", "0.0.0.0")], "a program (root sees which)", "own addresses only"),
        ([DnsServer("udp", "0.0.0.0", "dnsmasq", 912)], "", ""),
        ([DnsServer("tcp", "192.168.122.1", "dnsmasq", 1012)], "", ""),
        ([DnsServer("udp", "127.0.0.53", "systemd-resolve", 700)], "", ""),
        ([], "", ""),
    ],
)
def test_who_has_port_53_and_how_it_is_bound(servers: list[DnsServer], who: str, how: str) -> None:
    said = dns_in_the_way(CLUSTER, servers)
    assert bool(said) == bool(who)
    if said is not None:
        assert who in said[0]
        assert GATEWAY in said[0]
        assert how in said[1]


def findings(access: HostAccess) -> list[tuple[str, str]]:
    found = fit_host.findings([CLUSTER], access, 64 * 1024)
    return [(problem.severity, problem.message) for problem in found]


def test_both_are_told_before_anything_is_built() -> None:
    dns = (DnsServer("tcp", "0.0.0.0", "dnsmasq", 912),)
    ((severity, message),) = findings(HostAccess(dns=dns))
    assert (severity, "port 53" in message) == ("error", True)
    # multipass#6
    ((severity, message),) = findings(HostAccess(hypervisors=("VirtualBox (process 4)",)))
    assert severity == "warning"
    assert "VirtualBox (process 4) runs a machine here" in message
    emulated = replace(CLUSTER, acceleration=replace(CLUSTER.acceleration, enable_kvm=False))
    access = HostAccess(hypervisors=("VirtualBox (process 4)",))
    assert list(fit_host.findings([emulated], access, 64 * 1024)) == []


def test_a_network_that_is_on_has_its_port() -> None:
    from hpcstate.hypervisor.xml import cluster_uuid

    ours = NetworkOfBridge(CLUSTER.network.name, cluster_uuid(CLUSTER, "network"), True)
    bridges = Bridges(frozenset(), frozenset(), {CLUSTER.network.bridge: ours})
    dns = (DnsServer("tcp", "0.0.0.0", "dnsmasq", 912),)
    assert findings(HostAccess(dns=dns, bridges=bridges)) == []


def test_a_network_whose_libvirtd_is_off_may_be_on() -> None:
    own = (DnsServer("tcp", GATEWAY, "dnsmasq", 534), DnsServer("udp", GATEWAY, "dnsmasq", 534))
    assert findings(HostAccess(dns=own)) == []
    asked = Bridges(frozenset(), frozenset(), {})
    ((severity, message),) = findings(HostAccess(dns=own, bridges=asked))
    assert (severity, "dnsmasq (process 534) has port 53" in message) == ("error", True)


def test_machines_of_other_hypervisors_are_seen(tmp_path: Path) -> None:
    for pid, name in ((4, "VBoxHeadless"), (5, "VBoxHeadless"), (6, "vmware-vmx"), (7, "bash")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "comm").write_text(f"{name}\n")
    first, second = other_hypervisors(tmp_path)
    assert first.startswith("VMware (process 6")
    assert second.startswith("VirtualBox (process")
