"""Whether this host can run what a cluster file describes: the checks that need more than the file."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from hpcstate import paths
from hpcstate.errors import HpcstateError, Problem, ProblemsError, line_of, problem_at
from hpcstate.hypervisor import fit_host, routes
from hpcstate.hypervisor.fit_host import HostAccess, look
from hpcstate.hypervisor.placement import placements
from hpcstate.hypervisor.routes import ROUTES, RULES, Route, RouteRule, parse_routes, parse_rules
from hpcstate.hypervisor.xml import cluster_uuid, shares
from hpcstate.model import Cluster, Description, Node
from hpcstate.passthrough import claims, request, verdict
from hpcstate.passthrough.claims import read_claims
from hpcstate.passthrough.verdict import PciHost
from hpcstate.passthrough.vfio import hugepages_needed
from hpcstate.probe import cpus, hugepages
from hpcstate.probe.cpus import HostCell
from hpcstate.probe.hugepages import Hugepages
from hpcstate.run import local, run, which


def exists(path: Path) -> bool:
    """Whether ``path`` is there; a path that cannot be (too long, not permitted) is not."""
    try:
        return path.exists()
    except OSError:
        return False


@dataclass(frozen=True)
class HostState:
    """What the checks look at. ``memory_mb`` is MiB.

    ``routes`` and ``rules`` are None where they cannot be read, ``pci`` where PCI devices and ROM files are
    not to be checked; ``claims`` reads what was claimed at the first start of the cluster of a name;
    ``exists`` tells whether a path does.
    """

    routes: tuple[Route, ...] | None
    memory_mb: int
    cpus: int
    pci: PciHost | None
    hardware: HostHardware
    access: HostAccess = field(default_factory=HostAccess)
    claims: Callable[[str], Mapping[str, str]] = lambda _: {}
    exists: Callable[[Path], bool] = exists
    rules: tuple[RouteRule, ...] | None = None


def host_state(
    *, pcie_devices: bool = True, sysfs: Path = verdict.SYSFS, proc: Path = Path("/proc")
) -> HostState:
    """The state of this host. ``pcie_devices=False`` leaves PCI out (``--skip-pcie-validation``)."""
    devices = verdict.local_host(sysfs) if pcie_devices else None
    return HostState(
        routes=parse_routes(run(ROUTES).stdout) if which("ip") else None,
        rules=read_rules(),
        memory_mb=parse_memory((proc / "meminfo").read_text()),
        cpus=len(os.sched_getaffinity(0)),
        pci=devices,
        hardware=HostHardware(
            hugepages=hugepages.parse(local(hugepages.command(str(sysfs)))),
            cells=cpus.parse(local(cpus.command(str(sysfs)))),
            numa_nodes=devices.numa_nodes if devices else {},
            head=read_head,
            mounted=hugepages.mounted((proc / "self" / "mounts").read_text()),
            address_bits=parse_address_bits((proc / "cpuinfo").read_text()),
        ),
        access=look(),
        claims=lambda name: read_claims(paths.ClusterPaths.of(name).claims),
    )


def read_rules() -> tuple[RouteRule, ...] | None:
    """The rules of this host; None without ip(8), and where the kernel has no tables to choose from
    (CONFIG_IP_MULTIPLE_TABLES: it refuses to list them).
    """
    listed = run(RULES, check=False) if which("ip") else None
    return parse_rules(listed.stdout) if listed is not None and listed.code == 0 else None


def parse_memory(text: str) -> int:
    """The memory of the host in MiB, from /proc/meminfo (proc_meminfo(5)).

    Raises HpcstateError when there is no MemTotal.
    """
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "MemTotal":
            return int(value.split()[0]) // 1024
    raise HpcstateError("/proc/meminfo has no MemTotal")


def parse_address_bits(text: str) -> int:
    """The bits of a physical address of this host's processor, from /proc/cpuinfo; 0 where it tells none."""
    said = re.search(r"^address sizes\s*: (\d+) bits physical", text, re.M)
    return int(said[1]) if said else 0


GUEST_ADDRESS_BITS = 40
"""Those of a guest whose CPU is not the host's (QEMU, target/i386: phys-bits)."""


