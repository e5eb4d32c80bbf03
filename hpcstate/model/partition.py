"""A Slurm partition."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


def minutes(time: str) -> float:
    """The minutes of ``time`` in Slurm's notation, infinite for ``INFINITE`` and ``UNLIMITED``; seconds count
    as parts of one (slurm.conf(5), MaxTime)."""
    if time in ("INFINITE", "UNLIMITED"):
        return math.inf
    days, dash, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if not dash and len(parts) < 3:  # minutes, minutes:seconds; behind days: hours, hours:minutes
        parts = [0, *parts]
    hours, minute, second = (*parts, 0, 0)[:3]
    return int(days or 0) * 1440 + hours * 60 + minute + second / 60


@dataclass(frozen=True)
class Partition:
    """``nodes`` are node names; ``max_time`` and ``default_time``, the limit of a job that names none, are in
    Slurm's notation (``24:00:00``); ``state`` and ``options`` are of slurm.conf(5), by its names."""

    name: str
    nodes: tuple[str, ...]
    default: bool = False
    max_time: str = "INFINITE"
    default_time: str = "8:00:00"
    state: str = "UP"
    options: Mapping[str, str] = field(default_factory=dict)
