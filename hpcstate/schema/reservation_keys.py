"""The keys of ``accounting.reservations``, by scontrol's names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from hpcstate.model import Reservation
from hpcstate.model.reservation import OWN_PREFIX, RECURRING
from hpcstate.schema import leaf
from hpcstate.schema.account import account_name
from hpcstate.schema.accounting_keys import SLURM_NAME, tres
from hpcstate.schema.declare import Keys, ListKey, ValueKey
from hpcstate.schema.leaf import LeafError

NOW = "now"

FLAGS = (
    *RECURRING,
    *("FLEX", "IGNORE_JOBS", "MAGNETIC", "MAINT", "NO_HOLD_JOBS_AFTER", "OVERLAP"),
    *("REPLACE", "REPLACE_DOWN", "STATIC_ALLOC"),
)
"""Flags of scontrol(1) that mean the same at every deploy. Others do not: TIME_FLOAT moves with the clock,
PURGE_COMP and USER_DELETE end a reservation that the next deploy would make again, ANY_NODES is for licences,
and PART_NODES follows from ``partition`` alone."""

_NAME = leaf.pattern(r"[A-Za-z0-9][A-Za-z0-9_.-]*", "a name of letters, digits, '_', '-' and '.'", longest=60)
_FEATURES = leaf.pattern(
    r"[A-Za-z_][A-Za-z0-9_.-]*([&|][A-Za-z_][A-Za-z0-9_.-]*)*", "features with & or | between, like gpu&big"
)


def reservation_name(value: str) -> str:
    """The name of a reservation."""
    if value.startswith(OWN_PREFIX):
        raise LeafError("another name", f"those with {OWN_PREFIX} are hpcstate's own: a roll makes them")
    return _NAME(value)


def moment(value: str) -> datetime:
    """A time of the controller's clock."""
    if re.fullmatch(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?", value, re.ASCII):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            pass
    raise LeafError("a time like 2026-12-24T08:00")


def start(value: str) -> datetime | str:
    """When it begins: a time, or ``now``."""
    if value == NOW:
        return value
    try:
        return moment(value)
    except LeafError:
        raise LeafError("a time like 2026-12-24T08:00, or now") from None


def user_name(value: str) -> str:
    """Who may use it: a person, ``hpc`` or ``root``."""
    return value if value in ("hpc", "root", "admin") else account_name(value)


def reserved_tres(value: str) -> Mapping[str, int]:
    """TRES of a reservation. Slurm reserves no memory (src/slurmctld/reservation.c, _parse_tres_str)."""
    found = tres(value)
    if any(name not in ("cpu", "node") and not name.startswith("gres/") for name in found):
        raise LeafError("counts of cpu, node or gres/..., like cpu=8 or gres/gpu=2")
    return found


def node_names(value: str) -> tuple[str, ...]:
    """A host list, or ``ALL``."""
    return (value,) if value == "ALL" else leaf.host_list(value)


class ReservationKeys(Keys, title="accounting.reservations"):
    name = ValueKey(
        "letters, digits, `_`, `-`, `.`; jobs name it with `--reservation`",
        reservation_name,
        "",
        required=True,
    )
    start = ValueKey[datetime | str | None](
        "when it begins, by the controller's clock: `2026-12-24T08:00`; of one that comes again, the first "
        "time. `now`: when it is made",
        start,
        None,
        required=True,
    )
    end = ValueKey[datetime | None]("when it ends", moment, None)
    duration = ValueKey[str | None](
        "how long it lasts, in place of `end`: minutes, `H:MM:SS`, `D-HH:MM:SS`; `UNLIMITED` is a year to "
        "Slurm, and the next deploy makes it anew",
        leaf.time_limit,
        None,
    )
    users = ListKey("who may use it; with `accounts` too, only who has both", user_name)
    groups = ListKey("Unix groups in place of `users`", account_name)
    accounts = ListKey("accounts whose jobs may use it", SLURM_NAME)
    nodes = ListKey("names or host lists, or `ALL`", node_names)
    node_count = ValueKey[int | None](
        "how many nodes, which Slurm chooses, in place of `nodes`", leaf.integer(1, 65_536), None
    )
    partition = ValueKey(
        "of which partition; alone: all of its nodes, also later ones",
        leaf.PARTITION_NAME,
        Reservation.partition,
        default_text="the default one where Slurm chooses nodes",
    )
    features = ValueKey(
        "features that the nodes of `node_count` have: `gpu&big`", _FEATURES, Reservation.features
    )
    tres = ValueKey[Mapping[str, int] | None](
        "counts of `cpu`, `node` or `gres/...` in place of whole nodes: `cpu=8`, `gres/gpu=2`",
        reserved_tres,
        None,
    )
    flags = ListKey(
        "scontrol's: `HOURLY`, `DAILY`, `WEEKDAY`, `WEEKEND` or `WEEKLY` (it comes again), `FLEX`, "
        "`IGNORE_JOBS`, `MAGNETIC`, `MAINT`, `NO_HOLD_JOBS_AFTER`, `OVERLAP`, `REPLACE`, `REPLACE_DOWN`, "
        "`STATIC_ALLOC`",
        leaf.choice(*FLAGS),
    )
