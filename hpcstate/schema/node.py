"""Entries of ``controller``, ``compute_nodes``, ``control_plane`` and ``worker_nodes``, as declared."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from hpcstate import paths
from hpcstate.model import GresSettings, PassthroughDevice, Role, SimulatedGpus, VirtioFsMount
from hpcstate.model.gpu import DeviceType
from hpcstate.model.gres import EXPLICIT
from hpcstate.schema import keys, leaf
from hpcstate.schema.section import Section

DEFAULT_CPU_CORES = 2
DEFAULT_MEMORY_MB = 2048
DEFAULT_DISK_GB = 20
DEFAULT_IMAGES = {"hpc": "hpc-base", "cloud": "cloud-base"}

MAX_COUNT = 10_000
"""Nodes of one entry; Slurm's own default limit for a cluster is 65,533 (MAX_NODES), subnets end earlier."""

MAX_SHARES = 10_000
"""Shares of one GPU; Slurm has no limit that is nearer."""


@dataclass(frozen=True)
class Entry:
    """One entry of the file: one node, or ``count`` nodes that differ in name and address only.

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
    virtio_fs_mounts: tuple[VirtioFsMount, ...] = ()


def read_head(section: Section, role: Role, image: str) -> Entry:
    """The controller or the control plane."""
    return _read_entry(section, role, image, 1, (), None)


def read_workers(cluster: Section, key: str, role: Role, image: str) -> tuple[Entry, ...]:
    """The entries of ``compute_nodes`` or ``worker_nodes``, in the file's order.

    Three shapes: a list; one mapping with a ``count``; a mapping of lists (``cpu``, ``gpu``), which the
    earlier system has for worker nodes.
    """
    found = cluster.raw(key)
    if isinstance(found, dict) and any(group in found for group in keys.WORKER_GROUPS.used):
        groups = cluster.section(key, keys.WORKER_GROUPS)
        listed = [entry for group in found if group in groups.keys.used for entry in groups.entries(group)]
    elif isinstance(found, dict):
        section = cluster.section(key, keys.WORKER)
        if "count" not in section:
            section.missing("count")
        return (_read_worker(section, role, image),)
    else:
        listed = cluster.entries(key)
    return tuple(
        _read_worker(Section(cluster.report, place, value, keys.WORKER), role, image)
        for place, value in listed
    )


def _read_worker(section: Section, role: Role, image: str) -> Entry:
    count = section.value("count", leaf.integer(1, MAX_COUNT), 1)
    passthrough = _read_passthrough(section.section("pcie_passthrough", keys.PCIE_PASSTHROUGH))
    if passthrough and count > 1:
        section.report.error(
            section.at("count"),
            f"{count} nodes cannot share the devices of pcie_passthrough",
            "a PCI device goes to one node: write one entry for each",
        )
    simulated = None
    if "simulated_gpus" in section:
        gpus = section.section("simulated_gpus", keys.SIMULATED_GPUS)
        number = gpus.required("count", leaf.integer(0, 64), 0)
        kind = gpus.value("type", leaf.GRES_TYPE, SimulatedGpus(0).gres_type)
        simulated = SimulatedGpus(number, kind) if number else None
        if simulated and any(device.device_type == "gpu" for device in passthrough):
            section.report.error(
                section.at("simulated_gpus"),
                "a node has either simulated GPUs or GPUs passed through",
                "both would use the device nodes /dev/nvidia0 and on",
            )
    entry = _read_entry(section, role, image, count, passthrough, simulated)
    return replace(entry, gres_settings=_read_gres(section, passthrough, simulated))


def _read_gres(
    node: Section, passthrough: tuple[PassthroughDevice, ...], simulated: SimulatedGpus | None
) -> GresSettings:
    section = node.section("gres", keys.GRES)
    settings = GresSettings(
        autodetect=section.value("autodetect", leaf.autodetect, GresSettings.autodetect),
        shard=section.value("shard", leaf.integer(0, MAX_SHARES), GresSettings.shard),
        mps=section.value("mps", leaf.integer(0, MAX_SHARES), GresSettings.mps),
    )
    if settings != EXPLICIT and simulated is None and not any(device.gres_types for device in passthrough):
        section.report.error(
            node.at("gres"), "this node declares no GPU", "leave the section out, or declare its GPUs"
        )
    for key, problem, hint in _gres_problems(settings, passthrough, simulated):
        section.report.error(section.at(key), problem, hint)
    return settings


def _gres_problems(
    settings: GresSettings, passthrough: tuple[PassthroughDevice, ...], simulated: SimulatedGpus | None
) -> Iterator[tuple[str, str, str]]:
    """What cannot be: the key, the problem, the next step."""
    mig = any(device.mig for device in passthrough)
    if settings.autodetect != "off" and simulated:
        hint = "leave autodetect out: hpcstate writes their device files"
        yield "autodetect", "simulated GPUs are device files only, which nothing can detect", hint
    if settings.autodetect == "nvidia" and mig:
        hint = "write nvml, or leave autodetect out"
        yield "autodetect", "AutoDetect=nvidia does not see MIG instances (gres.conf(5))", hint
    if settings.shard and settings.mps:
        yield "mps", "a GPU is shared by shard or by mps, not by both", "keep one of the two"
    if mig and settings.sharing:
        hint = "make smaller MIG instances instead, or leave mig out"
        yield settings.sharing[0], "MIG instances are not shared further", hint
    if settings.mps and simulated:
        hint = "shard counts shares without a server: it can be simulated"
        yield "mps", "simulated GPUs have no MPS server", hint


def _read_entry(
    section: Section,
    role: Role,
    image: str,
    count: int,
    passthrough: tuple[PassthroughDevice, ...],
    simulated: SimulatedGpus | None,
) -> Entry:
    address_key = _spelling(section, "ip", "ip_address")
    address = section.value(address_key, leaf.address_or_dhcp, None)
    image_key = _spelling(section, "base_image_path", "image_path")
    return Entry(
        place=section.place,
        role=role,
        count=count,
        cpu_cores=section.value("cpu_cores", leaf.integer(1, 1024), DEFAULT_CPU_CORES),
        memory_mb=section.value("memory_gb", leaf.gibibytes_as_mib(0.5, 65536), DEFAULT_MEMORY_MB),
        disk_gb=section.value("disk_gb", leaf.integer(10, 65536), DEFAULT_DISK_GB),
        address=address,
        address_place=section.at(address_key),
        image=section.value(image_key, leaf.IMAGE, image),
        auto_start=section.value("auto_start", leaf.boolean, True),
        passthrough=passthrough,
        simulated_gpus=simulated,
        virtio_fs_mounts=_read_mounts(section),
    )


def _spelling(section: Section, key: str, other: str) -> str:
    """Which of two keys of the same meaning the section has; both is reported."""
    if key in section and other in section:
        section.report.error(section.at(key), f"{key} and {other} are the same key", "keep one of the two")
    return other if other in section and key not in section else key


def _read_passthrough(section: Section) -> tuple[PassthroughDevice, ...]:
    enabled = section.value("enabled", leaf.boolean, False)
    devices = tuple(
        _read_device(Section(section.report, place, value, keys.DEVICE))
        for place, value in section.entries("devices")
    )
    _check_x_vga(section, devices)
    if devices and not enabled:
        section.report.warning(
            section.at("devices"),
            "the devices are not passed through: enabled is not true",
            "set enabled: true, or remove the devices",
        )
    return devices if enabled else ()


def _read_device(section: Section) -> PassthroughDevice:
    device_type: DeviceType = section.required("device_type", leaf.one_of_devices, "other")
    device_id = section.value("device_id", leaf.hex_id, "")
    gres_type = section.value("gres_type", leaf.GRES_TYPE, "")
    if gres_type and device_type != "gpu":
        section.report.error(section.at("gres_type"), f"a device of type {device_type} is no GRES")
    mig = section.values("mig", leaf.MIG_PROFILE)
    if mig and device_type != "gpu":
        section.report.error(section.at("mig"), f"a device of type {device_type} has no MIG instances")
    x_vga = section.value("x_vga", leaf.boolean, PassthroughDevice.x_vga)
    if x_vga and device_type != "gpu":
        section.report.error(section.at("x_vga"), f"a device of type {device_type} has no VGA registers")
    return PassthroughDevice(
        pci_address=section.required("pci_address", leaf.pci_address, ""),
        device_type=device_type,
        vendor_id=section.value("vendor_id", leaf.hex_id, ""),
        device_id=device_id,
        iommu_group=section.value("iommu_group", leaf.integer(0, 65535), None),
        gres_type=gres_type,
        mig=mig,
        description=section.value("description", leaf.text, ""),
        rom_file=section.value("rom_file", leaf.expanded(_variables(os.environ)), ""),
        rom_bar=section.value("rom_bar", leaf.boolean, PassthroughDevice.rom_bar),
        in_use=section.value("in_use", leaf.boolean, PassthroughDevice.in_use),
        x_vga=x_vga,
    )


def _check_x_vga(section: Section, devices: tuple[PassthroughDevice, ...]) -> None:
    positions = [
        position for position, device in enumerate(devices) if device.x_vga and device.device_type == "gpu"
    ]
    for position in positions[1:]:
        section.report.error(
            f"{section.at('devices')}[{position}].x_vga",
            "another device of this node has the legacy VGA registers",
            f"{devices[positions[0]].pci_address} has them; there is one set in a machine",
        )


def _read_mounts(node: Section) -> tuple[VirtioFsMount, ...]:
    path = leaf.expanded(_variables(os.environ))
    mounts = []
    seen: set[str] = set()
    for place, value in node.entries("virtio_fs_mounts"):
        section = Section(node.report, place, value, keys.MOUNT)
        mount = VirtioFsMount(
            tag=section.required("tag", leaf.MOUNT_TAG, ""),
            host_path=section.required("host_path", path, ""),
            mount_point=section.required("mount_point", path, ""),
            owner=section.value("owner", leaf.UNIX_NAME, VirtioFsMount.owner),
            group=section.value("group", leaf.UNIX_NAME, VirtioFsMount.group),
            mode=section.value("mode", leaf.MOUNT_MODE, VirtioFsMount.mode),
            options=section.value("options", leaf.line, VirtioFsMount.options),
        )
        if mount.tag and mount.tag in seen:
            section.report.error(
                section.at("tag"), f"the tag {mount.tag} is used by another mount of this node"
            )
        seen.add(mount.tag)
        mounts.append(mount)
    return tuple(mounts)


def _variables(environment: Mapping[str, str]) -> Mapping[str, str]:
    """What ``${NAME}`` may stand for. The earlier system called the project's root TOT (top of tree)."""
    return {"TOT": str(paths.ROOT), **environment}
