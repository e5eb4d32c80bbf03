"""Every key of a cluster file, by section. The walk accepts these and nothing else.

``used`` decide what is built; ``labels`` are for the reader of the file; ``earlier`` are keys of the
earlier system that hpcstate knows and does not act on: they are accepted, with a warning.
docs/cluster-file.md describes each of them; a test keeps the two together.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Keys:
    """The keys of one section; ``name`` is its heading in docs/cluster-file.md."""

    name: str
    used: tuple[str, ...]
    labels: tuple[str, ...] = ()
    earlier: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """All keys that may stand in this section."""
        return self.used + self.labels + self.earlier


FILE = Keys(
    "file",
    ("version", "metadata", "clusters"),
    (),
    (
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
)
METADATA = Keys("metadata", ("name", "description"))
CLUSTERS = Keys("clusters", ("hpc", "cloud"))

_CLUSTER = ("name", "uri", "base_image_path", "network", "hardware", "storage")
_CLUSTER_EARLIER = ("ssh", "container_registry")
HPC = Keys(
    "clusters.hpc",
    (*_CLUSTER, "controller", "compute_nodes", "slurm_config", "containers"),
    ("description",),
    (*_CLUSTER_EARLIER, "gres_config"),
)
CLOUD = Keys(
    "clusters.cloud",
    (*_CLUSTER, "control_plane", "worker_nodes"),
    ("description",),
    (*_CLUSTER_EARLIER, "kubernetes_config"),
)

NETWORK = Keys(
    "network", ("subnet", "bridge", "name", "gateway", "dns_servers", "forward"), (), ("dhcp_range",)
)
HARDWARE = Keys("hardware", ("acceleration",))
ACCELERATION = Keys(
    "hardware.acceleration",
    (
        "enable_kvm",
        "enable_nested",
        "cpu_model",
        "cpu_features",
        "numa_topology",
        "cpu_topology",
        "performance",
    ),
)
NUMA_TOPOLOGY = Keys("numa_topology", ("nodes",), (), ("memory_per_node",))
CPU_TOPOLOGY = Keys("cpu_topology", ("sockets", "cores", "threads"))
PERFORMANCE = Keys("performance", ("enable_hugepages", "hugepage_size", "cpu_pinning", "memory_backing"))
STORAGE = Keys("storage", ("virtio_fs",), (), ("beegfs", "pool_name", "pool_path"))
VIRTIO_FS = Keys("storage.virtio_fs", ("enabled",))

_NODE = (
    "cpu_cores",
    "memory_gb",
    "disk_gb",
    "ip",
    "ip_address",
    "base_image_path",
    "image_path",
    "virtio_fs_mounts",
    "auto_start",
)
_NODE_EARLIER = (
    "name",
    "hostname",
    "monitoring_role",
    "enable_accounting",
    "enable_database",
    "database",
    "slurm_accounting",
    "munge",
    "container_runtime",
)
CONTROLLER = Keys("controller", _NODE, ("node_type",), _NODE_EARLIER)
WORKER = Keys(
    "compute_nodes",
    (*_NODE, "count", "pcie_passthrough", "simulated_gpus", "gres"),
    ("node_type", "worker_type"),
    (*_NODE_EARLIER, "gpu"),
)
WORKER_GROUPS = Keys("worker groups", ("cpu", "gpu", "cpu_workers", "gpu_workers"))
SIMULATED_GPUS = Keys("simulated_gpus", ("count", "type"))
GRES = Keys("gres", ("autodetect", "shard", "mps"), (), ("gpu",))
PCIE_PASSTHROUGH = Keys("pcie_passthrough", ("enabled", "devices"))
DEVICE = Keys(
    "devices",
    (
        "pci_address",
        "device_type",
        "vendor_id",
        "device_id",
        "iommu_group",
        "gres_type",
        "mig",
        "description",
        "rom_file",
        "rom_bar",
        "in_use",
        "x_vga",
    ),
    ("vendor",),
)
MOUNT = Keys("virtio_fs_mounts", ("tag", "host_path", "mount_point", "owner", "group", "mode", "options"))
SLURM_CONFIG = Keys(
    "slurm_config",
    ("partitions", "default_partition", "max_job_time", "parameters"),
    (),
    ("gres_types", "container_plugin_enabled"),
)
CONTAINERS = Keys("containers", ("deploy", "require_signature", "session_dir_mb"))
PARTITION = Keys("partitions", ("name", "nodes", "default", "max_time"))

SECTIONS = (
    FILE,
    METADATA,
    CLUSTERS,
    HPC,
    CLOUD,
    NETWORK,
    HARDWARE,
    ACCELERATION,
    NUMA_TOPOLOGY,
    CPU_TOPOLOGY,
    PERFORMANCE,
    STORAGE,
    VIRTIO_FS,
    CONTROLLER,
    WORKER,
    WORKER_GROUPS,
    SIMULATED_GPUS,
    GRES,
    PCIE_PASSTHROUGH,
    DEVICE,
    MOUNT,
    SLURM_CONFIG,
    PARTITION,
    CONTAINERS,
)


def sections_with(key: str) -> tuple[str, ...]:
    """The names of the sections in which ``key`` is used: the hint for a key in the wrong place."""
    return tuple(section.name for section in SECTIONS if key in section.used)
