"""Resources that a Slurm cluster keeps for some of its people, or keeps free: a reservation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

RECURRING: Mapping[str, int] = {
    "HOURLY": 3600,
    "DAILY": 86_400,
    "WEEKDAY": 86_400,
    "WEEKEND": 86_400,
    "WEEKLY": 604_800,
}
"""The flags of a reservation that comes again, and how many seconds are at least between two
(scontrol(1), Flags)."""

OWN_PREFIX = "hpcstate-"
"""So begin reservations of hpcstate's own, like those of a roll (hpcstate.cluster.replace), and no others."""

EVERY_NODE = ("ALL",)
"""``nodes`` of a reservation of all nodes, also of those that come later."""


@dataclass(frozen=True)
class Reservation:
    """An entry of ``accounting.reservations``. Times are the controller's own, without a zone.

    ``start`` is None where it begins when it is made. One that happens once ends at ``end``, and never where
    that is None; one that comes again lasts ``minutes`` each time. ``node_count`` is 0 where not given.
    ``tres`` are names to counts. ``flags`` are scontrol's.
    """

    name: str
    start: datetime | None
    end: datetime | None = None
    minutes: int = 0
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    node_count: int = 0
    partition: str = ""
    features: str = ""
    tres: Mapping[str, int] = field(default_factory=dict)
    flags: tuple[str, ...] = ()

    @property
    def recurring(self) -> str:
        """The flag by which it comes again, empty without."""
        return next((flag for flag in self.flags if flag in RECURRING), "")
