"""libvirt: networks and domains of a cluster. Everything is asked for by UUID and mark, made if missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from ipaddress import IPv4Network
from threading import Thread
from typing import NamedTuple

import libvirt

from hpcstate.errors import HpcstateError
from hpcstate.host.packages import kvm_works
from hpcstate.hypervisor import xml as objects
from hpcstate.hypervisor.compare import passed_through
from hpcstate.hypervisor.lookup import found, subnets_of
from hpcstate.hypervisor.mark import NAMESPACE, PREFIX, Mark, Stranger, owner_of
from hpcstate.hypervisor.messages import LOG, refused
from hpcstate.hypervisor.own import disk_before, keeping_names, with_disk_before, with_mark
from hpcstate.hypervisor.placement import host_cells
from hpcstate.hypervisor.rivals import dns_in_the_way, dns_servers
from hpcstate.hypervisor.volumes import LibvirtVolumes
from hpcstate.model import Cluster, Node
from hpcstate.probe import cpus, pci
from hpcstate.run import local
from hpcstate.schema.leaf import LeafError
from hpcstate.schema.libvirt_uri import libvirt_uri

_QEMU_FOR_TCG = 10_000_000
"""QEMU 10.0.0 in libvirt's numbers. 7.2 under TCG corrupts guests that run Go programs (double faults)."""

STATES = {
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_BLOCKED: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTDOWN: "stopping",
    libvirt.VIR_DOMAIN_SHUTOFF: "stopped",
    libvirt.VIR_DOMAIN_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "suspended",
}

OFF = ("absent", "stopped", "crashed", "saved")
"""States in which nothing of a node is in memory; a paused one still is."""

_REASONS = {
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR): "a disk of it had an error",
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER): "somebody paused it",
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_WATCHDOG): "its watchdog",
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_CRASHED): "its kernel crashed",
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_SNAPSHOT): "a snapshot of it is being made",
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED): "its emulator crashed",
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_FAILED): "it could not be started",
    (libvirt.VIR_DOMAIN_CRASHED, libvirt.VIR_DOMAIN_CRASHED_PANICKED): "its kernel panicked",
}
"""The reasons of libvirt (virDomain*Reason) that a person has to know."""

_DISK_ERRORS = {
    libvirt.VIR_DOMAIN_DISK_ERROR_NO_SPACE: "no space left where its file is",
    libvirt.VIR_DOMAIN_DISK_ERROR_UNSPEC: "I/O error",
}


def _silence(_context: object, _error: object) -> None:
    """libvirt prints every error to stderr by itself; ours come as exceptions."""


libvirt.registerErrorHandler(_silence, None)


_TEST_DRIVER = "test:///"
"""libvirt's mock, which knows no hypervisor and no transport (libvirt.org/drvtest.html): for tests."""


@contextmanager
def connect(uri: str, *, read_only: bool = False) -> Iterator[LibvirtHost]:
    """A connection to the hypervisor at ``uri``. Raises HpcstateError when nobody answers there, and for a
    URI that no cluster file may have, wherever it comes from: it could run programs.
    """
    if not uri.startswith(_TEST_DRIVER):
        try:
            libvirt_uri(uri)
        except LeafError as error:
            raise HpcstateError(f"expected {error.expected}", where=uri[:200], hint=error.hint) from error
    try:
        connection = libvirt.openReadOnly(uri) if read_only else libvirt.open(uri)
    except libvirt.libvirtError as error:
        raise HpcstateError(
            f"libvirt does not answer: {error.get_error_message()}",
            where=uri,
            hint="is libvirtd running, and may this user use it (group libvirt)? `./hpc up` starts one",
        ) from error
    try:
        yield LibvirtHost(connection, uri)
    except libvirt.libvirtError as error:
        raise refused(error.get_error_message(), uri) from error
    finally:
        connection.close()


class NetworkOfBridge(NamedTuple):
    """The network of libvirt's whose bridge a name is: one that is off has none on the host."""

    name: str
    uuid: str
    is_active: bool = True
    subnets: tuple[IPv4Network, ...] = ()