def guest_address_bits(cluster: Cluster, host_bits: int) -> int:
    """The bits of a physical address in nodes of ``cluster`` on a host with ``host_bits`` (0: unknown).

    The host's with the CPU "host" alone, which has QEMU's host-phys-bits (target/i386/host-cpu.c).
    """
    acceleration = cluster.acceleration
    whole = acceleration.enable_kvm and acceleration.cpu_model in ("host", "host-passthrough")
    return host_bits if whole and host_bits else GUEST_ADDRESS_BITS


def _bar_findings(cluster: Cluster, pci: PciHost, host_bits: int) -> Iterator[Problem]:
    """Nodes whose devices ask for more addresses than the node's firmware has for them: a half of all.

    So it was seen with SeaBIOS at 40 bits, which mapped one of several regions of 256 GiB, or three of 128
    (kubevirt#11093). A guest's driver then finds a "BAR1 is 0M" and does not start the device.
    """
    bits = guest_address_bits(cluster, host_bits)
    for node in cluster.nodes:
        devices = [
            pci.devices[device.pci_address]
            for device in node.passthrough
            if device.pci_address in pci.devices
        ]
        needed = sum(sum(device["bars"]) for device in devices)
        if needed < 1 << (bits - 1):
            continue
        enough = needed < 1 << (max(host_bits, 1) - 1)
        yield problem_at(
            f"{node.place}.pcie_passthrough.devices",
            f"the devices of {node.name} ask for {needed / 2**30:.0f} GiB of addresses, and a node of {bits} "
            f"address bits has {2 ** (bits - 31)} for them: its firmware leaves some without",
            f"hardware.acceleration: {{cpu_model: host-passthrough}} gives it the {host_bits} bits of this"
            " host"
            if enough
            else "give it fewer of these devices",
        )


def host_findings(
    description: Description, host: HostState, *, starting: bool = False, pinned_mb: int = 0
) -> tuple[Problem, ...]:
    """What stands between ``description`` and ``host``, in the order of the file.

    ``starting`` says that none of its nodes runs and all are about to; ``pinned_mb`` is the memory that
    others of its nodes, which run, pin. Pure but for ``host.exists``.
    """
    here = [cluster for cluster in description.clusters if not urlsplit(cluster.uri).netloc]
    findings: list[Problem] = list(_memory_findings(here, host))
    for cluster in description.clusters:
        if cluster not in here:
            findings.append(
                problem_at(_place(cluster, "uri"), "another host: what it has is not checked", "", True)
            )
            continue
        if cluster.nodes:
            findings.extend(routes.findings(cluster, host.routes, host.rules))
        for node in {node.place: node for node in cluster.nodes}.values():
            findings.extend(_node_findings(node, host))
        findings.extend(_share_findings(cluster, host))
    if host.pci is not None:
        findings.extend(request.findings(here, host.pci))
        for cluster in here:
            findings.extend(_bar_findings(cluster, host.pci, host.hardware.address_bits))
            findings.extend(claims.findings(cluster, host.pci.devices, host.claims(cluster.name)))
    findings.extend(
        _hardware_findings(
            here, host.hardware, roms=host.pci is not None, starting=starting, file=description.path
        )
    )
    findings.extend(fit_host.findings(here, host.access, host.memory_mb, pinned_mb))
    return tuple(
        sorted(replace(problem, line=line_of(description.lines, problem.place)) for problem in findings)
    )


def to_start(
    description: Description, running: Collection[str], only: Collection[str] = ()
) -> tuple[Description, int]:
    """``description`` with those nodes alone that a start (of ``only``, else of all with auto_start) would
    power on, and the MiB of memory that nodes with devices pin which run already.

    What runs has what it needs (its devices, huge pages, memory): the host lacks them because of that. Where
    no node of a cluster is about to start, all that is asked is whether libvirt may be used.
    """
    clusters, pinned_mb = [], 0
    for cluster in description.clusters:
        nodes = []
        for node in cluster.nodes:
            if cluster_uuid(cluster, node.name) in running:
                pinned_mb += node.memory_mb if node.passthrough else 0
            elif node.name in only or (node.auto_start and not only):
                nodes.append(replace(node, auto_start=True))
        clusters.append(replace(cluster, nodes=tuple(nodes)))
    return replace(description, clusters=tuple(clusters)), pinned_mb


