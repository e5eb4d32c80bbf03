"""Whether this host can run what a cluster file describes: the checks that need more than the file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network
from pathlib import Path
from urllib.parse import urlsplit

from hpcstate import paths
from hpcstate.errors import HpcstateError, Problem, ProblemsError, line_of
from hpcstate.hypervisor import fit_hardware as validate_hardware
from hpcstate.hypervisor import fit_host as validate_host
from hpcstate.hypervisor.fit_hardware import HostHardware, read_head
from hpcstate.hypervisor.fit_host import HostAccess, look
from hpcstate.hypervisor.xml import cluster_uuid
from hpcstate.model import Cluster, Description, Node
from hpcstate.passthrough import claims
from hpcstate.passthrough import request as pcie_request
from hpcstate.passthrough import verdict as pcie
from hpcstate.passthrough.claims import read_claims
from hpcstate.passthrough.request import Finding as _Finding
from hpcstate.passthrough.verdict import PciHost
from hpcstate.probe import cpus, hugepages
from hpcstate.run import local, run, which


@dataclass(frozen=True)
class Route:
    """A route of the host. ``gateway`` is empty on a directly connected network."""

    network: IPv4Network
    device: str
    gateway: str = ""


def exists(path: Path) -> bool:
    """Whether ``path`` is there; a path that cannot be (too long, not permitted) is not."""
    try:
        return path.exists()
    except OSError:
        return False


@dataclass(frozen=True)
class HostState:
    """What the checks look at. ``memory_mb`` is MiB.

    ``routes`` is None where they cannot be read, ``pci`` None when PCI devices and their ROM files are not to
    be checked; ``claims`` reads what was claimed at the first start of the cluster of a name; ``exists``
    tells whether a path does.
    """

    routes: tuple[Route, ...] | None
    memory_mb: int
    cpus: int
    pci: PciHost | None
    hardware: HostHardware
    access: HostAccess = field(default_factory=HostAccess)
    claims: Callable[[str], Mapping[str, str]] = lambda _: {}
    exists: Callable[[Path], bool] = exists


def host_state(
    *, pcie_devices: bool = True, sysfs: Path = pcie.SYSFS, proc: Path = Path("/proc")
) -> HostState:
    """The state of this host. ``pcie_devices=False`` leaves PCI out (``--skip-pcie-validation``)."""
    devices = pcie.local_host(sysfs) if pcie_devices else None
    return HostState(
        routes=parse_routes(run(["ip", "-4", "-json", "route"]).stdout) if which("ip") else None,
        memory_mb=parse_memory((proc / "meminfo").read_text()),
        cpus=len(os.sched_getaffinity(0)),
        pci=devices,
        hardware=HostHardware(
            hugepages=hugepages.parse(local(hugepages.command(str(sysfs)))),
            cells=cpus.parse(local(cpus.command(str(sysfs)))),
            numa_nodes=devices.numa_nodes if devices else {},
            head=read_head,
            mounted=hugepages.mounted((proc / "self" / "mounts").read_text()),
        ),
        access=look(),
        claims=lambda name: read_claims(paths.ClusterPaths.of(name).claims),
    )


def parse_routes(text: str) -> tuple[Route, ...]:
    """The routes in the output of ``ip -4 -json route`` (ip-route(8)), without the default route.

    Raises HpcstateError when ``text`` is no such output.
    """
    try:
        found = json.loads(text or "[]")
        return tuple(
            Route(IPv4Network(entry["dst"]), entry.get("dev", ""), entry.get("gateway", ""))
            for entry in found
            if entry["dst"] not in ("default", "0.0.0.0/0")
        )
    except (ValueError, KeyError, TypeError) as error:
        raise HpcstateError(f"the output of 'ip -json route' is not understood: {error}") from error


def parse_memory(text: str) -> int:
    """The memory of the host in MiB, from /proc/meminfo (proc_meminfo(5)).

    Raises HpcstateError when there is no MemTotal.
    """
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "MemTotal":
            return int(value.split()[0]) // 1024
    raise HpcstateError("/proc/meminfo has no MemTotal")


def host_findings(
    description: Description, host: HostState, *, starting: bool = False, pinned_mb: int = 0
) -> tuple[Problem, ...]:
    """What stands between ``description`` and ``host``, in the order of the file.

    ``starting`` says that none of its nodes runs and all are about to; ``pinned_mb`` is the memory that
    others of its nodes, which run, pin. Pure but for ``host.exists``.
    """
    here = [cluster for cluster in description.clusters if not urlsplit(cluster.uri).netloc]
    findings: list[_Finding] = list(_memory_findings(here, host))
    for cluster in description.clusters:
        if cluster not in here:
            findings.append(
                _Finding(_place(cluster, "uri"), "another host: what it has is not checked", "", True)
            )
            continue
        if cluster.nodes:
            findings.extend(_route_findings(cluster, host.routes))
        for node in {node.place: node for node in cluster.nodes}.values():
            findings.extend(_node_findings(node, host))
            findings.extend(_share_findings(node))
    if host.pci is not None:
        findings.extend(pcie_request.findings(here, host.pci))
        for cluster in here:
            findings.extend(claims.findings(cluster, host.pci.devices, host.claims(cluster.name)))
    findings.extend(
        validate_hardware.findings(
            here, host.hardware, roms=host.pci is not None, starting=starting, file=description.path
        )
    )
    findings.extend(validate_host.findings(here, host.access, host.memory_mb, pinned_mb))
    return tuple(
        sorted(
            Problem(
                line_of(description.lines, finding.place),
                finding.place,
                finding.message,
                finding.hint,
                "warning" if finding.is_warning else "error",
            )
            for finding in findings
        )
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
    """What must be so before anything is built or started for ``description`` here. Warnings are said.

    ``only`` are the names of the nodes to start. Raises ProblemsError with all errors at once.
    """
    host = host or host_state()
    starting, pinned_mb = to_start(description, host.access.running, only)
    problems = host_findings(starting, host, starting=True, pinned_mb=pinned_mb)
    errors = tuple(problem for problem in problems if problem.severity == "error")
    if errors:
        raise ProblemsError(str(description.path), errors)
    nothing = not any(cluster.nodes for cluster in starting.clusters)
    for problem in () if nothing else problems:
        say(f"note: {problem.place.removeprefix('.clusters.')}: {problem.message}")


def _place(cluster: Cluster, key: str) -> str:
    return f".clusters.{cluster.kind}.{key}"


def _memory_findings(clusters: Iterable[Cluster], host: HostState) -> Iterator[_Finding]:
    wanted = sum(node.memory_mb for cluster in clusters for node in cluster.nodes if node.auto_start)
    if wanted > host.memory_mb:
        yield _Finding(
            ".clusters",
            f"the nodes have {wanted / 1024:.1f} GiB of memory together, this host has "
            f"{host.memory_mb / 1024:.1f} GiB",
            "lower memory_gb, or set auto_start: false on nodes that need not run",
            True,
        )


def _route_findings(cluster: Cluster, routes: tuple[Route, ...] | None) -> Iterator[_Finding]:
    place = _place(cluster, "network.subnet")
    if routes is None:
        yield _Finding(place, "the host's routes are not checked: no program 'ip'", "install iproute2", True)
        return
    subnet = cluster.network.subnet
    for route in routes:
        if route.device == cluster.network.bridge or not route.network.overlaps(subnet):
            continue
        # A wide route through a gateway still works beside a narrower network of our own.
        wider = bool(route.gateway) and route.network.prefixlen < subnet.prefixlen
        yield _Finding(
            place,
            f"{subnet} overlaps the host's route to {route.network} on {route.device or 'no device'}",
            "hosts in it cannot be reached while the cluster runs"
            if wider
            else "take a free subnet (ip route)",
            wider,
        )


def _node_findings(node: Node, host: HostState) -> Iterator[_Finding]:
    if node.auto_start and node.cpu_cores > host.cpus:
        yield _Finding(
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
        yield _Finding(place, f"there is no image {node.image}", "nothing builds it: put it there", True)
    elif not host.exists(paths.ROOT / "packer" / image.stem):
        yield _Finding(
            place, f"there is no image {node.image}, and no packer/{image.stem}/ to build it", "", True
        )


def _share_findings(node: Node) -> Iterator[_Finding]:
    if node.virtio_fs_mounts:
        tags = ", ".join(mount.tag for mount in node.virtio_fs_mounts)
        yield _Finding(
            f"{node.place}.virtio_fs_mounts",
            f"the shared folders ({tags}) are not set up: {node.name} starts without them",
            "copy what it needs with rsync, or mount a network file system",
            True,
        )
