"""What others on this host hold that a cluster needs: port 53 of its gateway, virtualization."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcstate.model import Cluster
from hpcstate.run import run, which

PROC = Path("/proc")


@dataclass(frozen=True)
class DnsServer:
    """A server on port 53: ``protocol`` is ``tcp`` or ``udp``, ``address`` where it listens (``0.0.0.0`` and
    ``::`` for all); ``program`` is empty where only root may see it.
    """

    protocol: str
    address: str
    program: str = ""
    pid: int = 0


_EVERYWHERE = ("0.0.0.0", "::")


def dns_servers() -> tuple[DnsServer, ...]:
    """Who listens on port 53 of this host; programs of other users are named to root only."""
    if not which("ss"):
        return ()
    return parse_servers(run(["ss", "-Hlntup", "sport = :53"], check=False).stdout)


def parse_servers(text: str) -> tuple[DnsServer, ...]:
    """The servers in the output of ``ss -Hlntup`` (ss(8)), each once."""
    found = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 5:
            continue
        address = fields[4].rpartition(":")[0].partition("%")[0].strip("[]").replace("*", "0.0.0.0")
        program = re.search(r'\(\("([^"]+)",pid=(\d+)', line)
        name, pid = (program[1], int(program[2])) if program else ("", 0)
        found.append(DnsServer(fields[0], address, name, pid))
    return tuple(dict.fromkeys(found))


_BINDING: Mapping[str, str] = {
    "dnsmasq": "`bind-interfaces` and `except-interface={bridge}` in /etc/dnsmasq.d/",
    "named": "`listen-on {{ 127.0.0.1; … }};` in named.conf.options",
    "unbound": "`interface: 127.0.0.1` in unbound.conf",
    "systemd-resolve": "`DNSStubListenerExtra=` without 0.0.0.0 in resolved.conf",
    "docker-proxy": "publish it at an address: `-p 192.0.2.1:53:53/udp`",
    "pihole-FTL": "`dns.listeningMode` SINGLE and `dns.interface` in pihole.toml",
    "AdGuardHome": "`dns: bind_hosts:` with its own addresses in AdGuardHome.yaml",
    "coredns": "`bind` with its own addresses in the Corefile",
    "pdns_server": "`local-address` with its own addresses in pdns.conf",
    "pdns_recursor": "`local-address` with its own addresses in recursor.conf",
    "rootlessport": "publish it at an address: `-p 192.0.2.1:53:53/udp`",
    "aardvark-dns": "another `dns_bind_port` in containers.conf",
}
"""How a server is told to listen at addresses of its own; the kernel cuts names after 15 letters."""


def dns_in_the_way(cluster: Cluster, servers: Sequence[DnsServer]) -> tuple[str, str] | None:
    """The server that keeps libvirt's dnsmasq from the gateway's port 53, and how to bind it; None for none.

    One that listens for TCP at all addresses has that of the gateway as well: dnsmasq cannot listen there
    (EADDRINUSE), and the network does not start. For UDP alone both can.
    """
    gateway = str(cluster.network.gateway)
    taken = [
        server
        for server in servers
        if server.address == gateway or (server.address in _EVERYWHERE and server.protocol == "tcp")
    ]
    if not taken:
        return None
    first = next((server for server in taken if server.program), taken[0])
    who = f"{first.program} (process {first.pid})" if first.program else "a program (root sees which)"
    how = _BINDING.get(first.program, "have it listen at its own addresses only").format(
        bridge=cluster.network.bridge
    )
    where = "all addresses" if first.address != gateway else gateway
    return f"{who} has port 53 of {where}, which the network's own DNS server needs at {gateway}", (
        f"{how}; then restart it" if first.program in _BINDING else how
    )


MACHINES_OF_OTHERS = {
    "VBoxHeadless": "VirtualBox",
    "VirtualBoxVM": "VirtualBox",
    "VirtualBox": "VirtualBox",
    "vmware-vmx": "VMware",
}
"""Programs that run a machine with the processor's virtualization, by what they are part of."""


def other_hypervisors(proc: Path = PROC) -> tuple[str, ...]:
    """The other hypervisors that run a machine here now, each with a process of it."""
    found: dict[str, str] = {}
    for comm in proc.glob("[0-9]*/comm"):
        try:
            name = MACHINES_OF_OTHERS.get(comm.read_text().strip(), "")
        except OSError:
            continue  # it has ended
        if name:
            found.setdefault(name, f"{name} (process {comm.parent.name})")
    return tuple(found[name] for name in sorted(found))