class LibvirtHost:
    """One hypervisor. ``volumes`` are the disks of its domains."""

    def __init__(self, connection: libvirt.virConnect, uri: str) -> None:
        self.connection = connection
        self.uri = uri
        self.volumes = LibvirtVolumes(connection, uri)

    @property
    def local(self) -> bool:
        """Whether the hypervisor is this machine."""
        return "://" not in self.uri or self.uri.split("://")[1].startswith("/")

    def facts(self, cluster: Cluster) -> objects.HypervisorFacts:
        """Whether ``cluster`` has KVM that really works there; where its CPUs are pinned also the cores, and
        which of them the PCI devices are near.

        A remote host is believed what it says of KVM, and its devices count as near no core. This machine is
        looked at without libvirt, whose capabilities may take 6 s to find out each time.
        """
        pinned = cluster.acceleration.cpu_pinning
        if not self.local:
            cells = host_cells(self._capabilities) if pinned else ()
        else:
            cells = cpus.parse(local(cpus.command())) if pinned else ()
        devices = pci.parse(local(pci.command())) if pinned and self.local else {}
        found_here = objects.HypervisorFacts(
            kvm=kvm_works() if self.local else "<domain type='kvm'" in self._capabilities,
            cells=cells,
            numa_nodes={address: device["numa_node"] for address, device in devices.items()},
        )
        return found_here.for_cluster(cluster)

    @cached_property
    def _capabilities(self) -> str:
        return str(self.connection.getCapabilities())

    @property
    def version(self) -> int:
        """libvirt's version: a million for each major, a thousand for each minor number."""
        return int(self.connection.getLibVersion())

    def check(self, facts: objects.HypervisorFacts) -> None:
        """Raises HpcstateError when guests would be damaged: TCG with QEMU before 10."""
        version = self.connection.getVersion()
        if not facts.kvm and version < _QEMU_FOR_TCG:
            number = f"{version // 1_000_000}.{version // 1000 % 1000}"
            raise HpcstateError(
                f"QEMU {number} without KVM corrupts guests that run Go programs; QEMU 10 or later is needed",
                where=self.uri,
                hint="./hpc installs it from Debian's backports; on other hosts upgrade QEMU or enable KVM",
            )

    # Whose it is -----------------------------------------------------------------------------------------

    def strangers(self, cluster: Cluster) -> list[Stranger]:
        """What stands where the cluster's own objects would, and belongs to somebody else."""
        found_here = [self._network_stranger(cluster)]
        found_here += [self._domain_stranger(cluster, node) for node in cluster.nodes]
        found_here.append(self.volumes.stranger(cluster))
        return [stranger for stranger in found_here if stranger is not None]

    def named_strangers(self, cluster: Cluster) -> list[Stranger]:
        """The strangers among domains and networks that are known by their marks or UUIDs: all that a
        read-only connection tells, which reads no volume.
        """
        found_here = [self._network_stranger(cluster, marked_only=True)]
        found_here += [self._domain_stranger(cluster, node, marked_only=True) for node in cluster.nodes]
        return [stranger for stranger in found_here if stranger is not None]

    def take(self, cluster: Cluster, mark: Mark, *, unmarked_only: bool = False) -> list[str]:
        """Write ``mark`` into what stands under the cluster's UUIDs; with ``unmarked_only`` where there is
        none yet, and what a mark notes of a node is brought to the file. Returns what was marked. Whether
        that is right the caller has to know.
        """
        taken = []
        network = self._network(cluster)
        if network is not None and not (unmarked_only and _mark(network)):
            xml = network.XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE)
            # virNetworkSetMetadata came with libvirt 9.7; a definition that differs in nothing else leaves
            # the network as it runs.
            self.connection.networkDefineXML(with_mark(xml, mark))
            taken.append(f"network {network.name()}")
        for node in cluster.nodes:
            domain = self._domain(cluster, node)
            if domain is None:
                continue
            old, new = _mark(domain), mark.of(node)
            if old is not None and unmarked_only:
                new = replace(old, named=new.named, simulated=new.simulated)
            elif old is not None and old.named:
                # A new owner is no new node: what it was stays known until a start has compared it.
                new = replace(new, named=old.named, simulated=old.simulated)
            if new == old:
                continue
            flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG
            flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE if domain.isActive() else 0
            kind = libvirt.VIR_DOMAIN_METADATA_ELEMENT
            domain.setMetadata(kind, new.to_element(), PREFIX, NAMESPACE, flags)
            if old is None or not unmarked_only:
                taken.append(f"domain {domain.name()}")
        if name := self.volumes.take(cluster, mark, unmarked_only=unmarked_only):
            taken.append(f"storage pool {name}")
        return taken

    def named_domains(self, cluster: Cluster) -> list[libvirt.virDomain]:
        """What stands where the cluster's domains would, whoever owns it."""
        there = [self._domain(cluster, node) for node in cluster.nodes]
        return [domain for domain in there if domain is not None]

    def _network(self, cluster: Cluster) -> libvirt.virNetwork | None:
        return found(self.connection.networkLookupByUUIDString, objects.cluster_uuid(cluster, "network"))

    def _domain(self, cluster: Cluster, node: Node) -> libvirt.virDomain | None:
        return found(self.connection.lookupByUUIDString, objects.cluster_uuid(cluster, node.name))

    def _is_own(self, cluster: Cluster, mark: Mark | None, node: Node | None = None) -> bool:
        """Whether an object with ``mark`` is the cluster's own: by its owner, or where it was made before
        there were marks, by the keys of ``node`` (None: of any of its nodes).
        """
        if mark is not None:
            return mark.owner == owner_of(cluster)
        if node is None:
            return self.volumes.recognised(cluster)
        return self.volumes.opened_by(cluster, node) is True

    def _network_stranger(self, cluster: Cluster, *, marked_only: bool = False) -> Stranger | None:
        network = self._network(cluster)
        if network is None:
            there = found(self.connection.networkLookupByName, cluster.network.name)
            return None if there is None else Stranger("network", cluster.network.name, _mark(there))
        mark = _mark(network)
        own = (marked_only and mark is None) or self._is_own(cluster, mark)
        return None if own else Stranger("network", network.name(), mark, ours_once=True)

    def _domain_stranger(self, cluster: Cluster, node: Node, *, marked_only: bool = False) -> Stranger | None:
        domain = self._domain(cluster, node)
        if domain is None:
            name = cluster.domain_name(node)
            there = found(self.connection.lookupByName, name)
            return None if there is None else Stranger("domain", name, _mark(there))
        mark = _mark(domain)
        own = (marked_only and mark is None) or self._is_own(cluster, mark, node)
        return None if own else Stranger("domain", domain.name(), mark, ours_once=True)

    # Looking ---------------------------------------------------------------------------------------------

    def network(self, cluster: Cluster) -> libvirt.virNetwork | None:
        """The cluster's own network, None when there is none."""
        network = self._network(cluster)
        return network if network is not None and self._is_own(cluster, _mark(network)) else None

    def domain(self, cluster: Cluster, node: Node) -> libvirt.virDomain | None:
        """The cluster's own domain of ``node``, None when there is none."""
        domain = self._domain(cluster, node)
        return domain if domain is not None and self._is_own(cluster, _mark(domain), node) else None

    def domains(self, cluster: Cluster) -> dict[str, libvirt.virDomain]:
        """The cluster's own domains by the node's name: those of the file, and those marked as its own whose
        node the file no longer has.
        """
        own = {node.name: self.domain(cluster, node) for node in cluster.nodes}
        owner = owner_of(cluster)
        for domain in self.connection.listAllDomains():
            mark = _mark(domain)
            if mark is not None and owner and (mark.owner, mark.cluster) == (owner, cluster.name):
                own.setdefault(mark.node, domain)
        return {name: domain for name, domain in own.items() if domain is not None}

    def state(self, cluster: Cluster, node: Node) -> str:
        """``running``, ``stopped``, ... or ``absent``."""
        domain = self.domain(cluster, node)
        return "absent" if domain is None else state_of(domain)

    def why(self, cluster: Cluster, node: Node) -> str:
        """libvirt's reason for the state of ``node`` in words; empty where there is nothing to say."""
        domain = self.domain(cluster, node)
        return "" if domain is None else reason_of(domain)

    def has_crashed(self, cluster: Cluster, node: Node) -> bool:
        """Whether ``node`` is off because its emulator ended by itself, and not by a shutdown."""
        domain = self.domain(cluster, node)
        crashed = [libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED]
        return domain is not None and domain.state() == crashed

    def bridges(self) -> dict[str, NetworkOfBridge]:
        """The bridge of each network, ours and others, on or off."""
        networks = self.connection.listAllNetworks()
        found_names = {network: _bridge_name(network) for network in networks}
        return {
            bridge: NetworkOfBridge(
                network.name(), network.UUIDString(), bool(network.isActive()), subnets_of(network.XMLDesc())
            )
            for network, bridge in found_names.items()
            if bridge
        }

    def running_uuids(self) -> frozenset[str]:
        """The UUIDs of all domains that are on, ours and others; one that is paused is on."""
        every = self.connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        return frozenset(domain.UUIDString() for domain in every)

    def running_xml(self, cluster: Cluster, node: Node) -> str:
        """The XML that the domain of ``node`` runs with; empty when it is off."""
        domain = self.domain(cluster, node)
        return domain.XMLDesc() if domain is not None and domain.isActive() else ""

    def held_devices(self, but: Sequence[libvirt.virDomain] = ()) -> dict[str, str]:
        """The PCI devices (``0000:01:00.0``) of running domains, ``but`` these, to the domain's name."""
        left_out = {domain.UUIDString() for domain in but}
        return {
            address: domain.name()
            for domain in self.connection.listAllDomains()
            if domain.isActive() and domain.UUIDString() not in left_out
            for address in passed_through(domain.XMLDesc())
        }

    # Making ----------------------------------------------------------------------------------------------

    def ensure_network(self, cluster: Cluster, mark: Mark) -> bool:
        """Define and start the network, with ``mark``. True when something was done."""
        network = self.network(cluster)
        changed = network is None
        if network is None:
            network = self.connection.networkDefineXML(objects.network_xml(cluster, mark))
        elif not network.isActive() and network.bridgeName() != cluster.network.bridge:
            # What a start left that failed on its bridge: the file has been corrected since.
            network = self.connection.networkDefineXML(objects.network_xml(cluster, mark))
        if not network.isActive():
            try:
                network.create()
            except libvirt.libvirtError as error:
                raise _network_refused(error, cluster) from error
            changed = True
        return changed

    def ensure_domain(self, cluster: Cluster, node: Node, facts: objects.HypervisorFacts, mark: Mark) -> bool:
        """Define the domain, with ``mark``, and start it. True when it was started.

        One that is off is defined anew; what people made of it (own.py) stays, and its disk. One whose memory
        libvirt has saved goes on from there, as it was defined then.
        """
        domain = self.domain(cluster, node)
        rendered = objects.domain_xml(cluster, node, facts, mark, self.disk(cluster, node))
        if domain is None:
            domain = self.connection.defineXML(rendered)
        elif not domain.isActive() and not domain.hasManagedSaveImage():
            defined = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
            domain = self.connection.defineXML(keeping_names(rendered, defined))
        if domain.isActive():
            if domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
                domain.resume()
                return True
            return False
        _create(domain, node)
        if domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
            domain.resume()  # it was paused when its memory was saved
        return True

    def disk(self, cluster: Cluster, node: Node) -> str:
        """The volume that is the disk of ``node``: the one of its domain; where that is not defined the one
        that is there; else the one to be made."""
        domain = self.domain(cluster, node)
        if domain is not None:
            return objects.disk_of(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        return next(iter(self.volumes.disks(cluster, node)), objects.disk_volume(node))

    def disk_before(self, cluster: Cluster, node: Node) -> str:
        """The volume that was the disk of ``node`` until it got a new one, which has not passed yet; empty
        when there is none."""
        domain = self.domain(cluster, node)
        return "" if domain is None else disk_before(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))

    def put_disk(self, cluster: Cluster, node: Node, disk: str, before: str = "") -> None:
        """Define the domain of ``node`` with the volume ``disk`` instead of the one that it has, and
        ``before`` as the one to go back to. One that runs has it at its next start."""
        domain = self.domain(cluster, node)
        assert domain is not None
        defined = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        self.connection.defineXML(with_disk_before(objects.with_disk(defined, disk), before))

    def power_on(self, cluster: Cluster, node: Node) -> None:
        """Start the domain of ``node`` as it is defined."""
        domain = self.domain(cluster, node)
        if domain is not None:
            _create(domain, node)

    def reset(self, cluster: Cluster, node: Node) -> None:
        """Press the reset button of a node that is on: its disks stay, its memory is lost."""
        domain = self.domain(cluster, node)
        if domain is not None:
            domain.reset()

    def power_off(self, cluster: Cluster, node: Node) -> None:
        """Pull the plug of a node that is on."""
        domain = self.domain(cluster, node)
        if domain is not None and domain.isActive():
            domain.destroy()


