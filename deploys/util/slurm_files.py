"""Slurm's files as the deploys push them: rendered, and judged before a node sees them."""

from __future__ import annotations

from threading import Lock

from pyinfra import logger
from pyinfra.api.exceptions import DeployError

from hpcstate.cluster import rendered
from hpcstate.errors import HpcstateError, format_problem
from hpcstate.judge import judge
from hpcstate.model import Cluster
from hpcstate.slurm.conf import configuration


def slurm_files(cluster: Cluster) -> dict[str, str]:
    """File name to content, the same on every node. Raises DeployError, which ends the run before anything is
    changed, when a daemon would stop at one of them (hpcstate.slurm.lint), or does
    (hpcstate.judge).
    """
    with _one_judge:
        if cluster.name not in _judged:
            _judge(cluster)
            _judged.add(cluster.name)
    return configuration(cluster)


_judged: set[str] = set()
"""The clusters of this run: every host asks for the files."""

_one_judge = Lock()
"""pyinfra reads the deploys for all hosts at the same time; the first one asks, the others wait for it."""


def _judge(cluster: Cluster) -> None:
    errors = [
        format_problem(name, problem)
        for name, problems in rendered.findings(cluster).items()
        for problem in problems
        if problem.severity == "error"
    ]
    if errors:
        raise DeployError("\n".join(errors))
    try:
        judge.require(cluster, logger.warning)
    except HpcstateError as error:
        raise DeployError(str(error)) from error
