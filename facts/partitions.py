"""The partitions that slurmctld has now. hpcstate.probe.partitions describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import partitions
from hpcstate.probe.partitions import Partitions


class SlurmPartitions(ProbedFact[Partitions]):
    """The attributes of each partition by name, as scontrol spells them; {} when Slurm is absent or slurmctld
    silent.

    >>> host.get_fact(SlurmPartitions)["gpu"]["State"]
    'UP'
    """

    command = staticmethod(partitions.command)
    parse = staticmethod(partitions.parse)