CREATE_SECONDS = 180.0
"""How long libvirt may take to start a domain with devices of the host. It takes them from their drivers, and
one that does not let go (a process has the device open, the card hangs) keeps it waiting for ever."""


def _create(domain: libvirt.virDomain, node: Node) -> None:
    """Start ``domain``, with a limit where it takes devices from drivers."""
    if node.passthrough:
        _create_within(domain, node)
    else:
        domain.create()


def _create_within(domain: libvirt.virDomain, node: Node) -> None:
    """Start ``domain``. Raises what libvirt raises, and HpcstateError when it does not answer in time."""
    outcome: Future[None] = Future()

    def create() -> None:
        try:
            outcome.set_result(domain.create())
        except BaseException as error:
            outcome.set_exception(error)

    # A daemon: a call that hangs in a driver must not keep this process from its end.
    Thread(target=create, daemon=True).start()
    try:
        outcome.result(CREATE_SECONDS)
    except TimeoutError:
        names = ", ".join(device.pci_address for device in node.passthrough)
        raise HpcstateError(
            f"libvirt did not start {node.name} within {CREATE_SECONDS:.0f} s: a driver of this host does "
            f"not let go of {names}",
            where=node.place,
            hint="dmesg shows it; hpcstate inventory pcie, as root, names the processes that have it open; "
            "deploys/vfio.py keeps it for guests from boot on",
        ) from None


