"""Every key of a cluster file: a table for each section. The walk accepts these and nothing else.

A key is written here once; its parser, its default, the messages about it and its row in
docs/cluster-file.md come from here. After a change: ``python -m hpcstate.schema.reference``.
"""

from __future__ import annotations

from hpcstate.model import (
    Acceleration,
    AccountingSettings,
    BackupSettings,
    Cluster,
    ContainerSettings,
    Metadata,
    Network,
    Partition,
    PortForward,
    RollSettings,
)
from hpcstate.schema import leaf
from hpcstate.schema.accounting_keys import AccountKeys, AccountUserKeys, QosKeys
from hpcstate.schema.declare import EntriesKey, Keys, ListKey, MappingKey, SectionKey, ValueKey
from hpcstate.schema.directory_keys import DirectoryKeys, LdapKeys
from hpcstate.schema.gpu_keys import DeviceKeys, GresKeys, PciePassthroughKeys, SimulatedGpusKeys
from hpcstate.schema.health_keys import HealthKeys, OwnCheckKeys
from hpcstate.schema.libvirt_uri import libvirt_uri
from hpcstate.schema.mail_keys import MailKeys
from hpcstate.schema.monitoring_keys import DcgmKeys, GrafanaKeys, MonitoringKeys, ReceiverKeys
from hpcstate.schema.mount_keys import MountKeys, NodeMountKeys, folder, scratch
from hpcstate.schema.node_keys import ControllerKeys, LoginKeys, WorkerGroupKeys, WorkerKeys
from hpcstate.schema.partition_keys import PartitionKeys
from hpcstate.schema.people_keys import GroupKeys, UserKeys
from hpcstate.schema.reservation_keys import ReservationKeys
from hpcstate.schema.site_keys import SiteKeys


class MetadataKeys(Keys, title="metadata"):
    name = ValueKey("what the file is called in reports", leaf.line, None, default_text="the file's name")
    description = ValueKey("a sentence", leaf.text, Metadata.description)


class PortKeys(Keys, title="network.ports"):
    host = ValueKey(
        "the port of the hypervisor, 1 to 65535; nothing else may listen there", leaf.PORT, 0, required=True
    )
    node = ValueKey(
        "the name of a node",
        leaf.any_node_name,
        None,
        default_text="the first login node; without any, the controller or the control plane",
    )
    port = ValueKey("the port of the node; with `udp` it must be given", leaf.PORT, PortForward.port)
    protocol = ValueKey("`tcp` or `udp`", leaf.protocol, PortForward.protocol)
    address = ValueKey(
        "the address of the hypervisor that listens; `0.0.0.0` for all of them",
        leaf.address,
        PortForward.address,
    )


class NetworkKeys(
    Keys, title="network", earlier=("dhcp_range",), notes={"dhcp_range": "all nodes have fixed leases"}
):
    subnet = ValueKey(
        "IPv4, /8 to /29, like `192.168.150.0/24`; it must not overlap the host's own routes",
        leaf.subnet,
        None,
        required=True,
    )
    bridge = ValueKey(
        "the bridge on the host, at most 15 characters; with `forward: bridge` one that is there",
        leaf.BRIDGE,
        None,
        default_text="`virbr-` and a digest of the cluster's name",
    )
    name = ValueKey("the libvirt network", leaf.NETWORK_NAME, None, default_text="the cluster's name")
    gateway = ValueKey(
        "the host's address in the network; with `forward: bridge` the site's router",
        leaf.address,
        None,
        default_text="the first address",
    )
    dns_servers = ListKey("a list of addresses", leaf.address, default_text="the host's")
    forward = ValueKey(
        "`nat`: nodes reach out behind the host's address; `route`: with their own, so that the router "
        "of the LAN needs a route to `subnet` through the host; `none`: they do not; `bridge`: they are in "
        "the site's network, by a bridge that the host has, see network.md",
        leaf.forward,
        Network.forward,
    )
    ports = EntriesKey("ports of the host that lead to nodes, see below and network.md", PortKeys)


class NumaTopologyKeys(Keys, title="numa_topology", earlier=("memory_per_node",)):
    nodes = ValueKey(
        "NUMA nodes of each virtual machine, 1 to 8", leaf.integer(1, 8), Acceleration.numa_nodes
    )


class CpuTopologyKeys(Keys, title="cpu_topology"):
    sockets = ValueKey("1 to 4", leaf.integer(1, 4), 1, required=True)
    cores = ValueKey("of a socket, 1 to 64", leaf.integer(1, 64), 1, required=True)
    threads = ValueKey("of a core, 1 or 2", leaf.integer(1, 2), 1, required=True)


