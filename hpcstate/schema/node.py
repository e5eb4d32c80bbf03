"""Entries of ``controller``, ``compute_nodes``, ``login_nodes``, ``control_plane`` and ``worker_nodes``, as
declared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from itertools import chain

from hpcstate.model import GresSettings, Mount, Node, PassthroughDevice, Role, SimulatedGpus
from hpcstate.model.gres import EXPLICIT
from hpcstate.model.node import WRITTEN_NODE_KEYS
from hpcstate.schema.declare import AnyKey, EntriesKey
from hpcstate.schema.gpu_keys import DeviceKeys, GresKeys, PciePassthroughKeys, SimulatedGpusKeys
from hpcstate.schema.keys import HpcKeys
from hpcstate.schema.mounts import read_own
from hpcstate.schema.node_keys import ControllerKeys, LoginKeys, WorkerGroupKeys, WorkerKeys
from hpcstate.schema.section import Section

DEFAULT_IMAGES = {"hpc": "hpc-base", "cloud": "cloud-base"}


@dataclass(frozen=True)
class Entry:
    """One entry of the file: one node, or ``count`` nodes that differ in name and address only.

    ``given_name`` is the key ``name``, of the one node or, where the file has a ``count``, of the ``group``.
    ``address`` is None when it is to be allotted; ``address_place`` is where it stands, or would stand.
    """

    place: str
    role: Role
    count: int
    cpu_cores: int
    memory_mb: int
    disk_gb: int
    address: IPv4Address | None
    address_place: str
    image: str
    auto_start: bool
    passthrough: tuple[PassthroughDevice, ...] = ()
    simulated_gpus: SimulatedGpus | None = None
    gres_settings: GresSettings = EXPLICIT
    mounts: tuple[Mount, ...] = ()
    given_name: str = ""
    group: bool = False
    data_gb: int = 0
    features: tuple[str, ...] = ()
    weight: int = Node.weight
    extra_slurm: Mapping[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()


def read_head(section: Section, role: Role, image: str) -> Entry:
    """The controller or the control plane."""
    entry = _read_entry(section, role, image, 1, (), None)
    data_gb = section.value(ControllerKeys.data_gb)
    if role == "controller":
        return replace(entry, data_gb=data_gb)
    if ControllerKeys.data_gb in section:
        section.report.error(
            section.at(ControllerKeys.data_gb), "only a Slurm cluster has a data volume", "leave it out"
        )
    return entry


def read_logins(cluster: Section, image: str) -> tuple[Entry, ...]:
    """The entries of ``login_nodes``, in the file's order; none where there is no such key."""
    return tuple(
        replace(
            _read_entry(section, "login", image, section.value(LoginKeys.count), (), None),
            given_name=section.value(LoginKeys.name),
            group=LoginKeys.count in section,
        )
        for section in cluster.sections(HpcKeys.login_nodes)
    )


def read_workers(cluster: Section, key: EntriesKey, role: Role, image: str) -> tuple[Entry, ...]:
    """The entries of ``compute_nodes`` or ``worker_nodes``, in the file's order.

    Three shapes: a list; one mapping with a ``count``; a mapping of lists (``cpu``, ``gpu``), which the
    earlier system has for worker nodes.
    """
    found = cluster.raw(key)
    sections: Iterable[Section]
    if not isinstance(found, dict):
        sections = cluster.sections(key)
    elif any(group in found for group in WorkerGroupKeys.used):
        groups = cluster.under(key, WorkerGroupKeys)
        rows = [WorkerGroupKeys.rows.get(group) for group in found]
        sections = chain.from_iterable(groups.sections(row) for row in rows if isinstance(row, EntriesKey))
    else:
        section = cluster.under(key, WorkerKeys)
        if WorkerKeys.count not in section:
            section.missing(WorkerKeys.count)
        sections = [section]
    return tuple(_read_worker(section, role, image) for section in sections)


