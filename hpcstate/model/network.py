"""The network of a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Literal


@dataclass(frozen=True)
class Network:
    """A libvirt network with a bridge of its own. The gateway is the host's address in it.

    ``forward`` is libvirt's forward mode: ``nat`` (nodes reach out), ``none`` (isolated).
    ``dns_servers`` are forwarders for the nodes, empty for the host's own.
    """

    name: str
    subnet: IPv4Network
    bridge: str
    gateway: IPv4Address
    forward: Literal["nat", "none"] = "nat"
    dns_servers: tuple[IPv4Address, ...] = ()
