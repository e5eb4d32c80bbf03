"""Ports of the hypervisor that lead to nodes (``network.ports``): socket units of systemd's on it.

A packet filter cannot do it. libvirt rejects every new connection into a NAT network in its own chains
(src/network/network_iptables.c, LIBVIRT_FWI; network_nftables.c, table ``libvirt_network``, guest_input), and
an accept in a table of ours ends only that table's say: every base chain of a hook is asked, and one drop or
reject is enough (nft(8), VERDICT STATEMENT). Rules within libvirt's chains go whenever it writes them anew,
``forward mode='open'`` would leave NAT and filter to us and change networks that are there, and the policy
DROP of Docker's or firewalld's forward chains stands before all that. A connection that the host itself opens
is forwarded by nobody: systemd-socket-proxyd(8) takes each that comes and opens one to the node. So it works
with every backend, in isolated networks too, and from the host itself; it is there again after a boot, and
the nodes' own firewall lets the gateway in. For UDP a program of ours does the same (ports_udp.py). What it
costs: nodes see the host's address instead of the client's.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from hpcstate.errors import HpcstateError
from hpcstate.host.packages import sudo_allowed
from hpcstate.hypervisor.machine import MachineDifference
from hpcstate.hypervisor.mark import owner_of
from hpcstate.model import Cluster, PortForward
from hpcstate.model.network import EVERY_ADDRESS, Protocol
from hpcstate.programs import command
from hpcstate.render import render
from hpcstate.run import run

_LOG = logging.getLogger("hpcstate.hypervisor.ports")
_PROGRAM = Path(__file__).with_name("ports.sh")
_RELAY = Path(__file__).with_name("ports_udp.py")
_SECONDS = 60.0

Shell = Callable[[str], str]
"""Runs a program on the hypervisor and returns what it prints; raises HpcstateError when it fails."""


@dataclass(frozen=True)
class Unit:
    """A port as it is on the hypervisor. ``name`` is that of the units, ``owner`` and ``cluster`` say whose
    it is (empty where the unit carries no mark), ``target`` is address and port of the node, ``digest`` that
    of the units' texts; ``on`` says that it listens, and does so after a boot.
    """

    name: str
    owner: str
    cluster: str
    address: IPv4Address
    host: int
    node: str
    target: str
    digest: str
    on: bool
    protocol: Protocol = "tcp"


@dataclass(frozen=True)
class Listener:
    """A process that listens on the hypervisor; ``program`` is empty where only root would be told."""

    address: IPv4Address
    port: int
    program: str = ""
    protocol: Protocol = "tcp"


@dataclass(frozen=True)
class Seen:
    """The ports of the hypervisor that lead to nodes, of all clusters, and all that listens there."""

    units: tuple[Unit, ...] = ()
    listeners: tuple[Listener, ...] = ()


def parse(text: str) -> Seen:
    """What ``ports.sh look`` printed. A unit whose mark cannot be read is nobody's of ours."""
    units, listeners = [], []
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "port":
            units.append(_unit(rest.split()))
        elif kind in ("listen", "listen-udp") and (listener := _listener(rest)):
            udp = kind == "listen-udp"
            listeners.append(replace(listener, protocol="udp") if udp else listener)
    return Seen(tuple(units), tuple(listeners))


def _unit(words: Sequence[str]) -> Unit:
    state, digest, name, *mark = words
    try:
        owner, cluster, address, host, node, target, *protocol = mark
        at, port = IPv4Address(address), int(host)
        unit = Unit(name, owner, cluster, at, port, node, target, digest, state == "on")
        return replace(unit, protocol="udp") if protocol == ["udp"] else unit
    except ValueError:
        return Unit(name, "", "", EVERY_ADDRESS, 0, "", "", digest, state == "on")


def _listener(text: str) -> Listener | None:
    """A line of ss(8): ``0.0.0.0:22 users:(("sshd",pid=1,fd=3))``. What listens at ``*`` or ``[::]`` takes
    IPv4 too, unless bindv6only is set; other addresses of IPv6 are nothing here."""
    local, _, users = text.partition(" ")
    address, _, port = local.rpartition(":")
    address = address.partition("%")[0]
    program = re.search(r'\(\("([^"]+)"', users)
    try:
        at = EVERY_ADDRESS if address in ("*", "[::]") else IPv4Address(address)
        return Listener(at, int(port), program[1] if program else "")
    except (AddressValueError, ValueError):
        return None


# What is meant -------------------------------------------------------------------------------------------


def unit_name(cluster: Cluster, port: PortForward) -> str:
    """The units of ``port``, without their suffixes."""
    own = "" if port.address == EVERY_ADDRESS else f"-{port.address}"
    udp = "-udp" if port.protocol == "udp" else ""
    return f"hpcstate-port-{cluster.name}-{port.host}{own}{udp}"


