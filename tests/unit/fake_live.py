"""A cluster that answers from a table, for tests of the checks."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network

from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster, Network, Node, Partition, SimulatedGpus, SlurmConfig
from hpcstate.model.node import Role
from hpcstate.node.ssh import Live, TimedOutError, User
from hpcstate.run import Result

Answer = Callable[[str, str], Result | HpcstateError | str]
"""From a node's name and a script to its output, its result, or the error to raise."""


def a_node(
    name: str, number: int, role: Role = "compute", *, cpus: int = 2, gpus: int = 2, auto_start: bool = True
) -> Node:
    """A node with ``gpus`` simulated GPUs."""
    return Node(
        name=name,
        role=role,
        cpu_cores=cpus,
        memory_mb=2048,
        disk_gb=10,
        address=IPv4Address(f"192.168.150.{number}"),
        mac=f"52:54:00:00:00:{number:02x}",
        image="hpc-base",
        place=f".clusters.hpc.{name}",
        auto_start=auto_start,
        simulated_gpus=SimulatedGpus(gpus) if gpus else None,
    )


def a_cluster(*workers: Node, partitions: tuple[Partition, ...] | None = None) -> Cluster:
    """A cluster of a controller and ``workers``, all in one partition unless ``partitions`` are given."""
    names = tuple(node.name for node in workers)
    subnet = IPv4Network("192.168.150.0/24")
    return Cluster(
        kind="hpc",
        name="test",
        network=Network("test", subnet, "virbr150", IPv4Address("192.168.150.1")),
        nodes=(a_node("controller", 10, "controller", gpus=0), *workers),
        slurm=SlurmConfig(partitions if partitions is not None else (Partition("all", names, default=True),)),
    )


TWO = a_cluster(a_node("compute-01", 11), a_node("compute-02", 12))


class FakeLive(Live):
    """``answer`` stands for the nodes; ``scripts`` keeps what was asked (node, user, script)."""

    def __init__(self, answer: Answer, cluster: Cluster = TWO) -> None:
        super().__init__(cluster)
        self.answer = answer
        self.scripts: list[tuple[str, str, str]] = []

    def run(
        self, node: str, script: str, *, user: User = "admin", timeout: float = 60, check: bool = True
    ) -> Result:
        """The table's answer, raising as the real one does."""
        self.scripts.append((node, user, script))
        answer = self.answer(node, script)
        if isinstance(answer, HpcstateError):
            raise answer
        result = answer if isinstance(answer, Result) else Result(("ssh",), 0, answer, "")
        if check and result.code != 0:
            raise HpcstateError(f"a command ended with {result.code}", where=node)
        return result


def failing(code: int = 1, stderr: str = "") -> Result:
    """The result of a command that failed."""
    return Result(("ssh",), code, "", stderr)


def timed_out(seconds: int = 30) -> TimedOutError:
    """What a command that hangs comes to."""
    return TimedOutError(f"a command did not end within {seconds} s")
