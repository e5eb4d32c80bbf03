"""The machines of a cluster as libvirt has them, against the file; and the changes that need nobody's
leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count

import libvirt

from hpcstate.errors import HpcstateError
from hpcstate.hypervisor import autostart, backup_timer, ports
from hpcstate.hypervisor import xml as objects
from hpcstate.hypervisor.connection import LibvirtHost, state_of
from hpcstate.hypervisor.lookup import found
from hpcstate.hypervisor.machine import (
    MachineDifference,
    Shape,
    disk_difference,
    domain_differences,
    handed_on,
    image_difference,
    leased,
    moved,
    network_differences,
    network_updates,
    shape,
)
from hpcstate.hypervisor.mark import Mark, simulated_gpus
from hpcstate.hypervisor.removal import networks_of, size_words
from hpcstate.hypervisor.xml import HypervisorFacts
from hpcstate.model import Cluster, Node

_GIB = 1 << 30


def differences(host: LibvirtHost, cluster: Cluster) -> list[MachineDifference]:
    """Where what libvirt has of ``cluster`` is not what the file says: network, domains, disks, and nodes
    that the file no longer has. What is not there at all is no difference: ``start`` makes it.
    """
    facts = host.facts(cluster)
    network = host.network(cluster)
    every: list[MachineDifference] = []
    if network is not None:
        wanted, there = objects.network_xml(cluster), _network_xml(network)
        moving = _moving(host, cluster, wanted, there)
        # With these nothing of the network changes: what would is not said to.
        hidden = ("address", "leases and names") if moving else ()
        every += [row for row in network_differences(wanted, there) if row.name not in hidden]
        every += moving
    if cluster.network.is_of_the_site:
        every += [
            MachineDifference(node.name, "address", "another one", str(node.address), "stop")
            for node in cluster.nodes
            if host.volumes.has_other_address(cluster, node)
        ]
    domains = host.domains(cluster)
    defined_as = {name: domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) for name, domain in domains.items()}
    for node in cluster.nodes:
        domain = domains.get(node.name)
        rendered = objects.domain_xml(cluster, node, facts)
        if domain is None:
            continue
        defined = defined_as[node.name]
        rows = domain_differences(node.name, rendered, domain.XMLDesc(), defined)
        every += rows if domain.isActive() else [replace(row, impact="boot") for row in rows]
        every += _disk_differences(host, cluster, node)
    every += [
        MachineDifference(name, "node", state_of(domains[name]), "", "remove")
        for name in removed(host, cluster)
    ]
    every += autostart.differences(host, cluster, autostart.of_file(cluster))
    every += ports.differences(cluster)
    every += backup_timer.differences(cluster)
    leases = {} if network is None else leased(_network_xml(network))
    return every + handed_on(shapes(cluster, facts, defined_as), leases)


def shapes(cluster: Cluster, facts: HypervisorFacts, defined_as: Mapping[str, str]) -> dict[str, Shape]:
    """What tells the nodes that the file has, and those that are ``defined_as`` domains (XML by name), from
    each other; but for the controller, of which there is one. Pure."""
    found_here = {name: Shape(shape(xml), None, given=_given(xml)) for name, xml in defined_as.items()}
    for node in cluster.nodes:
        there = found_here.get(node.name, Shape(None, None))
        wanted = {**shape(objects.domain_xml(cluster, node, facts)), "simulated GPUs": simulated_gpus(node)}
        found_here[node.name] = replace(there, wanted=wanted, named=node.named, address=str(node.address))
    found_here.pop(cluster.controller.name)
    return found_here


def refuse_other_identity(cluster: Cluster, every: Sequence[MachineDifference]) -> None:
    """Raises HpcstateError when nodes would become others, on disks that are not theirs."""
    rows = [each for each in every if each.impact == "identity"]
    if not rows:
        return
    places = {node.name: node.place for node in cluster.nodes}
    gone = [each.what for each in every if each.impact == "remove"]
    then = _names_then(cluster, rows, gone)
    every_place = [node.place for node in cluster.nodes]
    groups = any(every_place.count(places[name]) > 1 for name in then)
    raise HpcstateError(
        "a node may have been taken out of the middle of the file, or put there: "
        + ", ".join(f"{row.found} would become what {row.wanted} is" for row in rows)
        + ", each on the disk of the other; nothing was touched",
        where=places[rows[0].what],
        hint="nodes without a name have that of their place. If it is so, write "
        + _names_at(cluster, then)
        + "; if each entry is what it was, only changed, or new at the end, write "
        + _names_at(cluster, _names_now(cluster, rows))
        + ("; an entry with `count` has to be one entry for each node then" if groups else ""),
    )


def _names_at(cluster: Cluster, names: Mapping[str, str]) -> str:
    """What to write where, for the nodes of ``names``."""
    written = [(names[node.name], node.place) for node in cluster.nodes if node.name in names]
    return ", ".join(f"`name: {name}` at {place}" for name, place in written)


def _names_then(cluster: Cluster, rows: Sequence[MachineDifference], gone: Sequence[str]) -> dict[str, str]:
    """The names to give where nodes moved: that of the disk to each; one that nobody has to the entry that
    has such a name by its place."""
    names = {row.what: row.wanted for row in rows}
    taken = {*names.values(), *gone, *(node.name for node in cluster.nodes if node.name not in names)}
    for node in cluster.nodes:
        if node.name in names or node.name not in names.values():
            continue
        free = (f"{node.role}-{number:02}" for number in count(1))
        names[node.name] = next(name for name in free if name not in taken)
        taken.add(names[node.name])
    return names


def _names_now(cluster: Cluster, rows: Sequence[MachineDifference]) -> dict[str, str]:
    """The names to give where nobody moved: those that the entries concerned have by their places."""
    here = {name for row in rows for name in (row.what, row.wanted)}
    return {node.name: node.name for node in cluster.nodes if node.name in here and not node.named}


def _given(domain_xml: str) -> bool:
    """Whether the file gave the name of a domain's node when it last passed."""
    mark = Mark.from_xml(domain_xml)
    return mark is not None and mark.named == "yes"


