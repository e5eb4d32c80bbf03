"""Partitions that somebody changed by scontrol, named."""

from __future__ import annotations

from collections.abc import Generator, Mapping

from pyinfra.api.command import PyinfraCommand
from pyinfra.context import host

from facts.partitions import SlurmPartitions
from facts.slurm import SlurmFiles
from hpcstate.node.managed import Managed
from hpcstate.probe.partitions import Partitions
from hpcstate.slurm.conf import CONF_DIRECTORY
from hpcstate.slurm.partitions_now import strange
from operations.util.arguments import operation
from operations.util.commands import name_once

MANAGED = (
    Managed(
        "slurm.partitions",
        "the partitions are as slurm.conf says: who may use them, for how long, and whether they are UP",
        "slurmctld",
        "`scontrol show partition`, against slurm.conf; the next reconfigure ends such a change",
        "named",
    ),
)


@operation()
def named(files: Mapping[str, str], controller: str) -> Generator[PyinfraCommand, None, None]:
    """A partition that slurmctld has otherwise than ``files`` (name to content of /etc/slurm) is named with
    the way back on the node ``controller``, and left alone: somebody may have closed it on purpose. Nothing
    where slurmctld is about to read other files.
    """
    conf = files["slurm.conf"]
    current = host.get_fact(SlurmFiles, directory=CONF_DIRECTORY)
    if current.get("slurm.conf") == conf:
        found: Partitions = host.get_fact(SlurmPartitions)
        for line in strange(conf, found, controller):
            name_once(host, line)
    host.noop("partitions are compared with slurm.conf")
    yield from ()