def demand(
    description: Description,
    say: Callable[[str], None],
    host: HostState | None = None,
    *,
    only: Collection[str] = (),
) -> None:
    """What must be so before anything is built or started for ``description`` here. Warnings are said, those
    of the file itself first.

    ``only`` are the names of the nodes to start. Raises ProblemsError with all errors at once.
    """
    host = host or host_state()
    starting, pinned_mb = to_start(description, host.access.running, only)
    problems = host_findings(starting, host, starting=True, pinned_mb=pinned_mb)
    errors = tuple(problem for problem in problems if problem.severity == "error")
    if errors:
        raise ProblemsError(str(description.path), errors)
    nothing = not any(cluster.nodes for cluster in starting.clusters)
    for problem in (*description.warnings, *(() if nothing else problems)):
        say(f"note: {problem.place.removeprefix('.clusters.')}: {problem.message}")


def _place(cluster: Cluster, key: str) -> str:
    return f".clusters.{cluster.kind}.{key}"


def _memory_findings(clusters: Iterable[Cluster], host: HostState) -> Iterator[Problem]:
    wanted = sum(node.memory_mb for cluster in clusters for node in cluster.nodes if node.auto_start)
    if wanted > host.memory_mb:
        yield problem_at(
            ".clusters",
            f"the nodes have {wanted / 1024:.1f} GiB of memory together, this host has "
            f"{host.memory_mb / 1024:.1f} GiB",
            "lower memory_gb, or set auto_start: false on nodes that need not run",
            True,
        )


def _node_findings(node: Node, host: HostState) -> Iterator[Problem]:
    if node.auto_start and node.cpu_cores > host.cpus:
        yield problem_at(
            f"{node.place}.cpu_cores",
            f"{node.name} has {node.cpu_cores} CPUs, this host has {host.cpus}",
            "it works, but slower than with fewer",
            True,
        )
    image = paths.ROOT / node.image
    if host.exists(image):
        return
    place = f"{node.place}.base_image_path"
    if not image.is_relative_to(paths.BUILD) and not image.is_relative_to(paths.ROOT / "build"):
        yield problem_at(place, f"there is no image {node.image}", "nothing builds it: put it there", True)
    elif not host.exists(paths.ROOT / "packer" / image.stem):
        yield problem_at(
            place, f"there is no image {node.image}, and no packer/{image.stem}/ to build it", "", True
        )


def _share_findings(cluster: Cluster, host: HostState) -> Iterator[Problem]:
    """What stands between the folders that nodes of ``cluster`` mount and this host; once for each folder."""
    mounts = {mount.place: (mount, node) for node in cluster.nodes for mount in shares(cluster, node)}
    for place, (mount, node) in mounts.items():
        if not host.exists(Path(mount.source)):
            yield problem_at(
                place, f"there is no folder {mount.source} on this host", f"make it: mkdir -p {mount.source}"
            )
        elif _holds_secrets(Path(mount.source)):
            yield problem_at(
                place,
                f"root of {node.name} reads the keys of the cluster in {mount.source}"
                + ("" if mount.read_only else ", and may change the programs that you run from there"),
                "share another folder, or trust root of the node with them",
                True,
            )


def _holds_secrets(folder: Path) -> bool:
    return any(path.is_relative_to(folder) for path in (paths.ROOT, paths.BUILD))


ROM_SIGNATURE = b"\x55\xaa"
"""The first two bytes of an expansion ROM image (PCI Firmware Specification 3.0, 5.1.1)."""


@dataclass(frozen=True)
class HostHardware:
    """What the findings look at. ``hugepages`` is by size (``2M``), ``cells`` are the cores by NUMA node, and
    ``numa_nodes`` that of each PCI device by address. ``head`` reads the first bytes of a file; it raises
    HpcstateError with the reason when it cannot. ``mounted`` are the sizes of huge pages that a hugetlbfs
    is mounted for; None where nobody looked. ``address_bits`` are those of a physical address, 0 where they
    are not known.
    """

    hugepages: Mapping[str, Hugepages]
    cells: Sequence[HostCell]
    numa_nodes: Mapping[str, int]
    head: Callable[[Path], bytes]
    mounted: frozenset[str] | None = None
    address_bits: int = 0


