"""A cluster and the file that describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hpcstate.errors import Problem
from hpcstate.model.account import Group, User
from hpcstate.model.accounting import AccountingSettings
from hpcstate.model.backup import BackupSettings
from hpcstate.model.container import ContainerSettings
from hpcstate.model.directory import LdapDirectory
from hpcstate.model.hardware import Acceleration
from hpcstate.model.health import HealthSettings
from hpcstate.model.mail import MailSettings
from hpcstate.model.monitoring import MonitoringSettings
from hpcstate.model.network import Network
from hpcstate.model.node import Node
from hpcstate.model.partition import Partition
from hpcstate.model.roll import RollSettings
from hpcstate.model.site import Site

DERIVED_PARAMETERS = frozenset(
    ("clustername", "slurmctldhost", "nodename", "partitionname", "nodeset", "include")
)
"""Parameters of slurm.conf, in lower case, that come from the rest of the file and nowhere else."""


def is_derived(parameter: str) -> bool:
    """Whether a user cannot set ``parameter`` of slurm.conf; case does not count there (slurm.conf(5))."""
    return parameter.lower() in DERIVED_PARAMETERS


Home = Literal["nfs", "virtio_fs", "local"]
"""Where people's homes are: on the controller's data volume, mounted by all; in a folder of the hypervisor;
or on each node's own disk."""

SCRATCH = "/scratch"
"""Where the folders of jobs are on the nodes, if they lie on the controller's data volume."""


@dataclass(frozen=True)
class SlurmConfig:
    """``slurm_config``: partitions and the parameters a user sets beside ours.

    ``parameters`` are keys of slurm.conf that replace or extend what hpcstate renders.
    """

    partitions: tuple[Partition, ...]
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cluster:
    """One cluster of a file: ``hpc`` (Slurm) or ``cloud`` (Kubernetes workloads).

    ``autostart``: libvirt starts its network, pool and nodes as the hypervisor boots. None leaves that as it
    is: the memory of a workstation is its owner's, and so is what was said by ``virsh autostart``.
    ``home`` is ``nfs`` only where the controller has a data volume; ``home_path`` is the folder of the
    hypervisor for ``virtio_fs``. ``scratch`` is the folder of the compute nodes in which each job has one of
    its own: SCRATCH, or one of a mount; empty without. ``home_quota_gb`` is how many GiB of the data volume
    the files of each user may take, 0 without a limit.
    """

    kind: Literal["hpc", "cloud"]
    name: str
    network: Network
    nodes: tuple[Node, ...]
    acceleration: Acceleration = field(default_factory=Acceleration)
    slurm: SlurmConfig | None = None
    uri: str = "qemu:///system"
    containers: ContainerSettings = field(default_factory=ContainerSettings)
    roll: RollSettings = field(default_factory=RollSettings)
    autostart: bool | None = None
    home: Home = "local"
    users: tuple[User, ...] = ()
    groups: tuple[Group, ...] = ()
    accounting: AccountingSettings = field(default_factory=AccountingSettings)
    packages: tuple[str, ...] = ()
    home_path: str = ""
    site: Site = field(default_factory=Site)
    scratch: str = ""
    home_quota_gb: int = 0
    backup: BackupSettings | None = None
    mail: MailSettings | None = None
    directory: LdapDirectory | None = None
    health: HealthSettings = field(default_factory=HealthSettings)
    monitoring: MonitoringSettings = field(default_factory=MonitoringSettings)

    @property
    def templates(self) -> Mapping[str, str]:
        """The templates of the site, in the place of ours (hpcstate.render.of_site)."""
        return self.site.templates

    @property
    def home_quotas(self) -> Mapping[int, int]:
        """GiB by the number of each user that has a limit on the data volume."""
        limits = {
            user.uid: self.home_quota_gb if user.home_quota_gb is None else user.home_quota_gb
            for user in self.users
        }
        return {uid: gb for uid, gb in limits.items() if gb}

    @property
    def controller(self) -> Node:
        """The controller (hpc) or the control plane (cloud)."""
        return self.nodes[0]

    @property
    def workers(self) -> tuple[Node, ...]:
        """The compute nodes (hpc) or the worker nodes (cloud)."""
        return tuple(node for node in self.nodes if node.role in ("compute", "worker"))

    @property
    def others(self) -> tuple[Node, ...]:
        """All nodes but the controller or the control plane."""
        return self.nodes[1:]

    @property
    def login_nodes(self) -> tuple[Node, ...]:
        """The nodes that people log in to and submit from: those of the role, or the controller where the
        file has none; none in a cloud cluster."""
        if self.kind != "hpc":
            return ()
        return tuple(node for node in self.nodes if node.role == "login") or (self.controller,)

    def is_closed(self, node: Node) -> bool:
        """Whether only who may become root logs in on ``node``: the controller, once there are login
        nodes."""
        return node is self.controller and node not in self.login_nodes and self.kind == "hpc"

    @property
    def gpu_nodes(self) -> tuple[Node, ...]:
        """The nodes that declare GPUs, real or simulated."""
        return tuple(node for node in self.nodes if node.gres_types)

    @property
    def peers(self) -> tuple[str, ...]:
        """Who is trusted as a part of the cluster, as addresses or a subnet: whoever is in a network of its
        own, but of a site's the nodes alone."""
        if self.network.is_of_the_site:
            return tuple(str(node.address) for node in self.nodes)
        return (str(self.network.subnet),)

    def packages_of(self, node: Node) -> tuple[str, ...]:
        """The Debian packages that the file adds to ``node``: those of all nodes, and its own."""
        return tuple(sorted({*self.packages, *node.packages}))

    def domain_name(self, node: Node) -> str:
        """The libvirt domain of ``node``; unique on the host because the cluster's name is."""
        return f"{self.name}-{node.name}"


@dataclass(frozen=True)
class Metadata:
    """``metadata`` of the file."""

    name: str
    description: str = ""


@dataclass(frozen=True)
class Description:
    """A whole cluster file: hpc, cloud, or both.

    ``ignored`` are the places of keys of the earlier system that are not used; ``warnings`` are all the
    warnings about the file, those included; ``lines`` is the line of each place, for later findings.
    """

    path: Path
    metadata: Metadata
    clusters: tuple[Cluster, ...]
    ignored: tuple[str, ...] = ()
    warnings: tuple[Problem, ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    def cluster(self, kind: str) -> Cluster | None:
        """The cluster of that kind, or None."""
        return next((cluster for cluster in self.clusters if cluster.kind == kind), None)
