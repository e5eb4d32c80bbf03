"""Slurm's files as the deploys push them: rendered, judged before a node sees them, true of its machine."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from pyinfra import logger
from pyinfra.api.exceptions import DeployError
from pyinfra.context import host
from pyinfra.facts.hardware import Cpus, Memory

from deploys.util.context import Target
from facts.root_disk import RootDisk
from hpcstate.cluster import rendered
from hpcstate.errors import HpcstateError, format_problem
from hpcstate.judge import judge
from hpcstate.model import Cluster
from hpcstate.paths import shown
from hpcstate.slurm.conf import configuration, promised_too_much


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


def demand_machine(this: Target) -> None:
    """Raises DeployError, which ends the run before anything is changed, when slurm.conf would promise more
    of this host than its machine has.
    """
    if lacks := promised_too_much(
        this.node, host.get_fact(Cpus), host.get_fact(Memory), host.get_fact(RootDisk)
    ):
        raise DeployError(
            f"{this.node.name}: slurm.conf would say {lacks}; nothing was changed\n"
            f"  hint: ./hpc up {shown(Path(host.data.cluster_file))}: it changes the machine first"
        )


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