def removed(host: LibvirtHost, cluster: Cluster) -> list[str]:
    """The names of nodes that were made for ``cluster`` and that its file no longer has."""
    known = {node.name for node in cluster.nodes}
    return sorted(name for name in host.domains(cluster) if name not in known)


def update_network(host: LibvirtHost, cluster: Cluster, mark: Mark) -> list[str]:
    """Bring the leases and names of the cluster's network to those of the file, while it runs; one that no
    running domain has a card in is made anew when more than that is different. Returns what was done, in
    words.

    Raises HpcstateError when a node that runs would have another address: it keeps the one that it has, and
    nobody would find it there any more.
    """
    network = host.network(cluster)
    if network is None:
        return []
    wanted, there = objects.network_xml(cluster, mark), _network_xml(network)
    refuse_addresses(cluster, _moving(host, cluster, wanted, there))
    others = [each for each in network_differences(wanted, there) if each.impact == "stop"]
    if others and not _is_used(host, network.name()):
        was_active = network.isActive()
        if was_active:
            network.destroy()
        network = host.connection.networkDefineXML(wanted)
        if was_active:
            network.create()
        return [str(each) for each in others]
    sections = {
        "lease": libvirt.VIR_NETWORK_SECTION_IP_DHCP_HOST,
        "name": libvirt.VIR_NETWORK_SECTION_DNS_HOST,
    }
    flags = libvirt.VIR_NETWORK_UPDATE_AFFECT_CONFIG
    flags |= libvirt.VIR_NETWORK_UPDATE_AFFECT_LIVE if network.isActive() else 0
    updates = network_updates(wanted, there)
    for update in updates:
        command = (
            libvirt.VIR_NETWORK_UPDATE_COMMAND_DELETE
            if update.remove
            else libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST
        )
        network.update(command, sections[update.section], -1, update.xml, flags)
    return [f"network {network.name()}: {len(updates)} changes of leases and names"] if updates else []


def grow_disk(host: LibvirtHost, cluster: Cluster, node: Node) -> list[str]:
    """Give the disk and the data volume of a node that is off the sizes of the file; the file system of the
    disk follows as it boots (packer/seed/files/usr/lib/hpcstate/first-boot), that of the data volume with the
    next deploy. Which of them were smaller, in words.

    Raises HpcstateError where the file has a smaller one: what is at the end of a disk would be lost.
    """
    domain = host.domain(cluster, node)
    if domain is not None and (domain.isActive() or domain.hasManagedSaveImage()):
        return []  # QEMU has it open (also of a paused node), or its saved memory knows it as it is
    way_out = "a smaller disk takes a new node (hpcstate destroy)"
    grown = []
    place = f"{node.place}.disk_gb"
    if _grow(_disk(host, cluster, node), f"disk of {node.name}", node.disk_gb, place, way_out):
        grown.append("disk")
    place, way_out = f"{node.place}.data_gb", "a smaller one takes a new one (hpcstate destroy --data)"
    data = _data(host, cluster, node) if node.data_gb else None
    if _grow(data, f"data volume of {node.name}", node.data_gb, place, way_out):
        grown.append("data volume")
    return grown