def texts(cluster: Cluster, port: PortForward, owner: str) -> tuple[str, ...]:
    """The socket unit of ``port`` and its service, and for UDP the program of that."""
    words = {"cluster": cluster, "port": port, "owner": owner, "target": _target(cluster, port)}
    udp = port.protocol == "udp"
    template = "libvirt/port-udp" if udp else "libvirt/port"
    units = (
        render(f"{template}.socket.j2", **words),
        render(f"{template}.service.j2", **words, unit=unit_name(cluster, port)),
    )
    return (*units, _RELAY.read_text(encoding="utf-8")) if udp else units


def _target(cluster: Cluster, port: PortForward) -> str:
    address = next(node.address for node in cluster.nodes if node.name == port.node)
    return f"{address}:{port.port}"


def _digest(written: Sequence[str]) -> str:
    return hashlib.sha256("".join(written).encode()).hexdigest()


def own(cluster: Cluster, seen: Seen, owner: str) -> dict[str, Unit]:
    """The units that were made for ``cluster``, by name."""
    return {
        unit.name: unit
        for unit in seen.units
        if owner and (unit.owner, unit.cluster) == (owner, cluster.name)
    }


def differences_of(cluster: Cluster, seen: Seen, owner: str) -> list[MachineDifference]:
    """Where the hypervisor has other ports of ``cluster`` than the file says; pure. They are brought into
    line at once, and nothing but their own connections notices."""
    there = own(cluster, seen, owner)
    wanted = {unit_name(cluster, port): port for port in cluster.network.ports}
    rows = []
    for name, port in wanted.items():
        unit, should = there.get(name), f"{port.node}:{port.port}"
        if unit is None:
            rows.append(_row(port, "", should))
        elif not unit.on:
            rows.append(_row(port, "off", should))
        elif unit.digest != _digest(texts(cluster, port, owner)):
            found = f"{unit.node}:{unit.target.rpartition(':')[2]}"
            other = f"other units for {found}" if found == should else found
            rows.append(_row(port, other, should))
    rows += [
        _row(unit, f"{unit.node}:{unit.target.rpartition(':')[2]}", "")
        for name, unit in there.items()
        if name not in wanted
    ]
    return rows


def _row(port: PortForward | Unit, found: str, wanted: str) -> MachineDifference:
    at = _at(port.address, port.host, port.protocol)
    return MachineDifference("hypervisor", f"port {at}", found, wanted, "live")


def _at(address: IPv4Address, port: int, protocol: Protocol) -> str:
    at = str(port) if address == EVERY_ADDRESS else f"{address}:{port}"
    return at if protocol == "tcp" else f"{at}/{protocol}"


def conflicts(cluster: Cluster, seen: Seen, owner: str) -> Iterator[tuple[str, str, str]]:
    """What stands in the way of the ports of ``cluster``: place in the file, message, next step; pure."""
    there = own(cluster, seen, owner)
    others = [unit for unit in seen.units if unit.name not in there]
    # systemd listens itself where a unit is on: such a line is ours, whatever ss calls its program.
    ours = {(unit.address, unit.host, unit.protocol) for unit in there.values() if unit.on}
    for position, port in enumerate(cluster.network.ports):
        place = f".clusters.{cluster.kind}.network.ports[{position}].host"
        at = _at(port.address, port.host, port.protocol)
        taken = [unit for unit in others if unit.on and port.meets(unit.address, unit.host, unit.protocol)]
        same_name = [unit for unit in others if unit.name == unit_name(cluster, port)]
        listening = [
            each
            for each in seen.listeners
            if port.meets(each.address, each.port, each.protocol)
            and (each.address, each.port, each.protocol) not in ours
        ]
        if same_name:
            whose = (
                "made with other keys than the ones here" if same_name[0].owner else "not made by hpcstate"
            )
            yield (
                place,
                f"the hypervisor has a unit {same_name[0].name}.socket, {whose}",
                f"if nobody needs it, there: systemctl disable --now {same_name[0].name}.socket, and remove "
                "its file; else another port",
            )
        elif taken:
            whose = f"the cluster {taken[0].cluster}" if taken[0].cluster else taken[0].name
            yield place, f"the port {at} of the hypervisor belongs to {whose}", "take another one"
        elif listening:
            program = listening[0].program or "a program"
            yield (
                place,
                f"{program} listens on port {_at(listening[0].address, port.host, port.protocol)} of the "
                "hypervisor",
                f"take another port (ss -l{port.protocol[0]}np sport = :{port.host}), or end that program",
            )


# Looking and doing ---------------------------------------------------------------------------------------


