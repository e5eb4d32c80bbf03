"""``network`` and ``hardware`` of a cluster."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from hpcstate.model import Acceleration, CpuTopology, Network, Node, PortForward
from hpcstate.schema.keys import (
    AccelerationKeys,
    CpuTopologyKeys,
    HardwareKeys,
    NetworkKeys,
    NumaTopologyKeys,
    PerformanceKeys,
    PortKeys,
)
from hpcstate.schema.leaf import closest
from hpcstate.schema.section import NULL, Section


def read_network(section: Section, cluster_name: str) -> Network | None:
    """The network, or None when its subnet is missing or wrong (reported): then nothing can be placed."""
    subnet = section.value(NetworkKeys.subnet)
    name = section.value(NetworkKeys.name) or cluster_name
    bridge = section.value(NetworkKeys.bridge) or default_bridge(cluster_name)
    gateway = section.value(NetworkKeys.gateway)
    forward = section.value(NetworkKeys.forward)
    dns_servers = section.values(NetworkKeys.dns_servers)
    if subnet is None:
        return None
    if gateway is not None and (
        gateway not in subnet or gateway in (subnet.network_address, subnet.broadcast_address)
    ):
        section.report.error(
            section.at(NetworkKeys.gateway),
            f"{gateway} is not an address for a host of {subnet}",
            f"leave it out for {subnet[1]}",
        )
    if forward == "bridge":
        _demand_site(section)
    return Network(name, subnet, bridge, gateway or subnet[1], forward, dns_servers)


def _demand_site(section: Section) -> None:
    """What only the site knows of its network; a guess of ours would take somebody's address."""
    for key, what in (
        (NetworkKeys.bridge, "the bridge of this host (ip link show type bridge)"),
        (NetworkKeys.gateway, "the router of the site's network"),
        (NetworkKeys.dns_servers, "the DNS servers of the site"),
    ):
        if key not in section:
            section.report.error(
                section.at(key), f"is missing: with forward: bridge it names {what}", f"add {key.name!r}"
            )
    if section.entries(NetworkKeys.ports):
        section.report.error(
            section.at(NetworkKeys.ports),
            "with forward: bridge nodes are reached at their own addresses",
            "leave ports out",
        )


def read_ports(section: Section, nodes: Sequence[Node]) -> tuple[PortForward, ...]:
    """The ports of the hypervisor that lead to ``nodes``, the first of which is the head node: where people
    log in, unless another one is named."""
    names = tuple(node.name for node in nodes)
    logins = (*(node.name for node in nodes if node.role == "login"), *names[:1])
    ports: list[PortForward] = []
    for entry in section.sections(NetworkKeys.ports):
        port = PortForward(
            host=entry.value(PortKeys.host),
            node=entry.value(PortKeys.node) or logins[0],
            port=entry.value(PortKeys.port),
            protocol=entry.value(PortKeys.protocol),
            address=entry.value(PortKeys.address),
        )
        if port.node not in names:
            hint = closest(port.node, names) or f"nodes: {', '.join(names[:10])}"
            entry.report.error(entry.at(PortKeys.node), f"no node is called {port.node!r}", hint)
        if port.protocol == "udp" and PortKeys.port not in entry:
            entry.report.error(
                entry.at(PortKeys.port), "is missing: 22 is a port of TCP", "write the UDP port of the node"
            )
        for position, other in enumerate(ports):
            if port.host and port.meets(other.address, other.host, other.protocol):
                entry.report.error(
                    entry.at(PortKeys.host),
                    f"the port {port.host} of {port.address} is that of ports[{position}] already",
                    "a port of the host leads to one node",
                )
        ports.append(port)
    return tuple(ports)


def default_bridge(cluster_name: str) -> str:
    """A bridge name of its own for each cluster: Linux allows 15 characters, so it is a digest."""
    return "virbr-" + hashlib.sha256(cluster_name.encode()).hexdigest()[:8]


def read_acceleration(hardware: Section) -> Acceleration:
    """``hardware.acceleration`` with the defaults of the model where a key is absent."""
    section = hardware.section(HardwareKeys.acceleration)
    performance = section.section(AccelerationKeys.performance)
    numa = section.section(AccelerationKeys.numa_topology)
    cpu_model = section.value(AccelerationKeys.cpu_model)
    return Acceleration(
        enable_kvm=section.value(AccelerationKeys.enable_kvm),
        enable_nested=section.value(AccelerationKeys.enable_nested),
        # "host" is QEMU's word for what libvirt calls host-passthrough.
        cpu_model="host-passthrough" if cpu_model == "host" else cpu_model,
        cpu_features=section.values(AccelerationKeys.cpu_features),
        numa_nodes=numa.value(NumaTopologyKeys.nodes),
        cpu_topology=_read_topology(section),
        enable_hugepages=performance.value(PerformanceKeys.enable_hugepages),
        hugepage_size=performance.value(PerformanceKeys.hugepage_size),
        cpu_pinning=performance.value(PerformanceKeys.cpu_pinning),
        memory_backing=performance.value(PerformanceKeys.memory_backing),
    )


def _read_topology(acceleration: Section) -> CpuTopology | None:
    if acceleration.raw(AccelerationKeys.cpu_topology) in NULL:
        return None
    section = acceleration.section(AccelerationKeys.cpu_topology)
    return CpuTopology(
        sockets=section.value(CpuTopologyKeys.sockets),
        cores=section.value(CpuTopologyKeys.cores),
        threads=section.value(CpuTopologyKeys.threads),
    )
