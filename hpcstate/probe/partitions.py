"""The partitions as slurmctld has them now, whatever slurm.conf said when it was read."""

from __future__ import annotations

import re

from hpcstate.errors import HpcstateError
from hpcstate.probe.slurm import when_slurmctld_answers

Partitions = dict[str, dict[str, str]]
"""The attributes of each partition, by name, as ``scontrol show partition`` spells them."""

_NAME = re.compile(r"PartitionName=(\S+) ")


def command() -> str:
    """A line for each partition, for root, who sees hidden ones; nothing where slurmctld is silent."""
    return when_slurmctld_answers("scontrol --all --oneliner show partition")


def parse(text: str) -> Partitions:
    """What ``command`` printed; {} for no text. Raises HpcstateError for a line that is no partition's."""
    found: Partitions = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("No partitions"):
            continue
        name = _NAME.match(line)
        if name is None:
            raise HpcstateError(f"this is no line of scontrol show partition: {line[:100]!r}")
        words = (word.partition("=") for word in line.split())
        found[name[1]] = {key: value for key, separator, value in words if separator}
    return found
