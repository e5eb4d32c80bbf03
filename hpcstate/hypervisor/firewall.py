"""What this host's firewall does to a cluster's network. ``decide`` and the parser are pure, the rest looks.

libvirt puts rules for a network in place when it starts it, and when libvirtd is told to reload: a program
that sets the whole firewall anew (firehol, ``nft flush ruleset``, a restart of iptables.service) takes them
away from a network that goes on. Docker sets the policy of FORWARD to DROP; where the kernel also hands what
a bridge carries to that chain (bridge-nf-call-iptables), nodes on one bridge do not reach each other, and
rules of libvirt in tables of their own (firewall_backend nftables, the default since libvirt 10.4) cannot let
through what another table drops.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcstate.hypervisor.daemon import reload_daemon
from hpcstate.model import Cluster
from hpcstate.run import run, which

NETWORK_CONF = Path("/etc/libvirt/network.conf")
PROC = Path("/proc")


@dataclass(frozen=True)
class Firewall:
    """What was seen. ``rules`` are those for IPv4 that this user may read, empty where it may read none;
    ``bridged`` says that FORWARD sees what bridges carry, ``docker`` that a Docker network is there,
    ``backend`` is what libvirt's network.conf says.
    """

    rules: tuple[str, ...] = ()
    bridged: bool = False
    docker: bool = False
    forwards: bool = True
    backend: str = ""

    @property
    def drops(self) -> bool:
        """Whether what no rule lets through is dropped on its way through this host; Docker does so."""
        policy = any(re.match(r"-P FORWARD (DROP|REJECT)|.*hook forward.*policy drop", r) for r in self.rules)
        return policy or (self.docker and not self.rules)

    def has_rules_of(self, bridge: str) -> bool | None:
        """Whether libvirt's rules for ``bridge`` are there; None where nobody can tell."""
        if not self.rules:
            return None
        named = re.compile(rf'libvirt.*[ "]{re.escape(bridge)}(?:[" ]|$)', re.I)
        return any(named.search(rule) for rule in self.rules)


def look(proc: Path = PROC, conf: Path = NETWORK_CONF, net: Path = Path("/sys/class/net")) -> Firewall:
    """The firewall of this host, as far as this user may see it."""
    sysctl = proc / "sys" / "net"
    return Firewall(
        rules=_rules(),
        bridged=_read(sysctl / "bridge" / "bridge-nf-call-iptables") == "1",
        docker=(net / "docker0").exists(),
        forwards=_read(sysctl / "ipv4" / "ip_forward") != "0",
        backend=parse_backend(_read(conf)),
    )


def _rules(names: Path = PROC / "net" / "ip_tables_names") -> tuple[str, ...]:
    """The rules for IPv4 of nftables, which are those of iptables-nft as well, else of iptables; and those of
    the older iptables where that has tables: asking it would make them. libvirt's own in nftables need nft.
    """
    lines: list[str] = []
    if which("nft"):
        lines += of_nft(run(["nft", "list", "ruleset"], check=False).stdout)
    elif which("iptables"):
        lines += run(["iptables", "-S"], check=False).stdout.splitlines()
    if which("iptables-legacy") and _read(names):
        lines += run(["iptables-legacy", "-S"], check=False).stdout.splitlines()
    return tuple(lines)


def of_nft(text: str) -> list[str]:
    """The lines of ``nft list ruleset`` that concern IPv4, each behind its table and chain."""
    lines, family, table, chain = [], "", "", ""
    for line in (raw.strip() for raw in text.splitlines()):
        if head := re.match(r"table (\w+) (\S+) \{", line):
            family, table, chain = head[1], head[2], ""
        elif head := re.match(r"chain (\S+) \{", line):
            chain = head[1]
        elif family in ("ip", "inet") and line not in ("", "}"):
            lines.append(f"{table} {chain}: {line}")
    return lines


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def parse_backend(text: str) -> str:
    """``firewall_backend`` of libvirt's network.conf; empty where it says none."""
    found = re.findall(r'^\s*firewall_backend\s*=\s*"(\w+)"', text, re.M)
    return str(found[-1]) if found else ""


_RELOAD_SECONDS = 2.0


def put_back(cluster: Cluster) -> str:
    """What was done about libvirt's rules for the network of ``cluster``, which is on: empty where they are
    there, where nobody can see them, and where it has none. libvirtd makes them anew as it reloads.
    """
    bridge = cluster.network.bridge
    if cluster.network.is_of_the_site:
        return ""  # libvirt makes no rules for a bridge that is not its own
    if look().has_rules_of(bridge) is not False:
        return ""
    reload_daemon()
    deadline = time.monotonic() + _RELOAD_SECONDS
    while time.monotonic() < deadline:
        if look().has_rules_of(bridge):
            return (
                f"libvirt's firewall rules for {cluster.network.name} were gone (something set this host's "
                "firewall anew): libvirtd has put them back"
            )
        time.sleep(0.5)
    return ""


@dataclass(frozen=True)
class Failure:
    """What does not get through: from the node ``source`` to ``target``, a node's name or an address."""

    source: str
    target: str
    outside: bool = False


def decide(cluster: Cluster, failures: Sequence[Failure], firewall: Firewall) -> tuple[str, str]:
    """What is wrong with the network of ``cluster``, whose ``failures`` were tried, and the next step."""
    bridge = cluster.network.bridge
    pairs = ", ".join(f"{failure.source} to {failure.target}" for failure in failures)
    inside = [failure for failure in failures if not failure.outside]
    what = (
        f"SSH from here works, and nodes do not reach {'each other' if inside else 'the outside'} ({pairs})"
    )
    accept = (
        f"sudo iptables -I DOCKER-USER -i {bridge} -j ACCEPT; sudo iptables -I DOCKER-USER -o {bridge} "
        "-j ACCEPT (that chain is for you)"
        if firewall.docker
        else f"let FORWARD pass -i {bridge} and -o {bridge}"
    )
    dropped = (
        "Docker set the policy of FORWARD to DROP" if firewall.docker else "the policy of FORWARD is DROP"
    )
    if inside and firewall.bridged and firewall.drops:
        why = f"bridge-nf-call-iptables is 1, so that FORWARD sees what the bridge carries, and {dropped}"
        return f"{what}: {why}", f"sudo sysctl net.bridge.bridge-nf-call-iptables=0; or {accept}"
    if not inside and not firewall.forwards:
        return (
            f"{what}: this host forwards nothing (net.ipv4.ip_forward is 0)",
            "sudo sysctl net.ipv4.ip_forward=1: something set it back after libvirt had set it",
        )
    if not cluster.network.is_of_the_site and firewall.has_rules_of(bridge) is False:
        return f"{what}: libvirt's firewall rules for {bridge} are gone", "sudo systemctl reload libvirtd"
    if firewall.drops:
        backend = ""
        if firewall.backend != "iptables":
            backend = (
                '; or firewall_backend = "iptables" in /etc/libvirt/network.conf and systemctl restart '
                "libvirtd: rules of another table do not undo a drop"
            )
        return f"{what}: {dropped}", accept + backend
    return what, (
        f"this host's firewall: `sudo nft list ruleset` or `sudo iptables -S` shows what drops it (FORWARD, "
        f"{bridge}); after a reload of the firewall: sudo systemctl reload libvirtd. docs/host.md, When it "
        "does not start"
    )
