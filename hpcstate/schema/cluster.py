"""One cluster of the file, ``hpc`` or ``cloud``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from hpcstate import paths
from hpcstate.model import (
    Acceleration,
    AccountingSettings,
    Cluster,
    ContainerSettings,
    HealthSettings,
    Home,
    MonitoringSettings,
    Node,
    RollSettings,
    User,
)
from hpcstate.model.cells import guest_cells
from hpcstate.schema.accounting import read_accounting
from hpcstate.schema.addresses import place_nodes
from hpcstate.schema.backup import read_backup
from hpcstate.schema.containers import read_containers
from hpcstate.schema.directory import read_directory
from hpcstate.schema.health import read_health
from hpcstate.schema.keys import CloudKeys, HpcKeys, RollKeys, StorageKeys, VirtioFsKeys
from hpcstate.schema.mail import read_mail
from hpcstate.schema.monitoring import read_monitoring
from hpcstate.schema.mounts import check_host_folder, read_shared, with_mounts
from hpcstate.schema.network import read_acceleration, read_network, read_ports
from hpcstate.schema.node import DEFAULT_IMAGES, read_head, read_logins, read_workers
from hpcstate.schema.scratch import read_scratch
from hpcstate.schema.section import Report, Section
from hpcstate.schema.site import read_site
from hpcstate.schema.slurm import Workers, read_slurm
from hpcstate.schema.users import read_people


def default_image(kind: str) -> str:
    """The image of a cluster that names none: the one that ``doit build_images`` builds, from the root."""
    return paths.shown(paths.image(DEFAULT_IMAGES[kind]))


def read_cluster(section: Section, kind: Literal["hpc", "cloud"], folder: Path) -> Cluster | None:
    """The cluster, or None when its network is missing or wrong (reported).

    Paths of the user's own files are relative to ``folder``.

    The result may be incomplete when problems were reported; then it serves for finding more of them.
    """
    keys, head_key, workers_key = (
        (HpcKeys, HpcKeys.controller, HpcKeys.compute_nodes)
        if kind == "hpc"
        else (CloudKeys, CloudKeys.control_plane, CloudKeys.worker_nodes)
    )
    name = section.value(keys.name) or f"unnamed-{kind}"
    if name in paths.RESERVED:
        section.report.error(
            section.at(keys.name), f"build/{name}/ is a folder of hpcstate's own", "take another name"
        )
    uri = section.value(keys.uri)
    autostart = section.value(keys.autostart)
    image = section.value(keys.base_image_path) or default_image(kind)
    about_network = section.section(keys.network)
    network = read_network(about_network, name) if keys.network in section else None
    acceleration = read_acceleration(section.section(keys.hardware))
    storage = section.section(keys.storage)
    home, home_path = _read_home(storage, kind)
    shares_folders = storage.section(StorageKeys.virtio_fs).value(VirtioFsKeys.enabled)
    head = read_head(section.section(head_key), "controller" if kind == "hpc" else "control_plane", image)
    workers = read_workers(section, workers_key, "compute" if kind == "hpc" else "worker", image)
    entries = [head, *workers, *(read_logins(section, image) if kind == "hpc" else ())]
    if not shares_folders:
        entries = [replace(entry, mounts=()) for entry in entries]
    shared = read_shared(storage, StorageKeys.mounts)
    nodes = place_nodes(name, network, entries, section.report) if network else ()
    named = {entry.place: entry.given_name for entry in entries if entry.group and entry.given_name}
    nodes = with_mounts(nodes, named, shared, section.report, home_is_shared=home != "local")
    slurm = read_slurm(section, Workers.of(nodes) if nodes else None) if kind == "hpc" else None
    containers = read_containers(section) if kind == "hpc" else ContainerSettings()
    roll = _read_roll(section) if kind == "hpc" else RollSettings()
    users, groups = read_people(section) if kind == "hpc" else ((), ())
    accounting = (
        read_accounting(section, slurm, nodes, users, groups) if slurm else AccountingSettings(on=False)
    )
    site = read_site(section.section(keys.site), folder)
    scratch = read_scratch(storage, kind, home, slurm, nodes)
    quota = _read_quota(section, storage, home, users)
    health = read_health(section, slurm, folder) if kind == "hpc" else HealthSettings()
    if network is None or not nodes:
        return None
    network = replace(network, ports=read_ports(about_network, nodes))
    mail = read_mail(section, slurm) if kind == "hpc" else None
    _warn_topology(section.report, section.at(keys.hardware), acceleration, nodes)
    _check_memory(section.report, section.at(keys.hardware), acceleration, nodes)
    return Cluster(
        kind,
        name,
        network,
        nodes,
        acceleration,
        slurm,
        uri,
        containers,
        roll,
        autostart,
        home,
        users,
        groups,
        accounting,
        section.values(HpcKeys.packages) if kind == "hpc" else (),
        home_path,
        site,
        scratch,
        quota,
        read_backup(section, home) if kind == "hpc" else None,
        mail,
        read_directory(section, home, accounting) if kind == "hpc" else None,
        health,
        read_monitoring(section, nodes[0].address, mail) if kind == "hpc" else MonitoringSettings(),
    )


def _read_quota(section: Section, storage: Section, home: Home, users: tuple[User, ...]) -> int:
    """GiB that each user may have on the data volume. Other homes lie where hpcstate sets no quotas."""
    quota = storage.value(StorageKeys.home_quota_gb)
    places = {
        storage.at(StorageKeys.home_quota_gb): quota,
        **{
            f"{section.at(HpcKeys.users)}[{at}].home_quota_gb": user.home_quota_gb
            for at, user in enumerate(users)
        },
    }
    for place in [place for place, limit in places.items() if limit and home != "nfs"]:
        section.report.error(
            place,
            f"quotas are those of the controller's data volume, and the homes are {home}",
            "leave it out, or write storage.home: nfs",
        )
    return quota


def _read_home(storage: Section, kind: Literal["hpc", "cloud"]) -> tuple[Home, str]:
    """Where homes are, and in which folder of the host. A Slurm cluster always has more than one node, and a
    data volume; others have none to share from."""
    home, path = storage.value(StorageKeys.home), storage.value(StorageKeys.home_path)
    if home == "virtio_fs" and StorageKeys.home_path not in storage:
        storage.missing(StorageKeys.home_path)
    if home != "virtio_fs" and StorageKeys.home_path in storage:
        storage.report.error(
            storage.at(StorageKeys.home_path), "only home: virtio_fs has it", "leave it out, or write that"
        )
    if path:
        check_host_folder(storage, StorageKeys.home_path, path)
    if kind == "hpc":
        return home or "nfs", path
    if home in ("nfs", "virtio_fs"):
        storage.report.error(
            storage.at(StorageKeys.home),
            "only a Slurm cluster has a data volume, from which homes are shared"
            if home == "nfs"
            else "only a Slurm cluster has shared homes",
            "leave it out",
        )
    return "local", ""


def _read_roll(cluster: Section) -> RollSettings:
    section = cluster.section(HpcKeys.roll)
    return RollSettings(
        canary=section.value(RollKeys.canary),
        batch=section.value(RollKeys.batch),
        unavailable=section.value(RollKeys.unavailable),
    )


def _warn_topology(
    report: Report, hardware: str, acceleration: Acceleration, nodes: tuple[Node, ...]
) -> None:
    """libvirt refuses a domain whose topology has another number of CPUs than the domain (formatdomain)."""
    topology = acceleration.cpu_topology
    if topology is None:
        return
    if others := [node.name for node in nodes if node.cpu_cores != topology.cpus]:
        report.warning(
            f"{hardware}.acceleration.cpu_topology",
            f"{topology.cpus} CPUs (sockets x cores x threads); not applied to nodes with another cpu_cores: "
            f"{_listed(others)}",
        )


def _check_memory(report: Report, hardware: str, acceleration: Acceleration, nodes: tuple[Node, ...]) -> None:
    """QEMU refuses memory that is no multiple of its huge pages ("memory size must be multiple of")."""
    if others := [node.name for node in nodes if node.memory_mb % acceleration.page_mb]:
        report.error(
            f"{hardware}.acceleration.performance",
            f"the memory of {_listed(others)} is no multiple of huge pages of {acceleration.hugepage_size}",
            "give them memory_gb in multiples of it, or another hugepage_size",
        )
    count = acceleration.numa_nodes
    if others := [node.name for node in nodes if count and not guest_cells(acceleration, node)]:
        report.warning(
            f"{hardware}.acceleration.numa_topology",
            f"{count} NUMA nodes; not applied to nodes without a core and a page for each: {_listed(others)}",
        )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
