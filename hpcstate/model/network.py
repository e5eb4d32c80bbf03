"""The network of a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Literal

Forward = Literal["nat", "route", "none", "bridge"]
"""libvirt's forward modes (formatnetwork, "Connectivity"): nodes reach out behind the host's address, with
their own, or not at all; ``bridge``: they are in the site's network, by a bridge that the host has."""

Protocol = Literal["tcp", "udp"]


EVERY_ADDRESS = IPv4Address("0.0.0.0")
"""All addresses of a host, to listen at (ip(7), INADDR_ANY)."""


@dataclass(frozen=True)
class PortForward:
    """A port of the hypervisor that leads to one of a node: ``host`` at its ``address``, all of them for
    0.0.0.0, to ``port`` of the node called ``node``."""

    host: int
    node: str
    port: int = 22
    protocol: Protocol = "tcp"
    address: IPv4Address = EVERY_ADDRESS

    def meets(self, address: IPv4Address, port: int, protocol: Protocol) -> bool:
        """Whether nobody can listen at both, this and ``port`` of ``address`` (bind(2), EADDRINUSE)."""
        same = self.address == address or EVERY_ADDRESS in (self.address, address)
        return (self.host, self.protocol) == (port, protocol) and same


@dataclass(frozen=True)
class Network:
    """A libvirt network with a bridge of its own. The gateway is the host's address in it.

    ``forward`` is libvirt's forward mode. ``dns_servers`` are forwarders for the nodes, empty for the host's
    own. ``ports`` are the ports of the hypervisor that lead to nodes.

    With ``bridge`` all of it is the site's: the bridge, the subnet, in which others are too, the router and
    the DNS servers; nodes have their addresses from their seeds, not from libvirt.
    """

    name: str
    subnet: IPv4Network
    bridge: str
    gateway: IPv4Address
    forward: Forward = "nat"
    dns_servers: tuple[IPv4Address, ...] = ()
    ports: tuple[PortForward, ...] = ()

    @property
    def is_of_the_site(self) -> bool:
        """Whether others than the cluster are in ``subnet``."""
        return self.forward == "bridge"
