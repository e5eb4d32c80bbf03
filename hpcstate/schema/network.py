"""``network`` and ``hardware`` of a cluster."""

from __future__ import annotations

import hashlib
from typing import Literal

from hpcstate.model import Acceleration, CpuTopology, Network
from hpcstate.schema import keys, leaf
from hpcstate.schema.section import NULL, Section


def read_network(section: Section, cluster_name: str) -> Network | None:
    """The network, or None when its subnet is missing or wrong (reported): then nothing can be placed."""
    subnet = section.value("subnet", leaf.subnet, None)
    if "subnet" not in section:
        section.missing("subnet")
    name = section.value("name", leaf.NETWORK_NAME, cluster_name)
    bridge = section.value("bridge", leaf.BRIDGE, default_bridge(cluster_name))
    gateway = section.value("gateway", leaf.address, None)
    forward: Literal["nat", "none"] = section.value("forward", leaf.forward, "nat")
    dns_servers = section.values("dns_servers", leaf.address)
    if subnet is None:
        return None
    if gateway is not None and (
        gateway not in subnet or gateway in (subnet.network_address, subnet.broadcast_address)
    ):
        section.report.error(
            section.at("gateway"),
            f"{gateway} is not an address for a host of {subnet}",
            f"leave it out for {subnet[1]}",
        )
    return Network(name, subnet, bridge, gateway or subnet[1], forward, dns_servers)


def default_bridge(cluster_name: str) -> str:
    """A bridge name of its own for each cluster: Linux allows 15 characters, so it is a digest."""
    return "virbr-" + hashlib.sha256(cluster_name.encode()).hexdigest()[:8]


def read_acceleration(hardware: Section) -> Acceleration:
    """``hardware.acceleration`` with the defaults of the model where a key is absent."""
    section = hardware.section("acceleration", keys.ACCELERATION)
    performance = section.section("performance", keys.PERFORMANCE)
    numa = section.section("numa_topology", keys.NUMA_TOPOLOGY)
    default = Acceleration()
    cpu_model = section.value(
        "cpu_model", leaf.choice("host", "host-passthrough", "host-model", "qemu64"), default.cpu_model
    )
    return Acceleration(
        enable_kvm=section.value("enable_kvm", leaf.boolean, default.enable_kvm),
        enable_nested=section.value("enable_nested", leaf.boolean, default.enable_nested),
        # "host" is QEMU's word for what libvirt calls host-passthrough.
        cpu_model="host-passthrough" if cpu_model == "host" else cpu_model,
        cpu_features=section.values("cpu_features", leaf.CPU_FEATURE),
        numa_nodes=numa.value("nodes", leaf.integer(1, 8), default.numa_nodes),
        cpu_topology=_read_topology(section),
        enable_hugepages=performance.value("enable_hugepages", leaf.boolean, default.enable_hugepages),
        hugepage_size=performance.value("hugepage_size", leaf.choice("2M", "1G"), default.hugepage_size),
        cpu_pinning=performance.value("cpu_pinning", leaf.boolean, default.cpu_pinning),
        memory_backing=performance.value(
            "memory_backing", leaf.choice("default", "hugepages", "memfd"), default.memory_backing
        ),
    )


def _read_topology(acceleration: Section) -> CpuTopology | None:
    if acceleration.raw("cpu_topology") in NULL:
        return None
    section = acceleration.section("cpu_topology", keys.CPU_TOPOLOGY)
    return CpuTopology(
        sockets=section.required("sockets", leaf.integer(1, 4), 1),
        cores=section.required("cores", leaf.integer(1, 64), 1),
        threads=section.required("threads", leaf.integer(1, 2), 1),
    )