class PerformanceKeys(Keys, title="performance"):
    enable_hugepages = ValueKey("back the memory by huge pages", leaf.boolean, Acceleration.enable_hugepages)
    hugepage_size = ValueKey("`2M` or `1G`", leaf.choice("2M", "1G"), Acceleration.hugepage_size)
    cpu_pinning = ValueKey(
        "a CPU of the host for each virtual one, see below", leaf.boolean, Acceleration.cpu_pinning
    )
    memory_backing = ValueKey(
        "`default`, `hugepages` or `memfd`",
        leaf.choice("default", "hugepages", "memfd"),
        Acceleration.memory_backing,
    )


class AccelerationKeys(Keys, title="hardware.acceleration"):
    enable_kvm = ValueKey(
        "use KVM where it works; elsewhere, and with `false`, the nodes are emulated",
        leaf.boolean,
        Acceleration.enable_kvm,
    )
    enable_nested = ValueKey(
        "nested virtualization: the host's vmx or svm is passed on, where its kernel allows it "
        "(`nested` of kvm_intel or kvm_amd)",
        leaf.boolean,
        Acceleration.enable_nested,
    )
    cpu_model = ValueKey(
        "`host` or `host-passthrough`, `host-model`, `qemu64`",
        leaf.choice("host", "host-passthrough", "host-model", "qemu64"),
        Acceleration.cpu_model,
    )
    cpu_features = ListKey('a list like `["+avx2", "-svm"]`', leaf.CPU_FEATURE)
    numa_topology = SectionKey("see below; `null` for none", NumaTopologyKeys)
    cpu_topology = SectionKey(
        "see below; it applies to the nodes whose `cpu_cores` it makes", CpuTopologyKeys
    )
    performance = SectionKey("see below", PerformanceKeys)


class HardwareKeys(Keys, title="hardware"):
    acceleration = SectionKey("see below", AccelerationKeys)


class VirtioFsKeys(Keys, title="storage.virtio_fs"):
    enabled = ValueKey("`false` leaves out the `virtio_fs_mounts` of all nodes", leaf.boolean, True)


_OWN_POOL = (
    "each cluster has a storage pool of its own, hpcstate-<name> in /var/lib/libvirt/images, which no other "
    "one shares; for another disk of the host, mount that there"
)


class StorageKeys(
    Keys,
    title="storage",
    earlier=("beegfs", "pool_name", "pool_path"),
    notes={"pool_name": _OWN_POOL, "pool_path": _OWN_POOL},
):
    home = ValueKey(
        "where people's homes are: `nfs`, on the controller's data volume, which all nodes mount; "
        "`virtio_fs`, in a folder of the host; `local`, each node has its own (storage.md). For Slurm "
        "clusters only",
        leaf.home,
        None,
        default_text="`nfs`",
    )
    home_path = ValueKey(
        "for `home: virtio_fs`: the folder of the host, an absolute path; variables as in `host_path` of "
        "virtio_fs_mounts",
        folder,
        "",
    )
    home_quota_gb = ValueKey(
        "GiB that the files of each of `users` may take on the data volume, with `home: nfs`: home, and "
        "scratch folders that lie there; 0 for no limit (storage.md)",
        leaf.integer(0, 65536),
        Cluster.home_quota_gb,
    )
    mounts = EntriesKey(
        "NFS servers of the site and folders of the host that nodes mount, see storage.mounts", MountKeys
    )
    scratch = ValueKey(
        "where each job has a folder of its own, `$SCRATCH`: `nfs`, on the controller's data volume, which "
        "compute nodes mount at `/scratch`; a path on one of `mounts`; `none` (storage.md). For Slurm "
        "clusters only",
        scratch,
        "",
        default_text="`none`",
    )
    virtio_fs = SectionKey("see below", VirtioFsKeys)


class SlurmConfigKeys(Keys, title="slurm_config", earlier=("gres_types", "container_plugin_enabled")):
    partitions = EntriesKey(
        "a list of names or mappings, see partitions",
        PartitionKeys,
        default_text="`gpu` when there are GPUs, and `debug`",
    )
    default_partition = ValueKey(
        "a name from `partitions`", leaf.PARTITION_NAME, None, default_text="the first"
    )
    max_job_time = ValueKey(
        "the limit of partitions without their own: minutes, `H:MM:SS`, `D-HH:MM:SS`",
        leaf.time_limit,
        Partition.max_time,
    )
    default_job_time = ValueKey(
        "the limit of a job that names none, in partitions without their own: as `max_job_time`, which it "
        "never exceeds",
        leaf.time_limit,
        Partition.default_time,
    )
    parameters = MappingKey(
        "a mapping of slurm.conf parameters (`SchedulerType: sched/backfill`) that replace ours or add to "
        "them; not those that come from this file (`ClusterName`, `SlurmctldHost`, `NodeName`, `NodeSet`, "
        "`PartitionName`, `Include`)",
        leaf.SLURM_PARAMETER,
        leaf.line,
    )


