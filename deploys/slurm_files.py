"""Slurm's files as the deploys push them: rendered, and judged before a node sees them."""

from __future__ import annotations

from pyinfra.api.exceptions import DeployError

from hpcstate import rendered
from hpcstate.errors import format_problem
from hpcstate.model import Cluster
from hpcstate.slurm_conf import configuration


def slurm_files(cluster: Cluster) -> dict[str, str]:
    """File name to content, the same on every node. Raises DeployError, which ends the run before anything is
    changed, when a daemon would stop at one of them (hpcstate.slurm_lint).
    """
    errors = [
        format_problem(name, problem)
        for name, problems in rendered.findings(cluster).items()
        for problem in problems
        if problem.severity == "error"
    ]
    if errors:
        raise DeployError("\n".join(errors))
    return configuration(cluster)
