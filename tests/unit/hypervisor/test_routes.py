"""A network of nodes beside what else this host routes, judged by the kernel.

routes_judged.json has, for each state of a host, what ip(8) said of routes and rules before the cluster's
bridge (virbr152, 192.168.152.1/24) was there, and what ``ip route get`` said of two nodes after: recorded in
network namespaces with iproute2 6.1 on Linux 6.18, by commands like those that tailscaled, wg-quick(8),
strongSwan and ifupdown2 give (tailscale/tailscale#6231, #17936).
"""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from hpcstate import schema
from hpcstate.errors import HpcstateError, Problem
from hpcstate.hypervisor import fit, routes
from hpcstate.hypervisor.first_file import HostSize, first_file
from hpcstate.hypervisor.routes import Route, RouteRule
from hpcstate.paths import ROOT
from hpcstate.run import Result
from tests.unit.pci_hosts import WORKSTATION

JUDGED = json.loads(Path(__file__).with_name("routes_judged.json").read_text())
CLUSTER = schema.load(ROOT / "inventories/passthrough.yaml").clusters[0]
SUBNET = IPv4Network("192.168.152.0/24")

WARNED = {
    # What the nodes' addresses hide: hosts behind other routes, which one should know of.
    "blackhole, wider",
    "marked only",
    "of one card",
    "of one source",
    "wg-quick, the same network behind main",
}


def found(name: str) -> list[Problem]:
    state = JUDGED[name]
    return list(
        routes.findings(
            CLUSTER,
            routes.parse_routes(json.dumps(state["routes"])),
            routes.parse_rules(json.dumps(state["rules"])),
        )
    )


@pytest.mark.parametrize("name", JUDGED)
def test_what_the_kernel_takes_elsewhere_is_an_error(name: str) -> None:
    said = [JUDGED[name][node] for node in ("to_a_node", "to_another")]
    reached = all("dev virbr152" in answer for answer in said)
    problems = found(name)
    assert [problem.severity for problem in problems if problem.severity == "error"] == ["error"] * (
        not reached
    )
    assert bool(problems) == (not reached or name in WARNED)
    for problem in problems:
        assert problem.place == ".clusters.hpc.network.subnet"
        assert problem.hint


def test_the_step_comes_before_the_rule() -> None:
    (problem,) = found("tailscale, a wider network")
    assert "route to 192.168.0.0/16 on ts0 of table 52, which a rule of priority 5270" in problem.message
    assert "ip rule add to 192.168.152.0/24 lookup main priority 100" in problem.hint
    (early,) = routes.findings(
        CLUSTER, (Route(SUBNET, "wg0", table="7"),), (RouteRule(5, table="7"), RouteRule(32766))
    )
    assert "priority 4;" in early.hint


def test_an_address_of_the_host_and_the_cards_of_a_route_are_named() -> None:
    (own,) = found("address of its own")
    assert "192.168.152.10 of 192.168.152.0/24 is this host's own address, on lo" in own.message
    (several,) = found("multipath")
    assert "on eth1 and wg0" in several.message


def test_a_vpn_that_spares_local_networks_may_spare_this_one() -> None:
    """tailscale's --exit-node-allow-lan-access: it has a route "throw" for each bridge that is there."""
    state = json.loads(json.dumps(JUDGED["tailscale, exit node"]))
    state["routes"].append({"type": "throw", "dst": "192.168.152.128/25", "table": "52"})
    (problem,) = routes.findings(
        CLUSTER,
        routes.parse_routes(json.dumps(state["routes"])),
        routes.parse_rules(json.dumps(state["rules"])),
    )
    assert problem.severity == "warning"


def test_the_own_bridge_is_no_obstacle() -> None:
    bridge = Route(SUBNET, CLUSTER.network.bridge)
    own = replace(bridge, network=IPv4Network("192.168.152.1/32"), table="local", kind="local")
    assert list(routes.findings(CLUSTER, (bridge, own), (RouteRule(32766),))) == []


def test_addresses_of_the_host_are_in_a_network_of_their_card() -> None:
    entries = [
        {"dst": "192.168.152.0/24", "dev": "eth1"},
        {"type": "local", "dst": "192.168.152.5", "dev": "eth1", "table": "local"},
        {"type": "broadcast", "dst": "192.168.152.255", "dev": "eth1", "table": "local"},
    ]
    assert routes.parse_routes(json.dumps(entries)) == (Route(SUBNET, "eth1"),)


@pytest.mark.parametrize(
    "output", ["{", '[{"src": "all"}]', '[{"priority": "x"}]', "[1]", '[{"priority": 1, "dst": "x"}]']
)
def test_output_that_is_no_list_of_rules(output: str) -> None:
    with pytest.raises(HpcstateError, match="ip -json rule"):
        routes.parse_rules(output)


def test_init_takes_no_network_that_would_be_lost() -> None:
    """Beside a wider route of the main table one of ours works, but not beside one that is asked first."""
    to_main = RouteRule(50, to=IPv4Network("192.168.152.0/24"))
    rules = (to_main, RouteRule(100, table="52"), RouteRule(32766))
    wide = (Route(IPv4Network("192.168.0.0/16"), "ts0", table="52"),)

    def is_lost(subnet: IPv4Network) -> bool:
        return any(routes.captures(subnet, wide, rules))

    size = HostSize("h", 8, 32768, tuple(route.network for route in wide), is_lost)
    assert "subnet: 192.168.152.0/24" in first_file("a", "a.yaml", WORKSTATION, size)
    with pytest.raises(HpcstateError, match="all overlap"):
        first_file("a", "a.yaml", WORKSTATION, replace(size, is_lost=lambda _: True))


@pytest.mark.parametrize(
    ("code", "printed", "rules"),
    [
        (0, '[{"priority":32766,"src":"all","table":"main"}]', (RouteRule(32766),)),
        (2, "", None),  # RTNETLINK answers: Operation not supported
        (255, "", None),
    ],
)
def test_a_kernel_without_rules(
    code: int, printed: str, rules: tuple[RouteRule, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ip(words: tuple[str, ...], *, check: bool) -> Result:
        assert (words, check) == (routes.RULES, False)
        return Result(words, code, printed, "")

    monkeypatch.setattr(fit, "which", lambda _: "/sbin/ip")
    monkeypatch.setattr(fit, "run", ip)
    assert fit.read_rules() == rules
    monkeypatch.setattr(fit, "which", lambda _: None)
    assert fit.read_rules() is None
