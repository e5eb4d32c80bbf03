"""What libvirt has against what the file says: the difference, property by property, and what a change
costs. Pure.

A property is a row of a table: how it is read out of libvirt's XML, and its impact. Both sides are read by
the same row, the rendered XML and the one that libvirt has: libvirt adds to what it is given (aliases,
addresses, units of its own), so that only what was asked for is compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, replace
from typing import Literal
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from hpcstate.hypervisor.compare import IN_THE_GUEST, aspects
from hpcstate.hypervisor.mark import Mark
from hpcstate.hypervisor.xml import data_of

Impact = Literal[
    "live", "boot", "power-cycle", "stop", "grow", "never", "replace", "remove", "identity", "address"
]
"""What it takes to bring something into line: nothing that anybody notices; the next start of a node that is
off; the node off and on; the whole cluster off and on; more room at the node's next boot; it cannot be; a
new disk; a node that the file no longer has goes; a node would become another one, on its disk; a
node that runs would have another address."""

IMPACTS: Mapping[Impact, str] = {
    "live": "at once, nothing notices",
    "boot": "at the node's next start",
    "power-cycle": "the node goes off and on",
    "stop": "all nodes go off and on: hpcstate stop, then start",
    "grow": "at the node's next start",
    "never": "a disk cannot shrink: set its size back, or destroy",
    "replace": "hpcstate roll start",
    "remove": "hpcstate start --remove",
    "identity": "refused: give the nodes of the file a name, so that each keeps its disk",
    "address": "refused while it runs: hpcstate stop with the old file, then change it, then start",
}
"""The same in words."""

REFUSED = ("never", "identity", "address")
"""The impacts that no command brings about: the file has to change, or the cluster to stop first."""

BY_COMMAND = ("stop", "replace", "remove")
"""The impacts that `./hpc up` leaves to a person: a command of its own brings them about."""


@dataclass(frozen=True)
class MachineDifference:
    """``what`` (a node, or the network) has ``found`` as its property ``name``, and the file says
    ``wanted``."""

    what: str
    name: str
    found: str
    wanted: str
    impact: Impact

    def __str__(self) -> str:
        change = f"{self.found or 'none'} -> {self.wanted or 'none'}"
        return f"{self.what}: {self.name} {change} ({IMPACTS[self.impact]})"


@dataclass(frozen=True)
class Property:
    """A row of a table: ``read`` gives the value in words, empty for none. ``defined`` is for what libvirt
    writes in other words in the XML of a domain that runs: then the definition is read."""

    name: str
    read: Callable[[Element], str]
    impact: Impact
    defined: bool = False


_UNIT_BYTES = {"bytes": 1, "b": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def _memory(root: Element) -> str:
    memory = root.find("memory")
    if memory is None:
        return ""
    return f"{int(memory.text or 0) * _UNIT_BYTES[memory.get('unit', 'KiB')] >> 20} MiB"


def _topology(root: Element) -> str:
    topology = root.find("cpu/topology")
    if topology is None:
        return ""
    names = ("sockets", "cores", "threads")
    return " x ".join(f"{topology.get(name, '1')} {name}" for name in names)


def _cells(root: Element) -> str:
    cells = root.findall("cpu/numa/cell")
    return ", ".join(f"CPUs {cell.get('cpus')}" for cell in cells)


def _cpu_model(root: Element) -> str:
    cpu = root.find("cpu")
    if cpu is None:
        return ""
    return str(cpu.findtext("model") or cpu.get("mode", ""))


def _cpu_features(root: Element) -> str:
    features = root.findall("cpu/feature")
    return ", ".join(sorted(f"{feature.get('policy')} {feature.get('name')}" for feature in features))


def _machine(root: Element) -> str:
    """The kind of machine, ``q35`` of ``pc-q35-10.0``. libvirt writes the version of its QEMU into a
    definition; each start of a node defines it anew, with that of the QEMU of then."""
    machine = _attribute(root, "os/type", "machine")
    return re.sub(r"^pc-(q35|i440fx)-.*$", r"\1", machine)


def _disk_driver(root: Element) -> str:
    driver = root.find("devices/disk[@device='disk']/driver")
    words = ("cache", "io")
    return (
        ""
        if driver is None
        else ", ".join(f"{word} {driver.get(word)}" for word in words if driver.get(word))
    )


def _backing(root: Element) -> str:
    words = (
        _attribute(root, "memoryBacking/source", "type"),
        _attribute(root, "memoryBacking/access", "mode"),
    )
    return ", ".join(word for word in words if word)


def _shares(root: Element) -> str:
    """The folders of the hypervisor, as ``/data/shared as share, read-only``."""
    found = [
        f"{_attribute(share, 'source', 'dir')} as {_attribute(share, 'target', 'dir')}"
        + (", read-only" if share.find("readonly") is not None else "")
        for share in root.iterfind("devices/filesystem")
    ]
    return "; ".join(sorted(found))


def _interface(root: Element) -> str:
    interfaces = root.findall("devices/interface")
    return ", ".join(
        f"{_attribute(interface, 'mac', 'address')} on {_attribute(interface, 'source', 'network')}"
        for interface in interfaces
    )


def _attribute(element: Element, path: str, name: str) -> str:
    child = element.find(path)
    return "" if child is None else child.get(name, "")


DOMAIN: tuple[Property, ...] = (
    Property("memory", _memory, "power-cycle"),
    Property("CPUs", lambda root: root.findtext("vcpu", ""), "power-cycle"),
    Property("CPU topology", _topology, "power-cycle"),
    Property("NUMA cells", _cells, "power-cycle"),
    Property("CPU model", _cpu_model, "power-cycle", defined=True),
    Property("CPU features", _cpu_features, "power-cycle", defined=True),
    Property(
        "emulation", lambda root: {"kvm": "KVM", "qemu": "TCG"}.get(root.get("type", ""), ""), "power-cycle"
    ),
    Property("machine", _machine, "power-cycle"),
    Property("disk access", _disk_driver, "power-cycle"),
    Property("memory backing", _backing, "power-cycle"),
    Property("network interface", _interface, "power-cycle"),
    Property("data volume", data_of, "power-cycle"),
    Property("shared folders", _shares, "power-cycle"),
)


def _hosts(root: Element) -> list[str]:
    return [ElementTree.tostring(_bare(host), encoding="unicode") for host in root.iterfind("ip/dhcp/host")]


def _names(root: Element) -> list[str]:
    return [ElementTree.tostring(_bare(host), encoding="unicode") for host in root.iterfind("dns/host")]


def _bare(element: Element) -> Element:
    """``element`` with its attributes in one order and without the white space between its children."""
    copy = Element(element.tag, {name: element.attrib[name] for name in sorted(element.attrib)})
    copy.text = (element.text or "").strip() or None
    copy.extend(_bare(child) for child in element)
    return copy


def _forwarders(root: Element) -> str:
    return ", ".join(forwarder.get("addr", "") for forwarder in root.iterfind("dns/forwarder"))


def _address(root: Element) -> str:
    address = root.find("ip")
    if address is None:
        return ""
    from ipaddress import IPv4Interface

    length = address.get("prefix") or address.get("netmask", "")
    return str(IPv4Interface(f"{address.get('address')}/{length}"))


NETWORK: tuple[Property, ...] = (
    Property("address", _address, "stop"),
    Property("bridge", lambda root: _attribute(root, "bridge", "name"), "stop"),
    Property("forward", lambda root: _attribute(root, "forward", "mode"), "stop"),
    Property("DNS servers", _forwarders, "stop"),
    Property("DNS domain", lambda root: _attribute(root, "domain", "name"), "stop"),
)


Section = Literal["lease", "name"]


@dataclass(frozen=True)
class NetworkUpdate:
    """One change of a running network (virNetworkUpdate): ``section`` is ``lease`` or ``name``, ``xml`` the
    element."""

    section: Section
    remove: bool
    xml: str


def domain_differences(node: str, rendered: str, running: str, defined: str) -> list[MachineDifference]:
    """Where the domain of ``node`` is not as it is ``rendered``; ``running`` is what it runs with (the same
    as ``defined`` when it is off), ``defined`` its definition. XML, all three."""
    wanted = ElementTree.fromstring(rendered)
    roots = {False: ElementTree.fromstring(running), True: ElementTree.fromstring(defined)}
    rows: list[tuple[str, str, str, Impact]] = [
        (row.name, row.read(roots[row.defined]), row.read(wanted), row.impact) for row in DOMAIN
    ]
    there, meant = dict(aspects(running)), dict(aspects(rendered))
    rows += [
        (name, there.get(name, ""), meant.get(name, ""), "power-cycle")
        for name in dict.fromkeys((*meant, *there))
    ]
    return [
        MachineDifference(node, name, found, should, impact)
        for name, found, should, impact in rows
        if found != should
    ]


@dataclass(frozen=True)
class Shape:
    """What a node is, of which another may take the place: its properties by name, as it was ``found`` (None
    for one that is not there) and as the file has it, ``wanted`` (None for one that it no longer has).
    ``named`` says that the file gives its name, ``given`` that the file did so when the node last passed,
    ``address`` is the one that the file has for it.
    """

    found: Mapping[str, str] | None
    wanted: Mapping[str, str] | None
    named: bool = False
    address: str = ""
    given: bool = False


def shape(domain_xml: str) -> dict[str, str]:
    """The properties of a domain that tell one node from another: sizes and devices of the host, where those
    are in the guest left out; and its simulated GPUs, where its mark knows them."""
    root = ElementTree.fromstring(domain_xml)
    values = {row.name: row.read(root) for row in DOMAIN if row.name in ("memory", "CPUs")}
    devices = [name for name, place in aspects(domain_xml) if name.endswith(IN_THE_GUEST) and place]
    mark = Mark.from_xml(domain_xml)
    noted = {"simulated GPUs": mark.simulated} if mark is not None and mark.named else {}
    return {**values, "devices": ", ".join(sorted(devices)), **noted}


def _alike(one: Mapping[str, str] | None, other: Mapping[str, str] | None) -> bool:
    """Whether two are the same in all that is known of both."""
    if one is None or other is None:
        return one is other
    return all(one[name] == other[name] for name in one.keys() & other.keys())


def handed_on(shapes: Mapping[str, Shape], leases: Mapping[str, str]) -> list[MachineDifference]:
    """Nodes without a name of their own that would become what another one is, on that one's disk: a node
    was taken out of the middle of the file, or put there, and those behind it moved. A row says which node
    of the file (by its name now) is to be given which name, each at most once.

    Recognised by this: a node is to have the address of another one that is there (``leases``, by name). Of
    those that no address tells: one that is there is to become what another one is, which goes or changes
    too; or one that comes is to become what it is, as long as there is one for each that changes (a new node
    of a size that several had tells nothing). And a node whose name the file gave and gives no more, while
    one with the name of its place goes.
    """
    holders = {address: name for name, address in leases.items() if name in shapes and shapes[name].found}
    by_address = {
        name: its
        for name, node in shapes.items()
        if not node.named and (its := holders.get(node.address, name)) != name
    }
    known = by_address.keys() | by_address.values()
    moves = [
        name
        for name, node in sorted(shapes.items())
        if not _alike(node.found, node.wanted) and name not in known
    ]
    # Who is named in the file is what it is, and nobody else becomes it.
    free = [name for name in moves if not shapes[name].named]
    pairs: dict[str, str] = {}
    for name in free:
        node = shapes[name]
        if node.found is not None and node.wanted is not None:
            was = [
                other
                for other in free
                if other != name and shapes[other].found is not None
                and _alike(shapes[other].found, node.wanted) and other not in pairs.values()
            ]  # fmt: skip
            if was:
                pairs[name] = was[0]
    left = [name for name in free if shapes[name].found is not None and shapes[name].wanted is not None]
    left = [name for name in left if name not in pairs.values()]
    coming = [name for name in free if shapes[name].found is None]
    while left:
        same = [name for name in left if _alike(shapes[name].found, shapes[left[0]].found)]
        comes = [
            name
            for name in coming
            if name not in pairs and _alike(shapes[name].wanted, shapes[left[0]].found)
        ]
        if len(comes) >= len(same):
            pairs.update(zip(comes, same, strict=False))
        left = [name for name in left if name not in same]
    lost = _names_lost(shapes, known)
    pairs = {name: its for name, its in pairs.items() if its not in lost.values()} | lost | by_address
    return [MachineDifference(name, "identity", name, its, "identity") for name, its in sorted(pairs.items())]


def _names_lost(shapes: Mapping[str, Shape], known: Set[str]) -> dict[str, str]:
    """The entries that may be other nodes because one with a given name was taken out, and that name is now
    that of a place: to the nodes that they may be, in their order. ``known`` are told by their addresses."""
    nodes = {name: node for name, node in shapes.items() if name not in known}
    lost = [name for name, node in nodes.items() if node.given and node.wanted is not None and not node.named]
    gone = [name for name, node in nodes.items() if node.found and node.wanted is None and not node.given]
    if not lost or not gone:
        return {}
    entries = [name for name, node in nodes.items() if node.wanted is not None and not node.named]
    there = sorted(name for name, node in nodes.items() if node.found and not node.given and not node.named)
    if len(entries) != len(there):
        return dict(zip(lost, gone, strict=False))
    return {name: its for name, its in zip(sorted(entries), there, strict=True) if name != its}


def network_differences(rendered: str, found: str) -> list[MachineDifference]:
    """Where the network ``found`` (XML, from libvirt) is not as it is ``rendered``: what its nodes notice."""
    wanted, there = ElementTree.fromstring(rendered), ElementTree.fromstring(found)
    name = f"network {there.findtext('name', '')}"
    rows = [
        MachineDifference(name, row.name, row.read(there), row.read(wanted), row.impact)
        for row in NETWORK
        if row.read(there) != row.read(wanted)
    ]
    if "bridge" in (
        ours := _attribute(wanted, "forward", "mode"),
        theirs := _attribute(there, "forward", "mode"),
    ):
        # What libvirt knows of a network of its own is nothing to it in one of the site.
        rows = [row for row in rows if row.name in ("bridge", "forward")]
        if ours != theirs:
            wording = f"{ours or 'none'}: recreate the network"
            rows = [MachineDifference(name, "forward", theirs or "none", wording, "stop")]
        return rows
    updates = network_updates(rendered, found)
    if updates:
        before, after = (len(_hosts(root)) + len(_names(root)) for root in (there, wanted))
        gone = sum(update.remove for update in updates)
        new = len(updates) - gone
        changed = min(gone, new)
        numbers = ((changed, "changed"), (gone - changed, "removed"), (new - changed, "added"))
        words = ", ".join(f"{number} {word}" for number, word in numbers if number)
        rows.append(MachineDifference(name, "leases and names", f"{before}", f"{after} ({words})", "live"))
    return rows


def network_updates(rendered: str, found: str) -> list[NetworkUpdate]:
    """What brings the leases and names of the network ``found`` to those ``rendered``: the old ones go
    first, because libvirt refuses a second lease for an address."""
    wanted, there = ElementTree.fromstring(rendered), ElementTree.fromstring(found)
    updates: list[NetworkUpdate] = []
    sections: tuple[tuple[Section, Callable[[Element], list[str]]], ...] = (
        ("lease", _hosts),
        ("name", _names),
    )
    for section, read in sections:
        before, after = read(there), read(wanted)
        updates += [NetworkUpdate(section, True, xml) for xml in before if xml not in after]
        updates += [NetworkUpdate(section, False, xml) for xml in after if xml not in before]
    return updates


def leased(network_xml: str) -> dict[str, str]:
    """The addresses of a network's leases, by the names of the nodes."""
    hosts = ElementTree.fromstring(network_xml).iterfind("ip/dhcp/host")
    return {host.get("name", ""): host.get("ip", "") for host in hosts}


