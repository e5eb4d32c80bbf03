"""A node: one virtual machine of a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Literal

from hpcstate.model.gpu import PassthroughDevice, SimulatedGpus
from hpcstate.model.gres import EXPLICIT, GresSettings
from hpcstate.model.mount import Mount

WRITTEN_NODE_KEYS: Mapping[str, str] = {
    **dict.fromkeys(
        ("nodename", "nodeaddr", "nodehostname", "state"), "it follows from the nodes of this file"
    ),
    **dict.fromkeys(
        ("boards", "corespersocket", "cpus", "procs", "sockets", "socketsperboard", "threadspercore"),
        "cpu_cores and hardware.acceleration.cpu_topology say it",
    ),
    "realmemory": "memory_gb says it",
    "gres": "simulated_gpus, pcie_passthrough and gres say it",
    **dict.fromkeys(("feature", "features"), "the key features adds to those that hpcstate sets"),
    "weight": "the key weight says it",
}
"""Keys of a NodeName line, in lower case, that hpcstate writes itself, and what says them in the file."""

Role = Literal["controller", "compute", "login", "control_plane", "worker"]


@dataclass(frozen=True)
class Node:
    """One virtual machine. ``name`` is its hostname and its Slurm NodeName.

    ``memory_mb`` is MiB, ``disk_gb`` GiB; ``mac`` is derived from cluster and node name, so that leases
    are stable; ``data_gb`` is the size of its data volume in GiB, 0 where it has none: only the controller of
    a Slurm cluster has one; ``named`` says that the file gives the name, else it is that of its place;
    ``gres_settings`` is the section ``gres``; ``place`` is where the file declares it
    (``.clusters.hpc.compute_nodes[0]``); ``mounts`` are its own and those of the cluster that it has;
    ``features`` are those of the file; ``weight`` and ``extra_slurm`` are keys of its NodeName line
    (slurm.conf(5), NODE CONFIGURATION); ``packages`` are Debian packages that it has beside those of all
    nodes.
    """

    name: str
    role: Role
    cpu_cores: int
    memory_mb: int
    disk_gb: int
    address: IPv4Address
    mac: str
    image: str
    place: str
    auto_start: bool = True
    passthrough: tuple[PassthroughDevice, ...] = ()
    simulated_gpus: SimulatedGpus | None = None
    gres_settings: GresSettings = EXPLICIT
    mounts: tuple[Mount, ...] = ()
    named: bool = False
    data_gb: int = 0
    features: tuple[str, ...] = ()
    weight: int = 1
    extra_slurm: Mapping[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()

    @property
    def gres_types(self) -> tuple[str, ...]:
        """The GRES type of each declared GPU or MIG instance, in declaration order; passed-through ones come
        first.
        """
        real = tuple(kind for device in self.passthrough for kind in device.gres_types)
        if self.simulated_gpus is None:
            return real
        return real + (self.simulated_gpus.gres_type,) * self.simulated_gpus.count

    @property
    def slurm_features(self) -> tuple[str, ...]:
        """What a job may ask for by ``--constraint``: what the node's GPUs are, then ``features``."""
        gpus = ("gpu", *self.gres_types) if self.gres_types else ()
        simulated = ("simulated",) if self.simulated_gpus else ()
        return tuple(dict.fromkeys((*gpus, *simulated, *self.features)))

    @property
    def gres(self) -> str:
        """Slurm's ``Gres=`` for this node (``gpu:2805:1,gpu:simulated:2,shard:12``), empty without GPUs."""
        types = self.gres_types
        items = [f"gpu:{kind}:{types.count(kind)}" for kind in dict.fromkeys(types)]
        if types and (shared := self.gres_settings.sharing):
            items.append(f"{shared[0]}:{shared[1] * len(types)}")
        return ",".join(items)
