"""From entries to nodes: names, addresses and MAC addresses."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network
from itertools import chain

from hpcstate.model import Network, Node
from hpcstate.schema.node import Entry
from hpcstate.schema.section import Report

HEAD_OFFSET = 10
WORKER_OFFSET = 11
"""Where allotting begins: .10 for the head node, .11 for workers, as in the files of the earlier system."""

LOGIN_OFFSET = 9
"""Where allotting to login nodes begins, downwards: neither they nor workers move as the others are added."""


def node_names(entries: Sequence[Entry]) -> Iterator[tuple[Entry, int, str]]:
    """Each node of the cluster: its entry, its position in it, its name.

    Workers without a name of their own are numbered by their place among all of their role, with as many
    digits as the highest number needs, at least two (``compute-01``): so that names sort, and Slurm writes
    them as ``compute-[01-12]``. So a name that is given to one changes that of no other.
    """
    totals = Counter(dict.fromkeys((entry.role for entry in entries), 0))
    for entry in entries:
        totals[entry.role] += entry.count
    numbers: Counter[str] = Counter()
    for entry in entries:
        if entry.role in ("controller", "control_plane"):
            yield entry, 0, entry.role.replace("_", "-")
            continue
        for position in range(entry.count):
            numbers[entry.role] += 1
            width = max(2, len(str(totals[entry.role])))
            yield (
                entry,
                position,
                _given(entry, position) or f"{entry.role}-{numbers[entry.role]:0{width}}",
            )


def _given(entry: Entry, position: int) -> str:
    """The name that the file gives to the node at ``position`` of ``entry``, if any."""
    if not entry.given_name or not entry.group:
        return entry.given_name
    return f"{entry.given_name}-{position + 1:0{max(2, len(str(entry.count)))}}"


def place_nodes(
    cluster_name: str, network: Network, entries: Sequence[Entry], report: Report
) -> tuple[Node, ...]:
    """The nodes with their addresses; reports those that cannot have theirs, and a subnet that is full."""
    total = sum(entry.count for entry in entries)
    subnet = network.subnet
    room = subnet.num_addresses - 3  # network, broadcast and gateway are taken
    if total > room:
        report.error(
            max(entries, key=lambda entry: entry.count).place,
            f"{total} nodes do not fit into {subnet}, which has room for {room}",
            "take a larger subnet, or fewer nodes",
        )
        return ()
    named = list(node_names(entries))
    _check_names(named, report)
    taken = {network.gateway, *_declared_addresses(network, named, report)}
    if network.is_of_the_site:
        _demand_addresses(entries, report)
    logins = [each for each in named if each[0].role == "login"]
    addresses = _addresses(subnet, [each for each in named if each not in logins], taken)
    addresses |= _addresses(subnet, logins, taken)
    macs: set[str] = set()
    nodes = []
    for entry, _, name in named:
        address = addresses[name]
        nodes.append(
            Node(
                name=name,
                role=entry.role,
                cpu_cores=entry.cpu_cores,
                memory_mb=entry.memory_mb,
                disk_gb=entry.disk_gb,
                address=address,
                mac=_free_mac(cluster_name, name, macs),
                image=entry.image,
                place=entry.place,
                auto_start=entry.auto_start,
                passthrough=entry.passthrough,
                simulated_gpus=entry.simulated_gpus,
                gres_settings=entry.gres_settings,
                mounts=entry.mounts,
                named=bool(entry.given_name),
                data_gb=entry.data_gb,
                features=entry.features,
                weight=entry.weight,
                extra_slurm=entry.extra_slurm,
                packages=entry.packages,
            )
        )
    return tuple(nodes)


def _addresses(
    subnet: IPv4Network, named: Sequence[tuple[Entry, int, str]], taken: set[IPv4Address]
) -> dict[str, IPv4Address]:
    """The address of each node of ``named``; ``taken`` gets those that are allotted."""
    numbered = _numbered_addresses(subnet, named, taken)
    taken |= set(numbered.values())
    free = {
        role: _free_addresses(subnet, start, taken, down=role == "login")
        for role, start in (
            *dict.fromkeys(("controller", "control_plane"), HEAD_OFFSET).items(),
            *dict.fromkeys(("compute", "worker"), WORKER_OFFSET).items(),
            ("login", LOGIN_OFFSET),
        )
    }
    found: dict[str, IPv4Address] = {}
    for entry, position, name in named:
        if entry.address is not None:
            found[name] = _nth(entry.address, position)
            continue
        found[name] = numbered[name] if name in numbered else next(free[entry.role])
        taken.add(found[name])
    return found


def mac_address(cluster_name: str, node_name: str, attempt: int = 0) -> str:
    """A stable MAC below QEMU's prefix 52:54:00, from the node's full name."""
    seed = f"{cluster_name}/{node_name}" + (f"/{attempt}" if attempt else "")
    digest = hashlib.sha256(seed.encode()).hexdigest()
    return f"52:54:00:{digest[0:2]}:{digest[2:4]}:{digest[4:6]}"


def _free_mac(cluster_name: str, node_name: str, used: set[str]) -> str:
    """24 bits collide for one in thirty clusters of a thousand nodes: then the next attempt is taken."""
    attempt = 0
    while (mac := mac_address(cluster_name, node_name, attempt)) in used:
        attempt += 1
    used.add(mac)
    return mac


def _check_names(named: Sequence[tuple[Entry, int, str]], report: Report) -> None:
    """Report each name that two nodes would have, at the entry that gives it."""
    owners: dict[str, Entry] = {}
    for entry, _, name in named:
        other = owners.setdefault(name, entry)
        if other is not entry:
            giver, by_place = (entry, other) if entry.given_name else (other, entry)
            report.error(
                f"{giver.place}.name",
                f"{by_place.place} is {name} too",
                "give each node a name of its own"
                if by_place.given_name
                else "take another name, or give that one a name as well: without it goes by its place",
            )


def _numbered_addresses(
    subnet: IPv4Network, named: Sequence[tuple[Entry, int, str]], taken: set[IPv4Address]
) -> dict[str, IPv4Address]:
    """The addresses of nodes that are given a name like those by place: ``compute-03`` has the address that
    the third node would have, wherever it stands now."""
    addresses: dict[str, IPv4Address] = {}
    for entry, _, name in named:
        number = name.removeprefix(f"{entry.role}-")
        if not entry.given_name or entry.address is not None or not number.isdecimal() or number == name:
            continue
        after = int(number) - 1
        offset = LOGIN_OFFSET - after if entry.role == "login" else WORKER_OFFSET + after
        if 0 < offset < subnet.num_addresses - 1 and subnet[offset] not in taken:
            addresses[name] = subnet[offset]
    return addresses


def _declared_addresses(
    network: Network, named: Sequence[tuple[Entry, int, str]], report: Report
) -> dict[IPv4Address, str]:
    """The addresses that the file gives, by address; each that cannot be is reported."""
    taken: dict[IPv4Address, str] = {}
    unusable = set()  # entries whose range leaves the subnet: one report for the whole range
    for entry, position, name in named:
        if entry.address is None or entry.place in unusable:
            continue
        address = _nth(entry.address, position)
        if problem := _unusable(address, network):
            unusable.add(entry.place)
            report.error(
                entry.address_place,
                f"{name} would have {address}, {problem}",
                f"take one between {network.subnet[1]} and {network.subnet[-2]}",
            )
        elif address in taken:
            report.error(
                entry.address_place,
                f"{name} would have {address}, which {taken[address]} has",
                "give each node an address of its own, or leave ip out",
            )
        else:
            taken[address] = name
    return taken


def _demand_addresses(entries: Sequence[Entry], report: Report) -> None:
    """In a network of the site nobody but the file knows which addresses are the cluster's."""
    for entry in entries:
        if entry.address is None and entry.count:
            report.error(
                f"{entry.place}.ip",
                "is missing: with forward: bridge each node has an address that the site gave it",
                "add ip; with count it is that of the first one, and those behind it are the others'",
            )


def _nth(first: IPv4Address, position: int) -> IPv4Address:
    """``first`` counted up, ending at the highest address there is (which no subnet here contains)."""
    return IPv4Address(min(int(first) + position, 2**32 - 1))


def _unusable(address: IPv4Address, network: Network) -> str:
    if address not in network.subnet:
        return f"which is outside the subnet {network.subnet}"
    if address == network.subnet.network_address:
        return "which is the address of the subnet itself"
    if address == network.subnet.broadcast_address:
        return "which is the broadcast address of the subnet"
    return "which is the gateway's address" if address == network.gateway else ""


def _free_addresses(
    subnet: IPv4Network, start: int, taken: set[IPv4Address], *, down: bool = False
) -> Iterator[IPv4Address]:
    """Addresses to allot: from the offset ``start`` up, then those before it; never one that is taken. With
    ``down`` from ``start`` to the first, then from the last one."""
    end = subnet.num_addresses - 1
    up = chain(range(start, end), range(1, min(start, end)))
    back = chain(range(min(start, end - 1), 0, -1), range(end - 1, start, -1))
    for offset in back if down else up:
        if subnet[offset] not in taken:
            yield subnet[offset]
