"""Containers in jobs, as the suites start them."""

from __future__ import annotations

from hpcstate.check.jobs import pair, together
from hpcstate.node.ssh import Live

WRAPPER = "/usr/bin/container-exec"


def in_container(name: str, *command: str) -> tuple[str, ...]:
    """The words that run ``command`` in the container ``name`` of the registry, in a task of a job."""
    return ("container-exec", name, "--", *command)


def two_nodes(live: Live) -> tuple[str, ...]:
    """The srun arguments that place one job on both nodes of :func:`hpcstate.check.jobs.pair`."""
    return together(live, pair(live))[0]
