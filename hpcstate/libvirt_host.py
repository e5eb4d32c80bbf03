"""libvirt: networks and domains of a cluster. Everything is asked for by UUID, made if missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import libvirt

from hpcstate import libvirt_objects as objects
from hpcstate.cpu_placement import host_cells
from hpcstate.domain_compare import passed_through
from hpcstate.errors import HpcstateError
from hpcstate.host_packages import kvm_works
from hpcstate.libvirt_lookup import found, refuse_namesake
from hpcstate.libvirt_volumes import LibvirtVolumes
from hpcstate.model import Cluster, Node
from hpcstate.probe import local, pci

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


def _silence(_context: object, _error: object) -> None:
    """libvirt prints every error to stderr by itself; ours come as exceptions."""


libvirt.registerErrorHandler(_silence, None)


@contextmanager
def connect(uri: str, *, read_only: bool = False) -> Iterator[LibvirtHost]:
    """A connection to the hypervisor at ``uri``. Raises HpcstateError when nobody answers there."""
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
        raise HpcstateError(f"libvirt: {error.get_error_message()}", where=uri) from error
    finally:
        connection.close()


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

    def facts(self) -> objects.HypervisorFacts:
        """Whether KVM really works there, its cores, and which of them its PCI devices are near.

        A remote host is believed what it says of KVM, and its devices count as near no core.
        """
        capabilities = self.connection.getCapabilities()
        devices = pci.parse(local(pci.command())) if self.local else {}
        return objects.HypervisorFacts(
            kvm=kvm_works() if self.local else "<domain type='kvm'" in capabilities,
            cells=host_cells(capabilities),
            numa_nodes={address: device["numa_node"] for address, device in devices.items()},
        )

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

    # Looking ---------------------------------------------------------------------------------------------

    def network(self, cluster: Cluster) -> libvirt.virNetwork | None:
        """The cluster's network, None when it does not exist."""
        return found(self.connection.networkLookupByUUIDString, objects.cluster_uuid(cluster, "network"))

    def domain(self, cluster: Cluster, node: Node) -> libvirt.virDomain | None:
        """The domain of ``node``, None when it does not exist."""
        return found(self.connection.lookupByUUIDString, objects.cluster_uuid(cluster, node.name))

    def state(self, cluster: Cluster, node: Node) -> str:
        """``running``, ``stopped``, ... or ``absent``."""
        domain = self.domain(cluster, node)
        return "absent" if domain is None else STATES.get(domain.state()[0], "unknown")

    def has_crashed(self, cluster: Cluster, node: Node) -> bool:
        """Whether ``node`` is off because its emulator ended by itself, and not by a shutdown."""
        domain = self.domain(cluster, node)
        crashed = [libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED]
        return domain is not None and domain.state() == crashed

    def running_domains(self) -> list[str]:
        """The names of all domains that are on, ours and others."""
        return sorted(domain.name() for domain in self.connection.listAllDomains() if domain.isActive())

    def running_xml(self, cluster: Cluster, node: Node) -> str:
        """The XML that the domain of ``node`` runs with; empty when it is off."""
        domain = self.domain(cluster, node)
        return domain.XMLDesc() if domain is not None and domain.isActive() else ""

    def held_devices(self) -> dict[str, str]:
        """The PCI devices (``0000:01:00.0``) that running domains have, to the domain's name."""
        return {
            address: domain.name()
            for domain in self.connection.listAllDomains()
            if domain.isActive()
            for address in passed_through(domain.XMLDesc())
        }

    # Making ----------------------------------------------------------------------------------------------

    def ensure_network(self, cluster: Cluster) -> bool:
        """Define and start the network. True when something was done."""
        network = self.network(cluster)
        changed = network is None
        if network is None:
            refuse_namesake(self.connection.networkLookupByName, cluster.network.name, "network", self.uri)
            network = self.connection.networkDefineXML(objects.network_xml(cluster))
        if not network.isActive():
            try:
                network.create()
            except libvirt.libvirtError as error:
                raise HpcstateError(
                    f"the network could not be started: {error.get_error_message()}",
                    where=f".clusters.{cluster.kind}.network",
                    hint="another bridge or subnet of that name? without NAT on this host: `forward: none`",
                ) from error
            changed = True
        return changed

    def ensure_domain(self, cluster: Cluster, node: Node, facts: objects.HypervisorFacts) -> bool:
        """Define the domain and start it. True when it was started."""
        domain = self.domain(cluster, node)
        if domain is None:
            refuse_namesake(self.connection.lookupByName, cluster.domain_name(node), "domain", self.uri)
            domain = self.connection.defineXML(objects.domain_xml(cluster, node, facts))
        elif not domain.isActive():
            domain = self.connection.defineXML(objects.domain_xml(cluster, node, facts))
        if domain.isActive():
            if domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
                domain.resume()
                return True
            return False
        domain.create()
        return True

    def power_on(self, cluster: Cluster, node: Node) -> None:
        """Start the domain of ``node`` as it is defined."""
        domain = self.domain(cluster, node)
        if domain is not None:
            domain.create()

    def reset(self, cluster: Cluster, node: Node) -> None:
        """Press the reset button of a node that is on: its disks stay, its memory is lost."""
        domain = self.domain(cluster, node)
        if domain is not None:
            domain.reset()

    # Unmaking --------------------------------------------------------------------------------------------

    def power_off(self, cluster: Cluster, node: Node) -> None:
        """Pull the plug of a node that is on."""
        domain = self.domain(cluster, node)
        if domain is not None and domain.isActive():
            domain.destroy()

    def remove(self, cluster: Cluster) -> list[str]:
        """Remove domains, volumes, pool and network of the cluster; nothing else. What was removed."""
        removed = []
        for node in cluster.nodes:
            domain = self.domain(cluster, node)
            if domain is not None:
                self.power_off(cluster, node)
                domain.undefine()
                removed.append(f"domain {cluster.domain_name(node)}")
        removed += self.volumes.remove(cluster)
        network = self.network(cluster)
        if network is not None:
            if network.isActive():
                network.destroy()
            network.undefine()
            removed.append(f"network {cluster.network.name}")
        return removed
