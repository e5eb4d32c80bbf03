"""How a change goes through the nodes of a cluster: ``roll`` of the file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """So many nodes or, with ``percent``, so many of a hundred."""

    number: int
    percent: bool = False

    def of(self, total: int) -> int:
        """How many of ``total`` nodes these are: rounded down, and at least one."""
        return max(1, total * self.number // 100 if self.percent else self.number)

    def __str__(self) -> str:
        return f"{self.number}%" if self.percent else str(self.number)


QUARTER, ONE = Share(25, percent=True), Share(1)


@dataclass(frozen=True)
class RollSettings:
    """``canary`` nodes go first; when they have passed, the others in batches of ``batch`` of all compute
    nodes; at no time are more than ``unavailable`` of them away, those included that are so already.
    """

    canary: int = 1
    batch: Share = QUARTER
    unavailable: Share = ONE