def _read_worker(section: Section, role: Role, image: str) -> Entry:
    count = section.value(WorkerKeys.count)
    passthrough = _read_passthrough(section.section(WorkerKeys.pcie_passthrough))
    if passthrough and count > 1:
        section.report.error(
            section.at(WorkerKeys.count),
            f"{count} nodes cannot share the devices of pcie_passthrough",
            "a PCI device goes to one node: write one entry for each",
        )
    simulated = None
    if WorkerKeys.simulated_gpus in section:
        gpus = section.section(WorkerKeys.simulated_gpus)
        number = gpus.value(SimulatedGpusKeys.count)
        kind = gpus.value(SimulatedGpusKeys.type)
        simulated = SimulatedGpus(number, kind) if number else None
        if simulated and any(device.device_type == "gpu" for device in passthrough):
            section.report.error(
                section.at(WorkerKeys.simulated_gpus),
                "a node has either simulated GPUs or GPUs passed through",
                "both would use the device nodes /dev/nvidia0 and on",
            )
    entry = _read_entry(section, role, image, count, passthrough, simulated)
    for key in (WorkerKeys.features, WorkerKeys.weight, WorkerKeys.extra_slurm):
        if role != "compute" and key in section:
            section.report.error(section.at(key), "only a node of a Slurm cluster has it", "leave it out")
    return replace(
        entry,
        gres_settings=_read_gres(section, passthrough, simulated),
        features=section.values(WorkerKeys.features),
        weight=section.value(WorkerKeys.weight),
        extra_slurm=_read_extra_slurm(section),
        given_name=section.value(WorkerKeys.name),
        group=WorkerKeys.count in section,
    )


def _read_extra_slurm(section: Section) -> Mapping[str, str]:
    """Case does not count in slurm.conf, so a key may stand there twice."""
    found: dict[str, str] = {}
    for place, name, text in section.pairs(WorkerKeys.extra_slurm):
        if instead := WRITTEN_NODE_KEYS.get(name.lower()):
            section.report.error(place, f"hpcstate writes {name} itself", instead)
        elif name.lower() in map(str.lower, found):
            section.report.error(place, f"{name} is there twice", "keep one of the two")
        found[name] = text
    return found


def _read_gres(
    node: Section, passthrough: tuple[PassthroughDevice, ...], simulated: SimulatedGpus | None
) -> GresSettings:
    section = node.section(WorkerKeys.gres)
    settings = GresSettings(
        autodetect=section.value(GresKeys.autodetect),
        shard=section.value(GresKeys.shard),
        mps=section.value(GresKeys.mps),
    )
    if settings != EXPLICIT and simulated is None and not any(device.gres_types for device in passthrough):
        section.report.error(
            node.at(WorkerKeys.gres),
            "this node declares no GPU",
            "leave the section out, or declare its GPUs",
        )
    for key, problem, hint in _gres_problems(settings, passthrough, simulated):
        section.report.error(section.at(key), problem, hint)
    return settings


def _gres_problems(
    settings: GresSettings, passthrough: tuple[PassthroughDevice, ...], simulated: SimulatedGpus | None
) -> Iterator[tuple[AnyKey, str, str]]:
    """What cannot be: the key, the problem, the next step."""
    mig = any(device.mig for device in passthrough)
    if settings.autodetect != "off" and simulated:
        hint = "leave autodetect out: hpcstate writes their device files"
        yield GresKeys.autodetect, "simulated GPUs are device files only, which nothing can detect", hint
    if settings.autodetect == "nvidia" and mig:
        hint = "write nvml, or leave autodetect out"
        yield GresKeys.autodetect, "AutoDetect=nvidia does not see MIG instances (gres.conf(5))", hint
    if settings.shard and settings.mps:
        yield GresKeys.mps, "a GPU is shared by shard or by mps, not by both", "keep one of the two"
    if mig and settings.sharing:
        hint = "make smaller MIG instances instead, or leave mig out"
        yield GresKeys.rows[settings.sharing[0]], "MIG instances are not shared further", hint
    if settings.mps and simulated:
        hint = "shard counts shares without a server: it can be simulated"
        yield GresKeys.mps, "simulated GPUs have no MPS server", hint