def moved(rendered: str, found: str) -> dict[str, tuple[str, str]]:
    """The leases that change their address: MAC address to the one that the network ``found`` has and the
    one that is ``rendered``."""
    wanted, there = (
        {
            host.get("mac", ""): host.get("ip", "")
            for host in ElementTree.fromstring(xml).iterfind("ip/dhcp/host")
        }
        for xml in (rendered, found)
    )
    return {mac: (there[mac], ip) for mac, ip in wanted.items() if there.get(mac, ip) != ip}


def disk_difference(
    node: str, found_gb: float, wanted_gb: int, name: str = "disk"
) -> list[MachineDifference]:
    """Where the disk of ``node`` (or the volume of it called ``name``) is not as large as the file says, in
    GiB."""
    if found_gb == wanted_gb:
        return []
    impact: Impact = "grow" if wanted_gb > found_gb else "never"
    return [MachineDifference(node, name, f"{found_gb:g} GiB", f"{wanted_gb} GiB", impact)]


def image_difference(node: str, found: str, wanted: str) -> list[MachineDifference]:
    """Where the disk of ``node`` stands on the volume ``found`` and the image would be ``wanted``; one that
    is not known (empty) is none."""
    if not found or not wanted or found == wanted:
        return []
    return [MachineDifference(node, "image", found, wanted, "replace")]