def shell_of(uri: str, *, root: bool) -> Shell | None:
    """The way to programs on the hypervisor of ``uri``, as root or not; None where there is none: libvirt's
    test driver has no host, and TLS carries nothing but libvirt."""
    parts = urlsplit(uri)
    transport = parts.scheme.partition("+")[2]
    if not parts.scheme.startswith("qemu"):
        return None
    if not parts.netloc:
        return _here_as_root if root and os.geteuid() != 0 else _here
    if "ssh" not in transport:
        return None
    keys = parse_qs(parts.query).get("keyfile", [])
    words = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20"]
    words += ["-p", str(parts.port)] * bool(parts.port) + [word for key in keys for word in ("-i", key)]
    words += [f"{parts.username}@{parts.hostname}" if parts.username else str(parts.hostname)]

    def there(program: str) -> str:
        way = 'if [ "$(id -u)" = 0 ]; then exec sh -c "$0"; else exec sudo -n sh -c "$0"; fi'
        text = f"sh -c {shlex.quote(way)} {shlex.quote(program)}" if root else f"sh -c {shlex.quote(program)}"
        return run([*words, text], timeout=_SECONDS, hint=_HINT if root else "").stdout

    return there


_HINT = "ports of the hypervisor are made by its root: this user needs sudo there without a question"


def _here(program: str) -> str:
    return run(["sh", "-c", program], timeout=_SECONDS).stdout


def _here_as_root(program: str) -> str:
    if not sudo_allowed():
        raise HpcstateError(
            "ports of this host are made by root, and this user is neither root nor allowed to use sudo",
            where="network.ports",
            hint="run the same command as root, or take the key out of the file",
        )
    return run(["sudo", "-n", "sh", "-c", program], timeout=_SECONDS).stdout


def look(cluster: Cluster) -> Seen:
    """The ports of the hypervisor of ``cluster``. Nothing where it cannot be looked at and the file has none.

    Raises HpcstateError where it has some.
    """
    shell = shell_of(cluster.uri, root=False)
    if shell is None:
        if cluster.network.ports and cluster.uri.startswith("qemu"):
            raise HpcstateError(
                f"programs of {cluster.uri} are not reached: its ports cannot be led to nodes from here",
                where=f".clusters.{cluster.kind}.network.ports",
                hint="use a libvirt URI with +ssh, or take the key out",
            )
        return Seen()
    try:
        return parse(shell(command(_PROGRAM, arguments=("look",), ROOT="")))
    except HpcstateError as error:
        if cluster.network.ports:
            raise
        _LOG.info("ports of %s are not looked at: %s", cluster.uri, error)
        return Seen()


def differences(cluster: Cluster) -> list[MachineDifference]:
    """Where the hypervisor has other ports of ``cluster`` than the file says."""
    return differences_of(cluster, look(cluster), owner_of(cluster))


def refuse_taken(cluster: Cluster) -> None:
    """Raises HpcstateError when a port of ``cluster`` is somebody else's: all of them, and whose."""
    if not cluster.network.ports:
        return
    found = list(conflicts(cluster, look(cluster), owner_of(cluster)))
    if found:
        raise HpcstateError("\n".join(text for _, text, _ in found), where=found[0][0], hint=found[0][2])


def bring(cluster: Cluster) -> list[MachineDifference]:
    """Bring the ports of the hypervisor to those of the file. Returns what was otherwise.

    Raises HpcstateError when a port is somebody else's, before anything is done, and without root's rights.
    """
    owner, seen = owner_of(cluster), look(cluster)
    rows = differences_of(cluster, seen, owner)
    if not rows:
        return []
    refuse_taken(cluster)
    wanted = {unit_name(cluster, port): port for port in cluster.network.ports}
    there = own(cluster, seen, owner)
    for name in there.keys() - wanted.keys():
        _as_root(cluster, "remove", name)
    for name, port in wanted.items():
        unit, written = there.get(name), texts(cluster, port, owner)
        if unit is None or not unit.on or unit.digest != _digest(written):
            listen = f"{port.address}:{port.host}"
            socket, service, *program = written
            _as_root(cluster, "put", name, socket, service, listen, _target(cluster, port), *program)
    return rows


def remove(cluster: Cluster, names: Sequence[str]) -> list[str]:
    """Remove the units of ``names``. Returns what was removed, in words."""
    for name in names:
        _as_root(cluster, "remove", name)
    return [f"port {name}" for name in names]


def going(cluster: Cluster) -> tuple[str, ...]:
    """The names of the units that were made for ``cluster``."""
    return tuple(sorted(own(cluster, look(cluster), owner_of(cluster))))


def _as_root(cluster: Cluster, *arguments: str) -> None:
    shell = shell_of(cluster.uri, root=True)
    assert shell is not None, "look() came here"
    shell(command(_PROGRAM, arguments=arguments, ROOT=""))
