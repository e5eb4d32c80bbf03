"""Whether nodes reach each other and the outside: tried once they answer on SSH, not trusted.

SSH comes from this host over the bridge and passes no FORWARD chain: it works where nothing else does, and a
deploy would end with nodes that did not register.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path

from hpcstate.errors import HpcstateError
from hpcstate.hypervisor import firewall
from hpcstate.hypervisor.firewall import Failure
from hpcstate.model import Cluster, Node
from hpcstate.node.ssh import Live
from hpcstate.run import at_once
from hpcstate.terminal import Say

SECONDS = 10
"""How long one connection may take, and again: a node under software emulation is slow."""

RESOLV_CONF = Path("/etc/resolv.conf")
_OUTWARDS = ("nat",)
"""The kinds of network whose nodes reach the outside by this host."""

Ask = Callable[[str, str], str]
"""Runs a command on the node of a name and returns what it prints; HpcstateError when that fails."""


def asks(live: Live) -> Ask:
    """The way in by SSH: that works by now."""

    def ask(name: str, command: str) -> str:
        return live.run(name, command, timeout=6 * SECONDS).stdout

    return ask


def targets(nodes: Sequence[Node]) -> dict[str, tuple[Node, ...]]:
    """Whom each of ``nodes`` is to reach: the first (the controller), and the next one."""
    tried: dict[str, tuple[Node, ...]] = {}
    for position, node in enumerate(nodes):
        others = {other.name: other for other in (nodes[0], nodes[(position + 1) % len(nodes)])}
        tried[node.name] = tuple(other for name, other in others.items() if name != node.name)
    return tried


def command(places: Iterable[tuple[str, str, int]]) -> str:
    """Tries to connect to each of ``places`` (name, address, port), twice; prints the names that fail."""
    tries = [f"r {name} {address} {port}" for name, address, port in places]
    connect = f'timeout {SECONDS} bash -c "</dev/tcp/$2/$3" 2>/dev/null'
    return (
        f'command -v bash >/dev/null || exit 0; r() {{ {connect} || {connect} || echo "failed $1"; }}; '
        + "; ".join(tries)
    )


def parse(text: str) -> tuple[str, ...]:
    """The names that ``command`` printed."""
    return tuple(re.findall(r"^failed (\S+)$", text, re.M))


def outside(
    resolv_conf: str, connect: Callable[[str, int], bool], cluster: Cluster
) -> tuple[str, int] | None:
    """An address and port beyond this host that it reaches itself: a DNS server of its own. None where there
    is none that ``connect`` reaches; then nobody can say what nodes should reach.
    """
    for word in re.findall(r"^\s*nameserver\s+(\S+)", resolv_conf, re.M):
        try:
            address = ip_address(word)
        except ValueError:
            continue
        own = address.version != 4 or address.is_loopback or address in cluster.network.subnet
        if not own and connect(word, 53):
            return word, 53
    return None


def reaches(address: str, port: int) -> bool:
    """Whether this host gets a connection to ``address``, which is none of its own."""
    try:
        with socket.create_connection((address, port), timeout=2) as connection:
            return bool(connection.getsockname()[0] != address)
    except OSError:
        return False


def failures(nodes: Sequence[Node], ask: Ask, beyond: tuple[str, int] | None) -> tuple[Failure, ...]:
    """What ``nodes`` do not reach of each other and of ``beyond``; asked at the same time."""

    def tried(node: Node) -> tuple[Failure, ...]:
        places = [(other.name, str(other.address), 22) for other in targets(nodes)[node.name]]
        if beyond is not None:
            places.append((beyond[0], *beyond))
        if not places:
            return ()
        try:
            failed = parse(ask(node.name, command(places)))
        except HpcstateError:
            return ()  # what it says of itself is not about the network
        return tuple(
            Failure(node.name, name, outside=beyond is not None and name == beyond[0]) for name in failed
        )

    by_name: Mapping[str, Node] = {node.name: node for node in nodes}
    return tuple(
        failure for found in at_once(lambda name: tried(by_name[name]), by_name).values() for failure in found
    )


def demand(
    cluster: Cluster,
    nodes: Sequence[Node],
    ask: Ask,
    say: Say,
    *,
    local: bool = True,
    seen: Callable[[], firewall.Firewall] = firewall.look,
    connect: Callable[[str, int], bool] = reaches,
) -> None:
    """Raises HpcstateError where ``nodes`` of ``cluster``, which answer on SSH, do not reach each other; what
    does not reach the outside, though this host does, is said. ``local``: they run on this host.
    """
    beyond = None
    if local and cluster.network.forward in _OUTWARDS:
        try:
            beyond = outside(RESOLV_CONF.read_text(), connect, cluster)
        except OSError:
            beyond = None
    found = failures(nodes, ask, beyond)
    here = seen() if found and local else firewall.Firewall()
    if inside := [failure for failure in found if not failure.outside]:
        what, step = firewall.decide(cluster, inside, here)
        raise HpcstateError(what, where=f".clusters.{cluster.kind}.network", hint=step)
    if found:
        what, step = firewall.decide(cluster, found, here)
        say(f"note: {what}\n  -> {step}")