def autostart_difference(what: str, found: bool, wanted: bool) -> list[MachineDifference]:
    """Where libvirt starts ``what`` (a node, the network, the storage pool) as the hypervisor boots, and
    should not, or the other way round."""
    words = {True: "on", False: "off"}
    return (
        [] if found == wanted else [MachineDifference(what, "autostart", words[found], words[wanted], "live")]
    )


def summed(differences: Iterable[MachineDifference]) -> list[str]:
    """The same in words, a line for all that have the same difference."""
    groups: dict[MachineDifference, list[str]] = {}
    for each in differences:
        groups.setdefault(replace(each, what=""), []).append(each.what)
    return [str(replace(each, what=", ".join(what))) for each, what in groups.items()]


def contrary(differences: Iterable[MachineDifference]) -> dict[str, list[MachineDifference]]:
    """The nodes of which one size grows while another shrinks, with what differs of them: there is no order
    in which Slurm would not promise too much."""
    every: dict[str, list[MachineDifference]] = {}
    for each in differences:
        if each.impact == "power-cycle":
            every.setdefault(each.what, []).append(each)
    return {
        name: own
        for name, own in every.items()
        if any(map(shrinks, own))
        and any(each.name in ("memory", "CPUs") and not shrinks(each) for each in own)
    }


def contrary_line(name: str, own: Iterable[MachineDifference]) -> str:
    """What ``own`` differences of the node ``name`` are refused for."""
    return f"{name} would grow and shrink at once: {'; '.join(map(str, own))}"


CONTRARY_WAY = "change one of the two, run `up`, then the other"


def shrinks(difference: MachineDifference) -> bool:
    """Whether Slurm has to promise less before the change: the memory or the CPUs of a node become fewer, or
    a device of the host is taken from it."""
    if difference.name.endswith(IN_THE_GUEST):
        return not difference.wanted
    if difference.name not in ("memory", "CPUs"):
        return False
    found, wanted = (int((text or "0").split()[0]) for text in (difference.found, difference.wanted))
    return wanted < found
