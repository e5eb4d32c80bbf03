"""Slurm's note of what a node runs: hpcstate.node.runs has what it is and where it stands."""

from __future__ import annotations

from collections.abc import Generator

from pyinfra.api.command import PyinfraCommand, StringCommand
from pyinfra.context import host

from facts.node_runs import RunsOnNode
from facts.slurm import SlurmNodes
from hpcstate.node import runs
from hpcstate.node.managed import Managed
from operations.util.arguments import operation

MANAGED = (
    Managed(
        "slurm.runs",
        "what Slurm has noted of a node: its image, its configuration, its containers",
        "Extra of the node, in slurmctld",
        "`scontrol show nodes`, against the node's own image, files and registry",
        "mended",
    ),
)


@operation()
def note(node: str, paths: tuple[str, ...]) -> Generator[PyinfraCommand, None, None]:
    """slurmctld has noted what ``node``, which is this host, runs; its configuration are the files ``paths``.

    Asked and told on the node itself, as its drains are: no host has to know the facts of another. A text
    that somebody else keeps in that field stays.
    """
    known = host.get_fact(SlurmNodes).get(node)
    if known is None:
        host.noop(f"slurmctld does not answer, or has no node {node}: nothing was noted")
        return
    told = runs.running(host.get_fact(RunsOnNode, paths=paths), paths)
    if runs.noted(known["extra"]) == told:
        host.noop(f"Slurm has noted what {node} runs")
        return
    extra = runs.note(known["extra"], told)
    if extra is None:
        host.noop(
            f"Extra of {node} is a text of somebody else's, and stays. To have noted there what the node "
            f"runs: scontrol update nodename={node} extra="
        )
        return
    yield StringCommand(runs.note_command(node, extra))
