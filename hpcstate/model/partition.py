"""A Slurm partition."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Partition:
    """``nodes`` are node names; ``max_time`` is in Slurm's notation (``24:00:00``)."""

    name: str
    nodes: tuple[str, ...]
    default: bool = False
    max_time: str = "INFINITE"
