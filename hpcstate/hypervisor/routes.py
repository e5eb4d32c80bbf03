"""Whether packets of this host to a cluster's network would reach it: by the routes of all tables, and the
rules that say which table is asked first (ip-route(8), ip-rule(8)). Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from hpcstate.errors import HpcstateError, Problem, problem_at
from hpcstate.model import Cluster

ROUTES = ("ip", "-4", "-json", "route", "show", "table", "all")
RULES = ("ip", "-4", "-json", "rule", "show")

_ANYWHERE = IPv4Network("0.0.0.0/0")
_OF_NO_NETWORK = ("broadcast", "multicast", "anycast")
_CONDITIONS = ("iif", "oif", "l3mdev", "uid_start", "ipproto", "sport", "dport", "tos", "dsfield", "tun_id")
"""What a rule can ask of a packet beside its source, mark and destination."""


@dataclass(frozen=True)
class Route:
    """A route of the host. ``gateway`` is empty on a directly connected network; ``table`` is the routing
    table that it is in, empty for the main one; ``kind`` its type (``throw``, ``local``), empty for one that
    forwards.
    """

    network: IPv4Network
    device: str
    gateway: str = ""
    table: str = ""
    kind: str = ""


@dataclass(frozen=True)
class RouteRule:
    """A rule for packets to ``to``. ``table`` is what it asks, empty for the main one; ``action`` is another
    thing that it does (``unreachable``), ``goto`` the priority of the rule that it leads to. ``suppress``: a
    route whose prefix is as long or shorter is not taken. ``conditional``: not for each packet of a program.
    """

    priority: int
    table: str = ""
    to: IPv4Network = _ANYWHERE
    action: str = ""
    goto: int | None = None
    suppress: int = -1
    conditional: bool = False


@dataclass(frozen=True)
class Capture:
    """Traffic to a network that goes elsewhere before the main table is asked, by ``rule``: by ``route`` of
    its table, or to nowhere where that is None.
    """

    rule: RouteRule
    route: Route | None = None


def parse_routes(text: str) -> tuple[Route, ...]:
    """The routes in the output of ``ROUTES``, of all tables: a VPN has one of its own. Without the default
    routes of the main table, and without the host's own addresses that are in a network of their card.

    Raises HpcstateError when ``text`` is no such output.
    """
    try:
        found = [
            _route(entry) for entry in json.loads(text or "[]") if entry.get("type") not in _OF_NO_NETWORK
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HpcstateError(f"the output of 'ip -json route' is not understood: {error}") from error
    routes = [route for route in found if route.network.prefixlen or route.table]
    return tuple(
        route
        for route in routes
        if route.kind != "local"
        or not any(
            other.device == route.device and route.network.subnet_of(other.network)
            for other in routes
            if other.kind != "local" and not other.table
        )
    )


def _route(entry: dict[str, Any]) -> Route:
    devices = [hop.get("dev", "") for hop in entry.get("nexthops", ())]
    kind = entry.get("type", "")
    return Route(
        _network(entry["dst"]),
        entry.get("dev") or " and ".join(filter(None, devices)),
        entry.get("gateway", ""),
        str(entry.get("table", "")).replace("main", ""),
        "" if kind == "unicast" else kind,
    )


def _network(text: str, length: int | None = None) -> IPv4Network:
    if text in ("default", "all"):
        return _ANYWHERE
    return IPv4Network(text if length is None else f"{text}/{length}", strict=False)


def parse_rules(text: str) -> tuple[RouteRule, ...]:
    """The rules in the output of ``RULES``, in the order in which the kernel asks them. Raises HpcstateError
    when ``text`` is no such output."""
    try:
        return tuple(sorted(map(_rule, json.loads(text or "[]")), key=lambda rule: rule.priority))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HpcstateError(f"the output of 'ip -json rule' is not understood: {error}") from error


def _rule(entry: dict[str, Any]) -> RouteRule:
    # "not fwmark 0xca6c" (wg-quick) is each packet but the tunnel's own; any other "not" is not understood.
    inverted = "not" in entry
    marked = "fwmark" in entry and not inverted
    other = inverted and "fwmark" not in entry
    source = entry.get("src", "all") != "all"
    return RouteRule(
        priority=int(entry["priority"]),
        table=str(entry.get("table", "")).replace("main", ""),
        to=_network(entry.get("dst", "all"), entry.get("dstlen")),
        action=entry.get("action", ""),
        goto=int(entry["goto"]) if "goto" in entry else None,
        suppress=int(entry.get("suppress_prefixlen", -1)),
        conditional=marked or source or other or bool(set(_CONDITIONS) & set(entry)),
    )


def captures(subnet: IPv4Network, routes: Sequence[Route], rules: Sequence[RouteRule]) -> Iterator[Capture]:
    """What takes packets to ``subnet`` before the route of its own bridge, in the main table, is asked."""
    least = -1
    for rule in rules:
        if rule.priority < least or rule.conditional or not rule.to.overlaps(subnet):
            continue
        whole = subnet.subnet_of(rule.to)
        if rule.goto is not None:
            least = rule.goto if whole else least
        elif rule.action:
            if rule.action != "nop":
                yield Capture(rule)
        elif rule.table == "":
            if whole and rule.suppress < subnet.prefixlen:
                return
        elif rule.table != "local":
            yield from (Capture(rule, route) for route in _taken(subnet, routes, rule))


def _taken(subnet: IPv4Network, routes: Sequence[Route], rule: RouteRule) -> Iterator[Route]:
    """The routes of the rule's table that packets to ``subnet`` take: the narrowest around it, and in it."""
    here = [
        route for route in routes if route.table == rule.table and route.network.prefixlen > rule.suppress
    ]
    around = [route for route in here if subnet.subnet_of(route.network)]
    inside = [route for route in here if route not in around and route.network.subnet_of(subnet)]
    narrowest = max((route.network.prefixlen for route in around), default=0)
    best = [route for route in around if route.network.prefixlen == narrowest][:1]
    # A route "throw" sends the packet on to the next rule.
    yield from (route for route in (*best, *inside) if route.kind != "throw")


