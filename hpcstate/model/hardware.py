"""How the virtual machines of a cluster are accelerated (``hardware.acceleration``)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CpuTopology:
    """Sockets, cores per socket and threads per core of a node."""

    sockets: int
    cores: int
    threads: int


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