def _grow(volume: libvirt.virStorageVol | None, what: str, size_gb: int, place: str, way_out: str) -> bool:
    size = size_gb * _GIB if volume is None else volume.info()[1]
    if size > size_gb * _GIB:
        raise HpcstateError(
            f"the {what} has {size / _GIB:g} GiB: it cannot shrink to {size_gb}",
            where=place,
            hint=f"set {place.rpartition('.')[2]} back; {way_out}",
        )
    if volume is None or size == size_gb * _GIB:
        return False
    volume.resize(size_gb * _GIB)
    return True


def refuse_held(cluster: Cluster, nodes: Sequence[Node], host: LibvirtHost) -> None:
    """Two clusters may name the same GPU, one at a time has it: HpcstateError that says which holds it."""
    lines = []
    for node in nodes:
        own = host.domain(cluster, node)
        held = host.held_devices(but=[own] if own is not None else [])
        lines += [
            f"{node.name} needs {device.pci_address}, which {held[device.pci_address]} holds"
            for device in node.passthrough
            if device.pci_address in held
        ]
    if lines:
        raise HpcstateError(
            "\n".join(lines), where=cluster.name, hint="stop that one first (hpcstate stop FILE --node NAME)"
        )


def refuse_moved(host: LibvirtHost, cluster: Cluster) -> None:
    """Raises HpcstateError when a node that runs would have another address."""
    network = host.network(cluster)
    if network is not None:
        wanted = objects.network_xml(cluster)
        refuse_addresses(cluster, _moving(host, cluster, wanted, _network_xml(network)))


def _moving(host: LibvirtHost, cluster: Cluster, wanted: str, there: str) -> list[MachineDifference]:
    """The nodes that run and would have another address."""
    leases = moved(wanted, there)
    return [
        MachineDifference(node.name, "address", *leases[node.mac], "address")
        for node in cluster.nodes
        if node.mac in leases and host.running_xml(cluster, node)
    ]


def refuse_addresses(cluster: Cluster, every: Sequence[MachineDifference]) -> None:
    """Raises HpcstateError when a node that runs would have another address."""
    rows = [each for each in every if each.impact == "address"]
    if rows:
        raise HpcstateError(
            "nodes that run would get other addresses: "
            + "; ".join(f"{row.what} has {row.found}, the file says {row.wanted}" for row in rows),
            where=f".clusters.{cluster.kind}.network",
            hint="put the addresses back in the file, `hpcstate stop FILE`, change them, then `start`",
        )


def _is_used(host: LibvirtHost, network: str) -> bool:
    """Whether a domain that runs, ours or not, has a card in the network of that name."""
    running = host.connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
    return any(network in networks_of(domain.XMLDesc()) for domain in running)


def _network_xml(network: libvirt.virNetwork) -> str:
    """What the network runs with: what was defined since counts only after it was off."""
    xml: str = network.XMLDesc()
    return xml


def _disk(host: LibvirtHost, cluster: Cluster, node: Node) -> libvirt.virStorageVol | None:
    pool = host.volumes.pool(cluster)
    return None if pool is None else found(pool.storageVolLookupByName, host.disk(cluster, node))


def _data(host: LibvirtHost, cluster: Cluster, node: Node) -> libvirt.virStorageVol | None:
    pool = host.volumes.pool(cluster)
    return None if pool is None else found(pool.storageVolLookupByName, objects.data_volume(node))


def data_volume(host: LibvirtHost, cluster: Cluster) -> str:
    """The data volume of ``cluster`` in words, which may be there without its machine; empty without one."""
    volume = _data(host, cluster, cluster.controller) if cluster.controller.data_gb else None
    return "" if volume is None else f"{volume.name()}, {size_words(volume)}"


def _disk_differences(host: LibvirtHost, cluster: Cluster, node: Node) -> list[MachineDifference]:
    volume = _disk(host, cluster, node)
    if volume is None:
        return []
    image = host.volumes.stands_on(cluster, volume.name())
    data = _data(host, cluster, node) if node.data_gb else None
    size_gb = node.data_gb if data is None else data.info()[1] / _GIB
    return [
        *disk_difference(node.name, volume.info()[1] / _GIB, node.disk_gb),
        *disk_difference(node.name, size_gb, node.data_gb, "size of its data volume"),
        *image_difference(node.name, image, host.volumes.base_name(node)),
    ]
