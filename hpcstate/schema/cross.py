"""Checks across the keys of a file, on the clusters that could be read. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from hpcstate.model import Cluster
from hpcstate.schema.section import Report


def check_clusters(clusters: Sequence[Cluster], report: Report) -> None:
    """What must hold within each cluster, and between the clusters of one file."""
    for cluster in clusters:
        _check_devices(cluster, report)
    for first, second in combinations(clusters, 2):
        _check_pair(first, second, report)


def device_places(cluster: Cluster) -> dict[str, tuple[str, str]]:
    """Each PCI device of the cluster: its address, then the place that declares it and the node."""
    places: dict[str, tuple[str, str]] = {}
    for node in cluster.nodes:
        for position, device in enumerate(node.passthrough):
            place = f"{node.place}.pcie_passthrough.devices[{position}].pci_address"
            places.setdefault(device.pci_address, (place, node.name))
    return places


def _check_devices(cluster: Cluster, report: Report) -> None:
    first = device_places(cluster)
    for node in cluster.nodes:
        for position, device in enumerate(node.passthrough):
            place = f"{node.place}.pcie_passthrough.devices[{position}].pci_address"
            owner_place, owner = first[device.pci_address]
            if device.pci_address and owner_place != place:
                report.error(
                    place,
                    f"the PCI device {device.pci_address} is already given to {owner}",
                    f"see line {report.line(owner_place)}: a device goes to one node",
                )


def _check_pair(first: Cluster, second: Cluster, report: Report) -> None:
    here = f".clusters.{second.kind}"
    if first.name == second.name:
        report.error(
            f"{here}.name",
            f"the cluster {first.kind} has the same name {first.name!r}",
            "libvirt domains and build/ folders are named after it",
        )
    both = first.network.is_of_the_site and second.network.is_of_the_site
    if both:
        taken = {node.address: node.name for node in first.nodes}
        for each in second.nodes:
            if each.address in taken:
                report.error(
                    f"{each.place}.ip",
                    f"{each.address} is that of {first.name}-{taken[each.address]}",
                    "give each node an address of its own",
                )
    elif first.network.subnet.overlaps(second.network.subnet):
        report.error(
            f"{here}.network.subnet",
            f"{second.network.subnet} overlaps {first.network.subnet} of the cluster {first.kind}",
            "take subnets without common addresses",
        )
    if first.network.bridge == second.network.bridge and not both:
        report.error(
            f"{here}.network.bridge",
            f"the bridge {first.network.bridge!r} belongs to the cluster {first.kind}",
            "each cluster has a bridge of its own",
        )
    if first.network.name == second.network.name and first.name != second.name:
        report.error(
            f"{here}.network.name",
            f"the network {first.network.name!r} belongs to the cluster {first.kind}",
            "each cluster has a libvirt network of its own",
        )
    for position, port in enumerate(second.network.ports):
        if any(port.meets(other.address, other.host, other.protocol) for other in first.network.ports):
            report.error(
                f"{here}.network.ports[{position}].host",
                f"the port {port.host} of {port.address} leads into the cluster {first.kind} already",
                "a port of the host leads to one node",
            )
    devices = device_places(first)
    for address, (place, node) in device_places(second).items():
        if address and address in devices:
            report.warning(
                place,
                f"{address} is also given to {first.name}-{devices[address][1]}; "
                f"{second.name}-{node} and it cannot run together",
                "start one of the two clusters at a time, or set auto_start: false on one of the nodes",
            )
