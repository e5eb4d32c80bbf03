"""What a host's firewall does to a network: rules as nft and iptables print them, and what is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcstate.hypervisor import firewall
from hpcstate.hypervisor.firewall import Failure, Firewall, decide, of_nft
from tests.unit.fake_live import a_cluster, a_node

CLUSTER = a_cluster(a_node("head", 10), a_node("compute-01", 11))
BRIDGE = CLUSTER.network.bridge
NFT_TEXT = f"""table ip libvirt_network {{
\tchain guest_output {{
\t\tip saddr 10.1.2.0/24 iif "{BRIDGE}" counter packets 0 bytes 0 accept
\t\tiif "{BRIDGE}" counter packets 0 bytes 0 reject
\t}}
}}
table ip6 filter {{
\tchain FORWARD {{
\t\ttype filter hook forward priority filter; policy drop;
\t}}
}}
"""
NFT = of_nft(NFT_TEXT)
IPTABLES = ("-P INPUT ACCEPT", "-P FORWARD ACCEPT", f"-A LIBVIRT_FWO -s 10.1.2.0/24 -i {BRIDGE} -j ACCEPT")
DOCKER = ("-P FORWARD DROP", "-A FORWARD -j DOCKER-USER", "-A FORWARD -o docker0 -j DOCKER")
DOCKER_NFT = tuple(
    of_nft(
        "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n"
        '\t\toifname "docker0" counter jump DOCKER\n\t}\n}\n'
    )
)


@pytest.mark.parametrize(
    ("rules", "there"),
    [
        (tuple(NFT), True),
        (IPTABLES, True),
        (DOCKER, False),
        (DOCKER_NFT, False),
        # Somebody's own rule is none of libvirt's.
        ((f"-A DOCKER-USER -i {BRIDGE} -j ACCEPT",), False),
        # A bridge whose name another one begins with.
        ((f"-A LIBVIRT_FWO -i {BRIDGE}0 -j ACCEPT",), False),
        ((), None),
    ],
)
def test_whether_the_rules_of_a_network_are_there(rules: tuple[str, ...], there: bool | None) -> None:
    assert Firewall(rules=rules).has_rules_of(BRIDGE) is there


@pytest.mark.parametrize(
    ("seen", "drops"),
    [
        (Firewall(rules=DOCKER), True),
        (Firewall(rules=DOCKER_NFT), True),
        (Firewall(rules=tuple(NFT)), False),
        (Firewall(rules=IPTABLES), False),
        (Firewall(rules=IPTABLES, docker=True), False),
        # Without root the rules are unseen: Docker's own default counts.
        (Firewall(docker=True), True),
        (Firewall(), False),
    ],
)
def test_what_is_dropped(seen: Firewall, drops: bool) -> None:
    assert seen.drops is drops


INSIDE = (Failure("compute-01", "head"), Failure("head", "compute-01"))
OUTSIDE = (Failure("compute-01", "192.0.2.53", outside=True),)


@pytest.mark.parametrize(
    ("failures", "seen", "what", "step"),
    [
        # moby#52612: libvirt's nftables backend beside Docker with br_netfilter
        (
            INSIDE,
            Firewall(rules=(*NFT, *DOCKER), bridged=True, docker=True),
            "so that FORWARD sees what the bridge carries, and Docker set the policy",
            "sysctl net.bridge.bridge-nf-call-iptables=0; or sudo iptables -I DOCKER-USER",
        ),
        (
            INSIDE,
            Firewall(bridged=True, docker=True),
            "Docker set the policy of FORWARD to DROP",
            "DOCKER-USER",
        ),
        (
            INSIDE,
            Firewall(rules=(*NFT, "-P FORWARD DROP"), bridged=True),
            "the policy of FORWARD is DROP",
            f"let FORWARD pass -i {BRIDGE}",
        ),
        (
            OUTSIDE,
            Firewall(rules=(*NFT, *DOCKER), docker=True),
            "do not reach the outside (compute-01 to 192.0.2.53): Docker set the policy",
            'firewall_backend = "iptables"',
        ),
        # firehol#368: a reload of the firewall took libvirt's rules away
        (OUTSIDE, Firewall(rules=("-P FORWARD ACCEPT",)), f"rules for {BRIDGE} are gone", "reload libvirtd"),
        (OUTSIDE, Firewall(rules=DOCKER, docker=True), f"rules for {BRIDGE} are gone", "reload libvirtd"),
        (OUTSIDE, Firewall(rules=tuple(NFT), forwards=False), "ip_forward is 0", "net.ipv4.ip_forward=1"),
        (INSIDE, Firewall(), "do not reach each other (compute-01 to head, head to compute-01)", "nft list"),
    ],
)
def test_the_cause_is_named_with_the_next_step(
    failures: tuple[Failure, ...], seen: Firewall, what: str, step: str
) -> None:
    said, hint = decide(CLUSTER, failures, seen)
    assert said.startswith("SSH from here works")
    assert what in said
    assert step in hint


def test_libvirts_own_backend_is_not_asked_for_twice() -> None:
    _, hint = decide(CLUSTER, OUTSIDE, Firewall(rules=(*NFT, *DOCKER), docker=True, backend="iptables"))
    assert "firewall_backend" not in hint


def test_rules_that_are_gone_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """firehol#368: the network is active, and nobody reaches anything."""
    rules: list[str] = ["-P FORWARD ACCEPT"]
    reloads: list[str] = []
    monkeypatch.setattr(firewall, "look", lambda: Firewall(rules=tuple(rules)))

    def reload() -> None:
        reloads.append("once")
        rules.extend(NFT)

    monkeypatch.setattr(firewall, "reload_daemon", reload)
    assert "libvirtd has put them back" in firewall.put_back(CLUSTER)
    assert firewall.put_back(CLUSTER) == ""
    assert reloads == ["once"]


def test_rules_that_nobody_can_see_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewall, "look", Firewall)
    monkeypatch.setattr(firewall, "reload_daemon", lambda: pytest.fail("reloaded"))
    assert firewall.put_back(CLUSTER) == ""


def test_what_does_not_come_back_is_not_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewall, "look", lambda: Firewall(rules=("-P FORWARD ACCEPT",)))
    monkeypatch.setattr(firewall, "reload_daemon", lambda: None)
    monkeypatch.setattr(firewall, "_RELOAD_SECONDS", 0.01)
    assert firewall.put_back(CLUSTER) == ""


def test_this_host_is_looked_at(tmp_path: Path) -> None:
    bridge = tmp_path / "sys/net/bridge"
    bridge.mkdir(parents=True)
    (bridge / "bridge-nf-call-iptables").write_text("1\n")
    (tmp_path / "sys/net/ipv4").mkdir()
    (tmp_path / "sys/net/ipv4/ip_forward").write_text("0\n")
    conf = tmp_path / "network.conf"
    conf.write_text('# firewall_backend = "nftables"\nfirewall_backend = "iptables"\n')
    (tmp_path / "net/docker0").mkdir(parents=True)
    seen = firewall.look(tmp_path, conf, tmp_path / "net")
    assert (seen.bridged, seen.forwards, seen.docker, seen.backend) == (True, False, True, "iptables")
    bare = firewall.look(tmp_path / "none", tmp_path / "none", tmp_path / "none")
    assert (bare.bridged, bare.forwards, bare.docker, bare.backend) == (False, True, False, "")
