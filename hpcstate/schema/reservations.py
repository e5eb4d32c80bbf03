"""``accounting.reservations`` of an hpc cluster."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

from hpcstate.model import Group, Node, Reservation, SlurmConfig, User
from hpcstate.model.accounting import DEFAULT_ACCOUNT
from hpcstate.model.partition import minutes
from hpcstate.model.reservation import EVERY_NODE, RECURRING
from hpcstate.schema.declare import EntriesKey
from hpcstate.schema.leaf import closest
from hpcstate.schema.reservation_keys import NOW, ReservationKeys
from hpcstate.schema.section import Section

_OURS = ("hpc", "root", "admin")


def read_reservations(
    section: Section,
    key: EntriesKey,
    slurm: SlurmConfig,
    nodes: Sequence[Node],
    people: tuple[Sequence[User], Sequence[Group]],
    accounts: Sequence[str] | None,
) -> tuple[Reservation, ...]:
    """The reservations under ``key``. ``accounts`` are those that the file declares, None where Slurm keeps
    none. Without ``nodes``, which could not be placed, their names are not checked."""
    found: dict[str, Reservation] = {}
    for entry in section.sections(key):
        name = entry.value(ReservationKeys.name)
        if name and name in found:
            entry.report.error(
                entry.at(ReservationKeys.name), f"{name!r} is here twice", "keep one of the two"
            )
        flags = tuple(sorted(set(entry.values(ReservationKeys.flags))))
        start, end, lasts = _times(entry, flags)
        tres = entry.value(ReservationKeys.tres)
        found[name] = Reservation(
            name,
            start,
            end,
            lasts,
            entry.values(ReservationKeys.users),
            entry.values(ReservationKeys.groups),
            entry.values(ReservationKeys.accounts),
            _nodes(entry, nodes),
            entry.value(ReservationKeys.node_count) or 0,
            entry.value(ReservationKeys.partition),
            entry.value(ReservationKeys.features),
            tres or {},
            flags,
        )
        _check_people(entry, people, accounts)
        _check_what(entry, found[name], slurm, nodes)
        _check_flags(entry, found[name])
    return tuple(found.values())


def _times(entry: Section, flags: Sequence[str]) -> tuple[datetime | None, datetime | None, int]:
    """Start, end, and the minutes of one that comes again."""
    start = entry.value(ReservationKeys.start)
    end, text = entry.value(ReservationKeys.end), entry.value(ReservationKeys.duration)
    lasts = math.ceil(limit) if text and (limit := minutes(text)) < math.inf else 0
    first = start if isinstance(start, datetime) else None
    recurring = next((flag for flag in flags if flag in RECURRING), "")
    report = entry.report
    if (ReservationKeys.end in entry) == (ReservationKeys.duration in entry):
        report.error(
            entry.at(ReservationKeys.duration),
            "one of end and duration says how long it lasts",
            "scontrol(1) has both for the same",
        )
    elif text and not lasts and not math.isinf(minutes(text)):
        report.error(entry.at(ReservationKeys.duration), "it lasts no time", "give it a minute at least")
    elif recurring and start == NOW:
        report.error(
            entry.at(ReservationKeys.start),
            f"with {recurring} it needs the time at which it comes again",
            "write the first one: 2026-12-24T08:00",
        )
    elif recurring and not lasts:
        report.error(
            entry.at(ReservationKeys.end if end else ReservationKeys.duration),
            f"with {recurring} it lasts a while, each time",
            "give it a duration, like 2:00:00",
        )
    elif recurring and lasts * 60 > RECURRING[recurring]:
        report.error(
            entry.at(ReservationKeys.duration),
            f"it lasts longer than it takes until it comes again ({recurring})",
            "without such a flag it lasts on",
        )
    elif start == NOW and lasts:
        report.error(
            entry.at(ReservationKeys.start),
            "from `now` each deploy would make it again when it has ended",
            "write the time, or give it an end",
        )
    elif first and end and end <= first:
        report.error(entry.at(ReservationKeys.end), "it ends before it begins", "see start")
    if first and lasts and not recurring:
        try:
            end = first + timedelta(minutes=lasts)
        except OverflowError:
            report.error(entry.at(ReservationKeys.duration), "it ends beyond any calendar", "write UNLIMITED")
    return first, end, lasts if recurring else 0


def _nodes(entry: Section, nodes: Sequence[Node]) -> tuple[str, ...]:
    known = tuple(node.name for node in nodes if node.role == "compute")
    listed: list[str] = []
    for place, names in entry.items(ReservationKeys.nodes):
        listed += names
        for name in names:
            if nodes and name not in (*known, *EVERY_NODE):
                hint = closest(name, known) or f"there are {', '.join(known[:10])}"
                entry.report.error(place, f"there is no compute node {name!r}", hint)
                break
    return EVERY_NODE if EVERY_NODE[0] in listed else tuple(dict.fromkeys(listed))


def _check_people(
    entry: Section, people: tuple[Sequence[User], Sequence[Group]], accounts: Sequence[str] | None
) -> None:
    users, groups = ({each.name for each in kind} for kind in people)
    who = [key for key in (ReservationKeys.users, ReservationKeys.groups) if entry.entries(key)]
    if len(who) > 1:
        entry.report.error(
            entry.at(ReservationKeys.groups), "Slurm takes either users or groups", "keep one of the two"
        )
    if not who and not entry.entries(ReservationKeys.accounts):
        entry.report.error(
            entry.at(ReservationKeys.users),
            "nobody may use it",
            "give it users, groups or accounts; `users: [root]` keeps everybody else off",
        )
    for key, known, what in (
        (ReservationKeys.users, {*users, *_OURS}, "users"),
        (ReservationKeys.groups, {*groups, *users, *_OURS}, "groups"),
    ):
        for place, name in entry.items(key):
            if name not in known:
                entry.report.warning(
                    place,
                    f"{name} is none of `{what}`",
                    closest(name, tuple(known))
                    or f"Slurm refuses a reservation for {what} that the controller does not know",
                )
    for place, account in entry.items(ReservationKeys.accounts):
        if not accounts:
            entry.report.error(
                place, f"there is no account {account!r}: `accounting` declares none", "declare it there"
            )
        elif account not in (*accounts, DEFAULT_ACCOUNT, "root"):
            hint = closest(account, tuple(accounts)) or f"there are {', '.join(accounts)}"
            entry.report.error(place, f"there is no account {account!r}", hint)


def _check_what(entry: Section, read: Reservation, slurm: SlurmConfig, nodes: Sequence[Node]) -> None:
    report = entry.report
    partitions = tuple(partition.name for partition in slurm.partitions)
    if read.partition and read.partition not in partitions:
        hint = closest(read.partition, partitions) or f"there are {', '.join(partitions)}"
        report.error(entry.at(ReservationKeys.partition), f"there is no partition {read.partition!r}", hint)
    given = [
        ReservationKeys.nodes,
        ReservationKeys.node_count,
        ReservationKeys.tres,
        ReservationKeys.partition,
    ]
    if not any(key in entry for key in given):
        report.error(
            entry.at(ReservationKeys.nodes),
            "it reserves nothing",
            "give it nodes, node_count, tres or a partition",
        )
    if read.nodes and read.node_count:
        report.error(
            entry.at(ReservationKeys.node_count),
            "either nodes are named or Slurm chooses them",
            "keep one of the two",
        )
    if read.features and not read.node_count:
        report.error(
            entry.at(ReservationKeys.features), "features choose among nodes for node_count", "add node_count"
        )
    known = {feature for node in nodes for feature in node.slurm_features}
    for feature in read.features.replace("|", "&").split("&") if nodes and read.features else ():
        if feature not in known:
            hint = closest(feature, tuple(known)) or f"there are {', '.join(sorted(known)) or 'none'}"
            report.error(entry.at(ReservationKeys.features), f"no node has the feature {feature!r}", hint)
    count = sum(node.role == "compute" for node in nodes)
    if nodes and max(read.node_count, read.tres.get("node", 0)) > count:
        report.error(
            entry.at(ReservationKeys.node_count if read.node_count else ReservationKeys.tres),
            f"there are {count} compute nodes",
            "reserve fewer",
        )
    kinds = {f"gres/gpu:{kind}" for node in nodes for kind in node.gres_types}
    for name in read.tres:
        if nodes and name.startswith("gres/gpu") and name not in {*kinds, *({"gres/gpu"} if kinds else ())}:
            hint = closest(name, tuple(kinds)) or f"there are {', '.join(sorted(kinds)) or 'no GPUs'}"
            report.error(entry.at(ReservationKeys.tres), f"the cluster has no {name}", hint)


def _check_flags(entry: Section, read: Reservation) -> None:
    """What slurmctld refuses (src/slurmctld/reservation.c, create_resv)."""
    flags = set(read.flags)
    replaces = flags & {"REPLACE", "REPLACE_DOWN"}
    text = ""
    if len(flags & RECURRING.keys()) > 1:
        text = f"it comes again in one way, not in several: {', '.join(sorted(flags & RECURRING.keys()))}"
    elif replaces and (read.nodes or not read.node_count):
        text = f"{' and '.join(sorted(replaces))} is for node_count: Slurm chooses other nodes"
    elif replaces and (wrong := flags & {"STATIC_ALLOC", "MAINT"}):
        text = f"{sorted(replaces)[0]} cannot be with {sorted(wrong)[0]}"
    if text:
        entry.report.error(entry.at(ReservationKeys.flags), text, "keep one of them")