class ContainersKeys(Keys, title="containers"):
    deploy = ListKey(
        "containers (folders of `containers/`) that every node has; they are built before the cluster starts",
        leaf.CONTAINER_NAME,
        default_text="`[]`",
    )
    require_signature = ValueKey(
        "only what the project's key signed gets into the registry and is run through Slurm",
        leaf.boolean,
        ContainerSettings.require_signature,
    )
    session_dir_mb = ValueKey(
        "what a running container may write outside its binds, in MiB",
        leaf.integer(16, 1 << 20),
        ContainerSettings.session_dir_mb,
    )


class RollKeys(Keys, title="roll"):
    canary = ValueKey(
        "so many nodes go first; the others only when these have passed, 0 for none",
        leaf.integer(0, 1024),
        RollSettings.canary,
    )
    batch = ValueKey(
        "how many nodes go at once then: a number, or a share of all compute nodes",
        leaf.share,
        RollSettings.batch,
    )
    unavailable = ValueKey(
        "how many compute nodes may be away at any time, as `batch`; those that are down already count",
        leaf.share,
        RollSettings.unavailable,
    )


class BackupKeys(Keys, title="backup"):
    every = ValueKey(
        "`hourly`, `daily` or `weekly`, by a timer of systemd's on this machine",
        leaf.choice("hourly", "daily", "weekly"),
        None,
        required=True,
    )
    path = ValueKey(
        "an absolute folder of this machine, better one on another disk or server; variables as in "
        "`host_path` of virtio_fs_mounts",
        folder,
        "",
        required=True,
    )
    keep = ValueKey(
        "how many archives of the cluster stay there, the newest",
        leaf.integer(1, 10_000),
        BackupSettings.keep,
    )
    homes = ValueKey("people's homes, too", leaf.boolean, BackupSettings.homes)
    containers = ValueKey("the files of the containers, too", leaf.boolean, BackupSettings.containers)
    passphrase_file = ValueKey(
        "encrypt by the first line of this file, an absolute path", folder, "", default_text="in the clear"
    )
    encrypt_to = ValueKey(
        "encrypt to the OpenPGP public key in this file, an absolute path",
        folder,
        "",
        default_text="in the clear",
    )


_CLUSTER_EARLIER = ("ssh", "container_registry")


class AccountingKeys(Keys, title="accounting"):
    enabled = ValueKey(
        "the controller runs slurmdbd and MariaDB, and every job is recorded there, see accounting.md; "
        "`false` turns both off and keeps what they recorded. Where `slurm_config.parameters` say where jobs "
        "are recorded (`AccountingStorageType`, `...Host`, `...Port`) it is `false`",
        leaf.boolean,
        AccountingSettings.on,
    )
    accounts = EntriesKey("who is charged for jobs, see accounting.accounts", AccountKeys)
    users = EntriesKey("what people may use, see accounting.users", AccountUserKeys)
    qos = EntriesKey("kinds of service that jobs ask for, see accounting.qos", QosKeys)
    reservations = EntriesKey(
        "nodes and other resources kept for some, see accounting.reservations", ReservationKeys
    )


