"""What a cluster file asks of this host beside devices: option ROMs, huge pages, cores of their own. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcstate.errors import HpcstateError
from hpcstate.hypervisor.placement import placements
from hpcstate.model import Cluster, Node
from hpcstate.passthrough.request import Finding
from hpcstate.passthrough.vfio import hugepages_needed
from hpcstate.probe.cpus import HostCell
from hpcstate.probe.hugepages import Hugepages

ROM_SIGNATURE = b"\x55\xaa"
"""The first two bytes of an expansion ROM image (PCI Firmware Specification 3.0, 5.1.1)."""


@dataclass(frozen=True)
class HostHardware:
    """What the findings look at. ``hugepages`` is by size (``2M``), ``cells`` are the cores by NUMA node, and
    ``numa_nodes`` that of each PCI device by address. ``head`` reads the first bytes of a file; it raises
    HpcstateError with the reason when it cannot. ``mounted`` are the sizes of huge pages that a hugetlbfs
    is mounted for; None where nobody looked.
    """

    hugepages: Mapping[str, Hugepages]
    cells: Sequence[HostCell]
    numa_nodes: Mapping[str, int]
    head: Callable[[Path], bytes]
    mounted: frozenset[str] | None = None


def read_head(path: Path) -> bytes:
    """The first bytes of the file at ``path``. Raises HpcstateError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(ROM_SIGNATURE))
    except OSError as error:
        raise HpcstateError((error.strerror or str(error)).lower(), where=str(path)) from error


def findings(
    clusters: Sequence[Cluster],
    host: HostHardware,
    *,
    roms: bool = True,
    starting: bool = False,
    file: Path = Path("FILE"),
) -> Iterator[Finding]:
    """What ``clusters`` of ``file``, to run on ``host``, ask of it that it does not have; ROMs only with
    ``roms``. ``starting`` says that none of their nodes runs and has some of it already.
    """
    yield from _hugepages(clusters, host, file, starting=starting)
    for cluster in clusters:
        yield from _pinning(cluster, host)
        for node in cluster.nodes if roms else ():
            yield from _roms(node, host)


def _roms(node: Node, host: HostHardware) -> Iterator[Finding]:
    for position, device in enumerate(node.passthrough):
        if not device.rom_file:
            continue
        place = f"{node.place}.pcie_passthrough.devices[{position}].rom_file"
        try:
            head = host.head(Path(device.rom_file))
        except HpcstateError as error:
            yield Finding(
                place,
                f"{device.rom_file} cannot be read: {error.message}",
                "put the device's ROM image there, or leave rom_file out: the device has its own",
            )
            continue
        if head != ROM_SIGNATURE:
            yield Finding(
                place,
                f"{device.rom_file} is no option ROM: it begins with {head.hex(' ') or 'nothing'}, not with "
                f"{ROM_SIGNATURE.hex(' ')}",
                "images saved by a vendor's flash program have a header before that: cut it off",
            )


def _hugepages(
    clusters: Iterable[Cluster], host: HostHardware, file: Path, *, starting: bool
) -> Iterator[Finding]:
    """One finding a size: the nodes of all clusters of the file take them from one supply."""
    asking = [cluster for cluster in clusters if cluster.acceleration.hugepages]
    for size, needed in hugepages_needed(asking).items():
        if not needed:
            continue
        first = next(cluster for cluster in asking if cluster.acceleration.hugepage_size == size)
        place = f".clusters.{first.kind}.hardware.acceleration"
        have = host.hugepages.get(size, Hugepages(total=0, free=0))
        if have["total"] < needed:
            yield Finding(
                place,
                f"the nodes need {needed} huge pages of {size}, this host has set {have['total']} aside",
                _setting_aside(size, needed, file),
            )
        elif have["free"] < needed:
            yield Finding(
                place,
                f"the nodes need {needed} huge pages of {size}, {have['free']} of {have['total']} are free",
                _setting_aside(size, have["total"] + needed - have["free"], file)
                if starting
                else "fine if this cluster runs and has them; else stop what does (grep Huge /proc/meminfo)",
                not starting,
            )
        if host.mounted is not None and size not in host.mounted:
            at = f"/dev/hugepages{size}"
            yield Finding(
                place,
                f"no hugetlbfs of {size} pages is mounted: libvirt refuses to start the nodes",
                f"sudo mkdir -p {at} && sudo mount -t hugetlbfs -o pagesize={size} hugetlbfs {at}, and "
                "libvirtd anew (it looks for them as it starts): sudo systemctl restart libvirtd",
            )


def _setting_aside(size: str, pages: int, file: Path) -> str:
    """How to have ``pages`` of ``size``. Large ones are sure to be found only as the host boots (Linux,
    admin-guide/mm/hugetlbpage.rst).
    """
    boot = f"HPCSTATE_CLUSTER_FILE={shlex.quote(str(file))} pyinfra @local deploys/hypervisor.py"
    kib = {"2M": 2048, "1G": 1 << 20}[size]
    now = f"echo {pages} | sudo tee /sys/kernel/mm/hugepages/hugepages-{kib}kB/nr_hugepages"
    few = " (where it finds fewer, a boot after the next command does)" if size == "1G" else ""
    return f"now: {now}{few}; at every boot: {boot}"


def _pinning(cluster: Cluster, host: HostHardware) -> Iterator[Finding]:
    """Nodes without cores of their own start all the same, unpinned: a warning."""
    if not cluster.acceleration.cpu_pinning:
        return
    pinned = placements(cluster, host.cells, host.numa_nodes)
    unpinned = [node for node in cluster.nodes if node.auto_start and node.name not in pinned]
    if unpinned:
        names = ", ".join(node.name for node in unpinned)
        cores = sum(len(cell.cores) for cell in host.cells)
        threads = sum(len(core) for cell in host.cells for core in cell.cores)
        wanted = sum(node.cpu_cores for node in cluster.nodes)
        yield Finding(
            f".clusters.{cluster.kind}.hardware.acceleration",
            f"no cores are left to pin {names} to: the nodes have {wanted} CPUs, this host {threads} in "
            f"{cores} cores, and nodes share none",
            "they start unpinned; lower cpu_cores, or leave cpu_pinning out",
            True,
        )
