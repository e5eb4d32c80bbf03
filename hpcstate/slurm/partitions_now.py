"""Partitions that somebody changed by ``scontrol update``: what slurm.conf says of them is not in force.

slurmctld keeps such a change until it reads slurm.conf again (scontrol(1), UPDATE).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hpcstate.model.partition import minutes

_TIMES = ("MaxTime", "DefaultTime")
_WORDS = ("State", "MaxNodes", "PriorityTier", "Hidden", "AllowGroups", "AllowAccounts", "AllowQos")
"""Who may run, and for how long. Of what slurm.conf leaves out State alone is compared."""

_UP = {"state": "UP"}


def strange(slurm_conf: str, found: Mapping[str, Mapping[str, str]], controller: str) -> list[str]:
    """A line for each partition that slurmctld (``found``, hpcstate.probe.partitions) has otherwise than
    ``slurm_conf`` says, with the way back on ``controller``."""
    lines = []
    for line in re.findall(r"(?im)^PartitionName=.*$", slurm_conf):
        said = {key.lower(): value for key, _, value in (word.partition("=") for word in line.split())}
        name = said["partitionname"]
        now = found.get(name, {})
        said = _UP | said
        other = {
            key: (said[key.lower()], now[key])
            for key in (*_WORDS, *_TIMES)
            if key in now
            and key.lower() in said
            and _meaning(key, said[key.lower()]) != _meaning(key, now[key])
        }
        if other:
            there = ", ".join(f"{key}={value}" for key, (_, value) in other.items())
            back = " ".join(f"{key}={value}" for key, (value, _) in other.items())
            lines.append(
                f"partition {name} has {there} since somebody changed it by scontrol. When that is over, on "
                f"{controller}: sudo scontrol update partitionname={name} {back}"
            )
    return lines


def _meaning(key: str, value: str) -> Any:
    if key not in _TIMES:
        return frozenset(value.lower().split(","))
    try:
        return minutes(value.upper())
    except ValueError:
        return value