def _read_entry(
    section: Section,
    role: Role,
    image: str,
    count: int,
    passthrough: tuple[PassthroughDevice, ...],
    simulated: SimulatedGpus | None,
) -> Entry:
    return Entry(
        place=section.place,
        role=role,
        count=count,
        cpu_cores=section.value(ControllerKeys.cpu_cores),
        memory_mb=section.value(ControllerKeys.memory_gb),
        disk_gb=section.value(ControllerKeys.disk_gb),
        address=section.value(ControllerKeys.ip),
        address_place=section.at(section.spelled(ControllerKeys.ip)),
        image=section.value(ControllerKeys.base_image_path) or image,
        auto_start=section.value(ControllerKeys.auto_start),
        passthrough=passthrough,
        simulated_gpus=simulated,
        mounts=read_own(section, ControllerKeys.virtio_fs_mounts),
        packages=_read_packages(section, role),
    )


def _read_packages(section: Section, role: Role) -> tuple[str, ...]:
    if role not in ("controller", "compute", "login") and ControllerKeys.packages in section:
        section.report.error(
            section.at(ControllerKeys.packages), "only a node of a Slurm cluster has it", "leave it out"
        )
    return section.values(ControllerKeys.packages)


def _read_passthrough(section: Section) -> tuple[PassthroughDevice, ...]:
    enabled = section.value(PciePassthroughKeys.enabled)
    devices = tuple(_read_device(device) for device in section.sections(PciePassthroughKeys.devices))
    _check_x_vga(section, devices)
    if devices and not enabled:
        section.report.warning(
            section.at(PciePassthroughKeys.devices),
            "the devices are not passed through: enabled is not true",
            "set enabled: true, or remove the devices",
        )
    return devices if enabled else ()


def _read_device(section: Section) -> PassthroughDevice:
    device_type = section.value(DeviceKeys.device_type)
    device_id = section.value(DeviceKeys.device_id)
    gres_type = section.value(DeviceKeys.gres_type)
    if gres_type and device_type != "gpu":
        section.report.error(section.at(DeviceKeys.gres_type), f"a device of type {device_type} is no GRES")
    mig = section.values(DeviceKeys.mig)
    if mig and device_type != "gpu":
        section.report.error(
            section.at(DeviceKeys.mig), f"a device of type {device_type} has no MIG instances"
        )
    x_vga = section.value(DeviceKeys.x_vga)
    if x_vga and device_type != "gpu":
        section.report.error(
            section.at(DeviceKeys.x_vga), f"a device of type {device_type} has no VGA registers"
        )
    return PassthroughDevice(
        pci_address=section.value(DeviceKeys.pci_address),
        device_type=device_type,
        vendor_id=section.value(DeviceKeys.vendor_id),
        device_id=device_id,
        iommu_group=section.value(DeviceKeys.iommu_group),
        gres_type=gres_type,
        mig=mig,
        description=section.value(DeviceKeys.description),
        rom_file=section.value(DeviceKeys.rom_file),
        rom_bar=section.value(DeviceKeys.rom_bar),
        in_use=section.value(DeviceKeys.in_use),
        x_vga=x_vga,
    )


def _check_x_vga(section: Section, devices: tuple[PassthroughDevice, ...]) -> None:
    positions = [
        position for position, device in enumerate(devices) if device.x_vga and device.device_type == "gpu"
    ]
    for position in positions[1:]:
        section.report.error(
            f"{section.at(PciePassthroughKeys.devices)}[{position}].x_vga",
            "another device of this node has the legacy VGA registers",
            f"{devices[positions[0]].pci_address} has them; there is one set in a machine",
        )
