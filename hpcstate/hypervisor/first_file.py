"""The first cluster file of a host, from what it has: its GPUs, or simulated ones where it has none."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network

from hpcstate.errors import HpcstateError
from hpcstate.hypervisor.fit_host import reserve_mb
from hpcstate.passthrough import kinds
from hpcstate.passthrough import verdict as pcie
from hpcstate.passthrough.verdict import PciHost, State, Verdict
from hpcstate.render import render

_CONTROLLER_GB = 2
_NODE_GB = 2
"""GiB of memory: the controller's, and the least of a compute node."""

_SUBNETS = range(150, 200)
_FIRST_HOST = 11


@dataclass(frozen=True)
class HostSize:
    """How large the host is, and the networks that its routes take; ``is_lost`` says of a network whether a
    table that is asked first takes it away."""

    hostname: str
    cpus: int
    memory_mb: int
    networks: tuple[IPv4Network, ...] = ()
    is_lost: Callable[[IPv4Network], bool] = lambda _: False


@dataclass(frozen=True)
class _Node:
    title: str
    host: int
    cpu_cores: int
    memory_gb: int
    devices: str = ""


@dataclass(frozen=True)
class _LeftOut:
    title: str
    reasons: tuple[str, ...]


def first_file(name: str, file: str, host: PciHost, size: HostSize) -> str:
    """The text of a cluster file called ``file`` for ``host``.

    One compute node for each IOMMU group with a GPU that is ready or needs only another driver; two with two
    simulated GPUs each where there is none. The GPUs that are left out stand in comments with the reasons.
    Raises HpcstateError when all subnets we would take are in use.
    """
    found = pcie.verdicts(host)
    left_out = [
        _LeftOut(kinds.described(host.devices[verdict.address]), reasons + verdict.notes)
        for verdict in found
        if (reasons := _why_left_out(host, verdict))
    ]
    usable = _together(host, [verdict.address for verdict in found if not _why_left_out(host, verdict)])
    number = _free_subnet(size)
    count = len(usable) or 2
    cores = max((size.cpus - 2) // count, 2)
    kept_gb = -(-reserve_mb(size.memory_mb) // 1024)
    memory = max((size.memory_mb // 1024 - _CONTROLLER_GB - kept_gb) // count, _NODE_GB)
    if usable:
        nodes = [
            _Node(_title(host, gpus), _FIRST_HOST + at, cores, memory, _devices(host, gpus, along))
            for at, (gpus, along) in enumerate(usable)
        ]
    else:
        title = "Two simulated GPUs: device nodes that Slurm schedules, with nothing behind them."
        nodes = [_Node(title, _FIRST_HOST + at, 2, _NODE_GB) for at in range(count)]
    return render(
        "inventory/cluster.yaml.j2",
        name=name,
        file=file,
        hostname=size.hostname,
        cpus=size.cpus,
        memory_gb=size.memory_mb // 1024,
        gpu_count=len(found),
        network=f"192.168.{number}",
        number=number,
        controller={"cpu_cores": 2, "memory_gb": _CONTROLLER_GB},
        nodes=nodes,
        left_out=left_out,
    )


def _why_left_out(host: PciHost, verdict: Verdict) -> tuple[str, ...]:
    """Why a GPU is not given to a node, with the next steps; empty when it is."""
    if verdict.state is State.BLOCKED:
        return verdict.reasons + verdict.steps
    why = kinds.why_no_gres(host.devices[verdict.address])
    return (why, "pass it through by hand, as device_type: other") if why else ()


def gres_type(name: str, device_id: str) -> str:
    """The GRES type of a GPU: what people call it, from the brackets of its name in pci.ids, else its id.

    ``AD106 [GeForce RTX 4060 Ti 16GB]`` is ``rtx4060ti16gb``.
    """
    match = re.search(r"\[(.+)\]", name)
    words = re.sub(r"geforce|tesla|quadro|radeon", "", match[1].lower()) if match else ""
    return re.sub(r"[^a-z0-9]", "", words) or device_id


def _together(host: PciHost, addresses: list[str]) -> list[tuple[list[str], list[str]]]:
    """The GPUs that go together, and what else goes with them; each device once."""
    found: list[tuple[list[str], list[str]]] = []
    seen: set[str] = set()
    for address in addresses:
        if address in seen:
            continue
        along = pcie.companions(host, address)
        gpus = [address, *(other for other in along if kinds.becomes_gres(host.devices[other]))]
        found.append((gpus, [other for other in along if other not in gpus]))
        seen |= {address, *along}
    return found


def _title(host: PciHost, gpus: list[str]) -> str:
    return " and ".join(kinds.described(host.devices[gpu]) for gpu in gpus)


def _devices(host: PciHost, gpus: list[str], along: list[str]) -> str:
    entries = []
    for gpu in gpus:
        device = host.devices[gpu]
        kind = gres_type(device["device_name"], device["device"])
        entries.append(f"{pcie.yaml_of(host, gpu)}\n  gres_type: {kind}")
    return "\n".join([*entries, *([pcie.yaml_of(host, *along)] if along else [])])


def _free_subnet(size: HostSize) -> int:
    taken = [network for network in size.networks if network.prefixlen]  # not the default route
    # Beside a wider route (a VPN's 0.0.0.0/1, 192.168.0.0/16) a network of our own works: one that is free of
    # them is better.
    for width in (0, 24):
        for number in _SUBNETS:
            wanted = IPv4Network(f"192.168.{number}.0/24")
            if size.is_lost(wanted):
                continue
            if not any(network.overlaps(wanted) for network in taken if network.prefixlen >= width):
                return number
    raise HpcstateError(
        f"192.168.{_SUBNETS[0]}.0/24 to 192.168.{_SUBNETS[-1]}.0/24 all overlap routes of this host",
        hint="copy inventories/gpu.yaml and give it a free subnet (ip route)",
    )