class HpcKeys(
    Keys, title="clusters.hpc", labels=("description",), earlier=(*_CLUSTER_EARLIER, "gres_config")
):
    name = ValueKey(
        "lower-case letters, digits and hyphens; it names the Slurm cluster, the libvirt domains "
        "(`<name>-<node>`) and `build/<name>/`",
        leaf.CLUSTER_NAME,
        None,
        required=True,
    )
    uri = ValueKey(
        "the libvirt connection, see uri; with a host in it (`qemu+ssh://root@host/system`) this host is not "
        "checked",
        libvirt_uri,
        Cluster.uri,
    )
    autostart = ValueKey(
        "libvirt starts network, pool and nodes when the host boots, see lifecycle.md",
        leaf.boolean,
        Cluster.autostart,
        default_text="as libvirt has it: new ones do not",
    )
    base_image_path = ValueKey(
        "the image of all nodes, relative to the project's root",
        leaf.IMAGE,
        None,
        default_text="`build/packer/hpc-base/hpc-base/hpc-base.qcow2`",
    )
    network = SectionKey("see network", NetworkKeys, required=True)
    hardware = SectionKey("see hardware", HardwareKeys)
    storage = SectionKey("see storage", StorageKeys)
    controller = SectionKey("the node `controller`; `{}` takes the defaults", ControllerKeys, required=True)
    compute_nodes = EntriesKey(
        "the nodes `compute-01` and on, or by `name`", WorkerKeys, groups=WorkerGroupKeys, required=True
    )
    login_nodes = EntriesKey(
        "nodes that people log in to and submit from (users.md); where there is none, the controller is one",
        LoginKeys,
        default_text="none",
    )
    slurm_config = SectionKey("see slurm_config", SlurmConfigKeys)
    containers = SectionKey("see containers", ContainersKeys)
    accounting = SectionKey("see accounting", AccountingKeys)
    roll = SectionKey("see roll", RollKeys)
    backup = SectionKey("a backup again and again, see backup and backup.md", BackupKeys)
    mail = SectionKey(
        "the relay of mails about jobs, see mail; without it who asks for one is told", MailKeys
    )
    health = SectionKey("how nodes are watched, see health and health.md", HealthKeys)
    monitoring = SectionKey("metrics and alerts, see monitoring and monitoring.md", MonitoringKeys)
    packages = ListKey(
        "a list of Debian packages that every node has (`[htop, r-base-core]`), installed from the nodes' "
        "mirror, without recommended ones. One that is taken out of the list is removed, if it was not there "
        "before",
        leaf.PACKAGE,
    )
    users = EntriesKey("people who may log in, see users", UserKeys)
    groups = EntriesKey("groups that users share, see groups", GroupKeys)
    directory = SectionKey("people of an LDAP directory beside `users`, see directory.ldap", DirectoryKeys)
    site = SectionKey("your own deploys and templates, see site", SiteKeys)


class CloudKeys(
    Keys, title="clusters.cloud", labels=("description",), earlier=(*_CLUSTER_EARLIER, "kubernetes_config")
):
    name = HpcKeys.name.but("as in clusters.hpc")
    uri = HpcKeys.uri.but("as in clusters.hpc")
    autostart = HpcKeys.autostart.but("as in clusters.hpc")
    base_image_path = HpcKeys.base_image_path.but(
        "the image of all nodes", default_text="`build/packer/cloud-base/cloud-base/cloud-base.qcow2`"
    )
    network = HpcKeys.network.but("see network")
    hardware = HpcKeys.hardware.but("see hardware")
    storage = HpcKeys.storage.but("see storage")
    site = HpcKeys.site.but("see site")
    control_plane = HpcKeys.controller.but("the node `control-plane`; its keys are those of controller")
    worker_nodes = HpcKeys.compute_nodes.but(
        "the nodes `worker-01` and on; their keys are those of compute_nodes"
    )


class ClustersKeys(Keys, title="clusters"):
    hpc = SectionKey("a Slurm cluster", HpcKeys)
    cloud = SectionKey("a cluster for Kubernetes workloads", CloudKeys)


class FileKeys(
    Keys,
    title="file",
    earlier=(
        "global",
        "test",
        "test_settings",
        "test_config",
        "networks",
        "containers",
        "dependencies",
        "build",
        "timeouts",
        "logging",
        "validation",
    ),
):
    version = ValueKey("the version of this format", leaf.choice("1.0"), "1.0")
    metadata = SectionKey("see below", MetadataKeys)
    clusters = SectionKey(
        "see below",
        ClustersKeys,
        required=True,
        missing=("no cluster is described", "add clusters.hpc, clusters.cloud, or both"),
    )


SECTIONS: tuple[type[Keys], ...] = (
    FileKeys,
    MetadataKeys,
    ClustersKeys,
    HpcKeys,
    CloudKeys,
    NetworkKeys,
    PortKeys,
    HardwareKeys,
    AccelerationKeys,
    NumaTopologyKeys,
    CpuTopologyKeys,
    PerformanceKeys,
    StorageKeys,
    MountKeys,
    VirtioFsKeys,
    ControllerKeys,
    WorkerKeys,
    WorkerGroupKeys,
    LoginKeys,
    SimulatedGpusKeys,
    GresKeys,
    PciePassthroughKeys,
    DeviceKeys,
    NodeMountKeys,
    SlurmConfigKeys,
    PartitionKeys,
    ContainersKeys,
    AccountingKeys,
    AccountKeys,
    AccountUserKeys,
    QosKeys,
    ReservationKeys,
    RollKeys,
    BackupKeys,
    MailKeys,
    HealthKeys,
    OwnCheckKeys,
    MonitoringKeys,
    ReceiverKeys,
    DcgmKeys,
    GrafanaKeys,
    UserKeys,
    GroupKeys,
    DirectoryKeys,
    LdapKeys,
    SiteKeys,
)
"""All tables; those of the outer sections come first."""


def sections_with(key: str) -> tuple[str, ...]:
    """The titles of the sections in which ``key`` is used: the hint for a key in the wrong place."""
    return tuple(section.title for section in SECTIONS if key in section.used)
