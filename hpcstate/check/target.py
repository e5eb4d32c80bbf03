"""The running cluster that checks look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster, Description
from hpcstate.node.ssh import Live


def slurm_cluster(description: Description) -> Cluster:
    """The hpc cluster of the file; raises HpcstateError when it has none."""
    cluster = description.cluster("hpc")
    if cluster is None:
        raise HpcstateError(
            "the file describes no Slurm cluster, and the checks are those of one",
            where=str(description.path),
            hint="a Slurm cluster is described under clusters.hpc",
        )
    return cluster


def boots_of(live: Live) -> dict[str, str]:
    """Which boot each node that answers is in: another one after every restart (random(4), boot_id)."""
    script = "cat /proc/sys/kernel/random/boot_id"
    there = {node.name: script for node in live.nodes if live.answers(node.name)}
    return {name: answer.stdout.strip() for name, answer in live.run_each(there, check=False).items()}


@contextmanager
def reached(cluster: Cluster, say: Callable[[str], None]) -> Iterator[Live]:
    """Open connections to the nodes of ``cluster``, telling ``say`` of those that do not answer.

    Raises HpcstateError when the controller does not: then nothing can be checked.
    """
    with Live(cluster) as live:
        dead = live.reach()
        if cluster.controller.name in dead:
            raise dead[cluster.controller.name]
        for name, error in dead.items():
            left_out = all(node.name != name for node in live.nodes)
            say(f"  {name}: " + ("left out, not started (auto_start: false)" if left_out else error.message))
        yield live
