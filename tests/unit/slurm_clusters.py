"""Clusters for tests of Slurm's configuration, made by hand."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from hpcstate.model import (
    AccountingSettings,
    Cluster,
    Network,
    Node,
    Partition,
    SimulatedGpus,
    SlurmConfig,
)


def node(number: int, *, gpus: int = 0, memory_mb: int = 2048, cpu_cores: int = 2) -> Node:
    """``controller`` for number 0, else ``compute-<number>``."""
    return Node(
        name=f"compute-{number:02}" if number else "controller",
        role="compute" if number else "controller",
        cpu_cores=cpu_cores,
        memory_mb=memory_mb,
        disk_gb=10,
        address=IPv4Address("10.0.0.10") + number,
        mac=f"52:54:00:00:00:{number:02x}",
        image="hpc-base",
        place=f".compute_nodes[{number}]",
        simulated_gpus=SimulatedGpus(gpus) if gpus else None,
    )


def cluster(*workers: Node, parameters: dict[str, str] | None = None, accounting: bool = True) -> Cluster:
    """An hpc cluster with one partition, ``main``, of all ``workers``, and with ``accounting`` a slurmdbd."""
    names = tuple(worker.name for worker in workers)
    return Cluster(
        kind="hpc",
        name="lab",
        network=Network("lab", IPv4Network("10.0.0.0/24"), "virbr9", IPv4Address("10.0.0.1")),
        nodes=(node(0), *workers),
        slurm=SlurmConfig((Partition("main", names, default=True),), parameters or {}),
        accounting=AccountingSettings(on=accounting),
    )


def without_slurm() -> Cluster:
    """A cluster that no slurm.conf can be made for."""
    return replace(cluster(node(1)), slurm=None)
