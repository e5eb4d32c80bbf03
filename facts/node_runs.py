"""Facts about what a node runs. hpcstate.probe.node_runs describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import node_runs
from hpcstate.probe.node_runs import NodeRuns


class RunsOnNode(ProbedFact[NodeRuns]):
    """The image of the node's disk, the digests of those of ``paths`` that are there, and the containers of
    its registry: one command.

    >>> host.get_fact(RunsOnNode, paths=("/etc/hosts",))["image"]
    'hpc-base-0f3a5c7e9b1d'
    """

    command = staticmethod(node_runs.command)
    parse = staticmethod(node_runs.parse)
