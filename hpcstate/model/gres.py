"""How the GPUs of a node become generic resources of Slurm (``gres``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

AutoDetect = Literal["off", "nvml", "nvidia"]
"""What finds the GPUs for slurmd: our facts, the NVML library, or /proc (gres.conf(5), AutoDetect)."""


@dataclass(frozen=True)
class GresSettings:
    """``gres`` of a compute node.

    ``autodetect`` ``off`` means that gres.conf names every device. ``shard`` and ``mps`` are the number of
    shares of each GPU (gres/shard, gres/mps; 0: not shared); a node has one kind of them at most.
    """

    autodetect: AutoDetect = "off"
    shard: int = 0
    mps: int = 0

    @property
    def sharing(self) -> tuple[str, int] | None:
        """The shared GRES and its count for each GPU: ``("shard", 4)``; None when GPUs are not shared."""
        if self.shard:
            return "shard", self.shard
        return ("mps", self.mps) if self.mps else None


EXPLICIT = GresSettings()
"""gres.conf names every device, and no GPU is shared."""
