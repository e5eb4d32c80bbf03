"""The keys of a node in a cluster file: controller, worker and login node."""

from __future__ import annotations

from hpcstate.model import Node
from hpcstate.schema import leaf
from hpcstate.schema.declare import EntriesKey, Keys, ListKey, MappingKey, SectionKey, ValueKey
from hpcstate.schema.gpu_keys import GresKeys, PciePassthroughKeys, SimulatedGpusKeys
from hpcstate.schema.mount_keys import NodeMountKeys

MAX_COUNT = 10_000
"""Nodes of one entry; Slurm's own default limit for a cluster is 65,533 (MAX_NODES), subnets end earlier."""

MAX_WEIGHT = 0xFFFF_FF00
"""Weight has 32 bits, of which Slurm keeps the highest values for itself (slurm.h, NO_VAL)."""


_NODE_EARLIER = (
    "hostname",
    "monitoring_role",
    "enable_accounting",
    "enable_database",
    "database",
    "slurm_accounting",
    "munge",
    "container_runtime",
)


class ControllerKeys(
    Keys,
    title="controller",
    labels=("node_type",),
    earlier=("name", *_NODE_EARLIER),
    notes={"hostname": "compute nodes have `name`; this one has the name of its role"},
):
    cpu_cores = ValueKey.written("virtual CPUs", leaf.integer(1, 1024), "2")
    memory_gb = ValueKey.written(
        "GiB, decimals allowed (`1.5`), at least 0.5", leaf.gibibytes_as_mib(0.5, 65536), "2"
    )
    disk_gb = ValueKey.written("GiB, at least 10; it grows as it is used", leaf.integer(10, 65536), "20")
    data_gb = ValueKey.written(
        "GiB, at least 1: a volume with Slurm's state, the registry of containers and homes, which outlives "
        "the disk and `destroy` (docs/lifecycle.md); it can grow. For Slurm clusters only",
        leaf.integer(1, 65536),
        "20",
    )
    ip = ValueKey(
        "an address of the subnet, or `DHCP` to have one allotted: `.10` for this node, from `.11` for the "
        "others, skipping those taken; the same each time",
        leaf.address_or_dhcp,
        None,
        default_text="allotted",
    )
    ip_address = ip.alias()
    base_image_path = ValueKey("the image of this node", leaf.IMAGE, None, default_text="the cluster's")
    image_path = base_image_path.alias()
    virtio_fs_mounts = EntriesKey("folders of the host, see virtio_fs_mounts", NodeMountKeys)
    packages = ListKey(
        "a list of Debian packages that this node has beside the cluster's `packages`. For Slurm clusters "
        "only",
        leaf.PACKAGE,
    )
    auto_start = ValueKey(
        "`false`: not started with the cluster, and not in pyinfra's inventory unless the environment "
        "variable `HPCSTATE_NODES` names it",
        leaf.boolean,
        Node.auto_start,
    )


class WorkerKeys(
    Keys, title="compute_nodes", labels=("node_type", "worker_type"), earlier=(*_NODE_EARLIER, "gpu")
):
    name = ValueKey(
        "the node's name; with `count`, that of the group: `name: a100` and `count: 2` are `a100-01` and "
        "`a100-02`. A node with a name keeps its disk wherever it stands in the file",
        leaf.node_name,
        "",
        default_text="by its place: `compute-01` and on",
    )
    count = ValueKey(
        "this many equal nodes; addresses are counted up from `ip`", leaf.integer(1, MAX_COUNT), 1
    )
    cpu_cores = ControllerKeys.cpu_cores.but("as for the controller")
    memory_gb = ControllerKeys.memory_gb.but("as for the controller")
    disk_gb = ControllerKeys.disk_gb.but("as for the controller")
    ip = ControllerKeys.ip.but("as for the controller")
    ip_address = ip.alias()
    base_image_path = ControllerKeys.base_image_path.but("as for the controller")
    image_path = base_image_path.alias()
    virtio_fs_mounts = ControllerKeys.virtio_fs_mounts.but("see virtio_fs_mounts")
    packages = ControllerKeys.packages.but("as for the controller")
    auto_start = ControllerKeys.auto_start.but("as for the controller")
    simulated_gpus = SectionKey("see simulated_gpus", SimulatedGpusKeys)
    pcie_passthrough = SectionKey(
        "see pcie_passthrough; not together with simulated GPUs", PciePassthroughKeys
    )
    gres = SectionKey("see gres", GresKeys)
    features = ListKey(
        "a list of what `--constraint` may ask for, beside what hpcstate knows: `gpu`, the GPUs' types, "
        "`simulated`",
        leaf.FEATURE,
    )
    weight = ValueKey(
        "of the nodes that fit a job those with the lowest weight are taken",
        leaf.integer(1, MAX_WEIGHT),
        Node.weight,
    )
    extra_slurm = MappingKey(
        "a mapping of more keys of the node in slurm.conf (`MemSpecLimit: 512`); not those that hpcstate "
        "writes",
        leaf.SLURM_PARAMETER,
        leaf.SLURM_VALUE,
    )


class LoginKeys(Keys, title="login_nodes"):
    name = WorkerKeys.name.but(
        "the node's name; with `count`, that of the group, as for compute_nodes",
        default_text="by its place: `login-01` and on",
    )
    count = WorkerKeys.count.but("as for compute_nodes")
    cpu_cores = ControllerKeys.cpu_cores.but("as for the controller")
    memory_gb = ControllerKeys.memory_gb.but("as for the controller")
    disk_gb = ControllerKeys.disk_gb.but("as for the controller")
    ip = ControllerKeys.ip.but(
        "as for the controller; those that are allotted go down from `.9`, so that compute nodes keep theirs"
    )
    ip_address = ip.alias()
    base_image_path = ControllerKeys.base_image_path.but("as for the controller")
    image_path = base_image_path.alias()
    virtio_fs_mounts = ControllerKeys.virtio_fs_mounts.but("see virtio_fs_mounts")
    packages = ControllerKeys.packages.but("as for the controller")
    auto_start = ControllerKeys.auto_start.but("as for the controller")


class WorkerGroupKeys(Keys, title="worker groups"):
    cpu = EntriesKey("a list like `compute_nodes`", WorkerKeys)
    gpu = EntriesKey("a list like `compute_nodes`", WorkerKeys)
    cpu_workers = cpu.alias()
    gpu_workers = gpu.alias()