def findings(
    cluster: Cluster, routes: tuple[Route, ...] | None, rules: tuple[RouteRule, ...] | None
) -> Iterator[Problem]:
    """What stands between this host and the network of ``cluster``. ``rules`` is None where they cannot be
    read: then a table may be asked first or not.
    """
    place = f".clusters.{cluster.kind}.network.subnet"
    if cluster.network.is_of_the_site:
        return  # the host's own route to it, by whatever card, is the right one
    if routes is None:
        yield problem_at(
            place, "the host's routes are not checked: no program 'ip'", "install iproute2", True
        )
        return
    subnet, bridge = cluster.network.subnet, cluster.network.bridge
    routes = tuple(route for route in routes if route.device != bridge and route.network.overlaps(subnet))
    captured = tuple(captures(subnet, routes, rules or ()))
    for capture in captured:
        yield _of_capture(place, subnet, capture, routes)
    told = [capture.route for capture in captured]
    for route in routes:
        if route.kind == "throw" or route in told or not route.network.prefixlen:
            continue
        if route.kind == "local":
            yield problem_at(
                place,
                f"{route.network.network_address} of {subnet} is this host's own address, on {route.device}",
                "take a free subnet (ip address)",
            )
        elif not route.table or rules is None:
            yield _of_route(place, subnet, route)
        elif any(rule.table == route.table for rule in rules) and route.network.subnet_of(subnet):
            # Asked for some packets, or after the main one, only.
            yield _of_route(place, subnet, route, elsewhere=True)


def _of_capture(place: str, subnet: IPv4Network, capture: Capture, routes: Sequence[Route]) -> Problem:
    rule, route = capture.rule, capture.route
    first = max(1, min(100, rule.priority - 1))
    hint = (
        f"ask the main table first, at each boot: ip rule add to {subnet} lookup main priority {first}; "
        "or take a subnet that is free of it"
    )
    if route is None:
        return problem_at(place, f"a rule of this host makes {rule.to} {rule.action} (ip rule)", hint)
    where = f"{route.network if route.network.prefixlen else 'everything'} on {route.device or 'no device'}"
    # A VPN that leaves networks of this host alone (throw) may add this one when its bridge is there.
    spares = any(other.kind == "throw" for other in routes if other.table == route.table)
    return problem_at(
        place,
        f"{subnet} would be lost to the route to {where} of table {route.table}, which a rule of priority "
        f"{rule.priority} asks before the main one: nodes could not be reached",
        hint,
        spares and not route.network.prefixlen,
    )


def _of_route(place: str, subnet: IPv4Network, route: Route, *, elsewhere: bool = False) -> Problem:
    # The narrowest route wins: a wider one (a VPN's 0.0.0.0/1) still works beside a network of our own.
    wider = route.network.prefixlen < subnet.prefixlen
    table = f" of table {route.table}" if route.table else ""
    hint = "take a free subnet (ip route show table all)"
    if wider or elsewhere:
        hint = "hosts of it that have addresses of the subnet cannot be reached while the cluster runs"
    if wider and route.table:
        hint += (
            "; if a rule asks that table before the main one (ip rule), the nodes cannot: add the subnet "
            f"there (ip rule add to {subnet} lookup main priority 100)"
        )
    return problem_at(
        place,
        f"{subnet} overlaps the host's route to {route.network} on {route.device or 'no device'}{table}",
        hint,
        wider or elsewhere,
    )
