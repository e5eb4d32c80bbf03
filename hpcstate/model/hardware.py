"""How the virtual machines of a cluster are accelerated (``hardware.acceleration``)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CpuTopology:
    """Sockets, cores per socket and threads per core of a node."""

    sockets: int
    cores: int
    threads: int

    @property
    def cpus(self) -> int:
        """The CPUs of a node that has it."""
        return self.sockets * self.cores * self.threads


@dataclass(frozen=True)
class Acceleration:
    """What libvirt is asked for. ``enable_kvm`` is a wish: without working KVM the nodes run under TCG.

    ``hugepage_size`` is ``2M`` or ``1G``; ``memory_backing`` is ``default``, ``hugepages`` or ``memfd``.
    """

    enable_kvm: bool = True
    enable_nested: bool = False
    cpu_model: str = "host-model"
    cpu_features: tuple[str, ...] = ()
    numa_nodes: int = 0
    cpu_topology: CpuTopology | None = None
    enable_hugepages: bool = False
    hugepage_size: str = "2M"
    cpu_pinning: bool = False
    memory_backing: str = "default"

    @property
    def hugepages(self) -> bool:
        """Whether the memory is backed by huge pages; two keys of the file can ask for it."""
        return self.enable_hugepages or self.memory_backing == "hugepages"

    @property
    def page_mb(self) -> int:
        """MiB of which the memory of a node, and of each of its NUMA nodes, must be a multiple."""
        return {"2M": 2, "1G": 1024}[self.hugepage_size] if self.hugepages else 1

    def topology_of(self, cpu_cores: int) -> CpuTopology:
        """The declared topology where it makes ``cpu_cores`` CPUs, else one socket of as many cores.

        It is declared for a cluster and cannot fit all its nodes; libvirt refuses one whose product is not
        the number of CPUs.
        """
        declared = self.cpu_topology
        if declared and declared.cpus == cpu_cores:
            return declared
        return CpuTopology(sockets=1, cores=cpu_cores, threads=1)

    @property
    def guest_features(self) -> tuple[tuple[str, str], ...]:
        """CPU features to name under KVM, each with libvirt's policy; ``cpu_features`` wins over the rest.

        ``optional`` is what the host has; nested virtualization is vmx on Intel and svm on AMD.
        """
        named = {
            feature.lstrip("+-"): "disable" if feature.startswith("-") else "optional"
            for feature in self.cpu_features
        }
        nested = {"vmx": "optional", "svm": "optional"} if self.enable_nested else {}
        return tuple((nested | named).items())