def _network_refused(error: libvirt.libvirtError, cluster: Cluster) -> HpcstateError:
    said = refused(
        error.get_error_message(),
        f".clusters.{cluster.kind}.network",
        f"the network {cluster.network.name} could not be started",
    )
    if "port 53" in str(said.message) and (rival := dns_in_the_way(cluster, dns_servers())):
        said.message, said.hint = f"{rival[0]} ({said.message})", rival[1]
    if said.hint == LOG:
        said.hint = "another bridge or subnet of that name? without NAT on this host: `forward: none`"
    return said


def state_of(domain: libvirt.virDomain) -> str:
    """``running``, ``paused``, ``stopped``, ``saved`` (off, its memory kept by libvirt), ..."""
    state = STATES.get(domain.state()[0], "unknown")
    return "saved" if state == "stopped" and domain.hasManagedSaveImage() else state


def reason_of(domain: libvirt.virDomain) -> str:
    """Why a domain is paused, crashed or off by itself, in words; empty where that is as it should be."""
    words = _REASONS.get(tuple(domain.state()), "")
    if not words or not domain.isActive():
        return words
    try:
        errors = domain.diskErrors()
    except libvirt.libvirtError:
        return words
    said = [f"{disk}: {_DISK_ERRORS.get(number, 'I/O error')}" for disk, number in sorted(errors.items())]
    return ", ".join(said) or words


def _bridge_name(network: libvirt.virNetwork) -> str:
    try:
        return str(network.bridgeName())
    except libvirt.libvirtError:
        return ""  # a network on a card of the host has none


def _mark(thing: libvirt.virDomain | libvirt.virNetwork) -> Mark | None:
    """The mark of a domain or a network, as it is defined."""
    inactive = (
        libvirt.VIR_DOMAIN_XML_INACTIVE
        if isinstance(thing, libvirt.virDomain)
        else libvirt.VIR_NETWORK_XML_INACTIVE
    )
    return Mark.from_xml(thing.XMLDesc(inactive))