def read_head(path: Path) -> bytes:
    """The first bytes of the file at ``path``. Raises HpcstateError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(ROM_SIGNATURE))
    except OSError as error:
        raise HpcstateError((error.strerror or str(error)).lower(), where=str(path)) from error


def _hardware_findings(
    clusters: Sequence[Cluster],
    host: HostHardware,
    *,
    roms: bool = True,
    starting: bool = False,
    file: Path = Path("FILE"),
) -> Iterator[Problem]:
    """What ``clusters`` of ``file``, to run on ``host``, ask of it that it does not have; ROMs only with
    ``roms``. ``starting`` says that none of their nodes runs and has some of it already.
    """
    yield from _hugepages(clusters, host, file, starting=starting)
    for cluster in clusters:
        yield from _pinning(cluster, host)
        for node in cluster.nodes if roms else ():
            yield from _roms(node, host)


def _roms(node: Node, host: HostHardware) -> Iterator[Problem]:
    for position, device in enumerate(node.passthrough):
        if not device.rom_file:
            continue
        place = f"{node.place}.pcie_passthrough.devices[{position}].rom_file"
        try:
            head = host.head(Path(device.rom_file))
        except HpcstateError as error:
            yield problem_at(
                place,
                f"{device.rom_file} cannot be read: {error.message}",
                "put the device's ROM image there, or leave rom_file out: the device has its own",
            )
            continue
        if head != ROM_SIGNATURE:
            yield problem_at(
                place,
                f"{device.rom_file} is no option ROM: it begins with {head.hex(' ') or 'nothing'}, not with "
                f"{ROM_SIGNATURE.hex(' ')}",
                "images saved by a vendor's flash program have a header before that: cut it off",
            )


def _hugepages(
    clusters: Iterable[Cluster], host: HostHardware, file: Path, *, starting: bool
) -> Iterator[Problem]:
    """One finding a size: the nodes of all clusters of the file take them from one supply."""
    asking = [cluster for cluster in clusters if cluster.acceleration.hugepages]
    for size, needed in hugepages_needed(asking).items():
        if not needed:
            continue
        first = next(cluster for cluster in asking if cluster.acceleration.hugepage_size == size)
        place = f".clusters.{first.kind}.hardware.acceleration"
        have = host.hugepages.get(size, Hugepages(total=0, free=0))
        if have["total"] < needed:
            yield problem_at(
                place,
                f"the nodes need {needed} huge pages of {size}, this host has set {have['total']} aside",
                _setting_aside(size, needed, file),
            )
        elif have["free"] < needed:
            yield problem_at(
                place,
                f"the nodes need {needed} huge pages of {size}, {have['free']} of {have['total']} are free",
                _setting_aside(size, have["total"] + needed - have["free"], file)
                if starting
                else "fine if this cluster runs and has them; else stop what does (grep Huge /proc/meminfo)",
                not starting,
            )
        if host.mounted is not None and size not in host.mounted:
            at = f"/dev/hugepages{size}"
            yield problem_at(
                place,
                f"no hugetlbfs of {size} pages is mounted: libvirt refuses to start the nodes",
                f"sudo mkdir -p {at} && sudo mount -t hugetlbfs -o pagesize={size} hugetlbfs {at}, then "
                "restart libvirtd (it looks for them as it starts): sudo systemctl restart libvirtd",
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


def _pinning(cluster: Cluster, host: HostHardware) -> Iterator[Problem]:
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
        yield problem_at(
            f".clusters.{cluster.kind}.hardware.acceleration",
            f"no cores are left to pin {names} to: the nodes have {wanted} CPUs, this host {threads} in "
            f"{cores} cores, and nodes share none",
            "they start unpinned; lower cpu_cores, or leave cpu_pinning out",
            True,
        )
