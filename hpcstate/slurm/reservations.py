"""Reservations of a Slurm cluster: what the file wants, and the difference to what slurmctld has. Pure.

Which of them are ours says their comment, ``hpcstate:`` and a digest of what cannot be changed in place. It
lies in slurmctld's state with the reservation: it outlives a restart, is saved and restored with it, and who
takes the comment away takes the reservation from us. All others were made by hand: named and left alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from hpcstate import hostlist
from hpcstate.digest import key_of
from hpcstate.model import Reservation
from hpcstate.model.reservation import EVERY_NODE, OWN_PREFIX, RECURRING
from hpcstate.probe.reservations import MARK, FoundReservation, ReservationsState

_REMOVABLE = {"FLEX", "IGNORE_JOBS", "MAGNETIC", "MAINT", "STATIC_ALLOC", *RECURRING}
"""Flags that `scontrol update` takes away (proc_args.c, parse_resv_flags, the forms with ``-``)."""

_LATER = _REMOVABLE | {"NO_HOLD_JOBS_AFTER", "OVERLAP"}
"""Flags that it adds to a reservation that is there."""

_IMPLIED = {"ALL_NODES", "PART_NODES", "SPEC_NODES"}
_YEAR = timedelta(days=365)
"""What ``UNLIMITED`` is to a reservation (reservation.c, YEAR_SECONDS)."""
_SUMMER_TIME = timedelta(hours=1)

Step = tuple[str, ...]
"""The words of one call of scontrol."""


@dataclass(frozen=True)
class ReservationChange:
    """What becomes of the reservation ``name``, in scontrol's words: nothing ``before`` when it is made,
    nothing ``after`` when it goes."""

    name: str
    before: Mapping[str, str] = field(default_factory=dict)
    after: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ReservationsDifference:
    """``steps`` in their order, and the same as ``changes`` for who reads; ``named`` is what is left as it
    is, in words, and ``held`` what of ours should change and cannot yet, with its next step."""

    steps: tuple[Step, ...]
    changes: tuple[ReservationChange, ...]
    named: tuple[str, ...]
    held: tuple[str, ...]


def difference(wanted: Sequence[Reservation], found: ReservationsState) -> ReservationsDifference:
    """What has to be done so that slurmctld has the reservations that are ``wanted``."""
    work = _Work(datetime.fromisoformat(found["now"]), found)
    names = {each.name for each in wanted}
    for name, there in found["found"].items():
        if there["mark"] is not None and name not in names:
            work.delete(name)
    for each in wanted:
        work.bring(each)
    by_hand = [
        name
        for name, there in found["found"].items()
        if there["mark"] is None and name not in names and not name.startswith(OWN_PREFIX)
    ]
    if by_hand:
        work.named.append(f"reservations made by hand: {', '.join(by_hand)}")
    steps = (*work.deleted, *work.updated, *work.created)
    return ReservationsDifference(steps, tuple(work.changes), tuple(work.named), tuple(work.held))


class _Work:
    def __init__(self, now: datetime, state: ReservationsState) -> None:
        self._now = now
        self._state = state
        self.deleted: list[Step] = []
        self.updated: list[Step] = []
        self.created: list[Step] = []
        self.changes: list[ReservationChange] = []
        self.named: list[str] = []
        self.held: list[str] = []

    def bring(self, wanted: Reservation) -> None:
        """Make or change one, where it differs."""
        there = self._state["found"].get(wanted.name)
        over = bool(wanted.end and wanted.end <= self._now)
        if there is None and over:
            self.named.append(
                f"the reservation {wanted.name} ended at {_text(wanted.end)}; it may leave the cluster file"
            )
        elif there is None:
            self._create(wanted)
        elif there["mark"] is None:
            self.named.append(
                f"the reservation {wanted.name} was made by hand, and stays as it is: give that of the file "
                f"another name, or `scontrol delete reservationname={wanted.name}` and deploy again"
            )
        elif over:
            # slurmctld removes what has ended.
            if datetime.fromisoformat(there["end"]) > self._now:
                self.delete(wanted.name)
        elif there["mark"] != digest(wanted) or _demands_new(wanted, there, self._now):
            if self.delete(wanted.name, shown=False):
                self._create(wanted, there)
        else:
            self._update(wanted, there)

    def delete(self, name: str, *, shown: bool = True) -> bool:
        """Remove one of ours, unless jobs need it. Whether it goes."""
        used = self._state["used"]
        if used is None or name in used:
            why = "jobs run or wait in it" if used else "slurmctld does not say which jobs there are"
            verb = "should go" if shown else "should be made anew"
            self.held.append(f"the reservation {name} {verb} and stays: {why}; deploy again later")
            return False
        self.deleted.append(("delete", f"ReservationName={name}"))
        if shown:
            self.changes.append(ReservationChange(name, {"Nodes": self._state["found"][name]["nodes"]}))
        return True

    def _create(self, wanted: Reservation, before: FoundReservation | None = None) -> None:
        words = {**words_of(wanted, self._now), "Comment": f"{MARK}{digest(wanted)}"}
        self.created.append(("create", "reservation", *_spoken(wanted.name, words)))
        old = _there(wanted, before) if before else {}
        self.changes.append(
            ReservationChange(wanted.name, old, {w: text for w, text in words.items() if w != "Comment"})
        )

    def _update(self, wanted: Reservation, there: FoundReservation) -> None:
        old, new = _there(wanted, there), _changeable(wanted)
        changed = {word: text for word, text in new.items() if old[word] != text}
        flags = changed.pop("Flags", None)
        times = _times_to_set(wanted, there, self._now)
        if not changed and not times and flags is None:
            return
        # What is taken away first: a flag may forbid what follows.
        if lost := sorted(set(there["flags"]) - set(wanted.flags) - _IMPLIED):
            self.updated.append(("update", *_spoken(wanted.name, {"Flags-": ",".join(lost)})))
        gained = sorted(set(wanted.flags) - set(there["flags"]))
        added = {"Flags+": ",".join(gained)} if gained else {}
        if changed or times or added:
            self.updated.append(("update", *_spoken(wanted.name, {**changed, **times, **added})))
        before = {word: old[word] for word in (*changed, *(("Flags",) if flags is not None else ()))}
        after = {word: new[word] for word in before}
        if times:
            before |= {"StartTime": there["start"], "EndTime": there["end"]}
            after |= {"StartTime": there["start"], "EndTime": there["end"], **times}
        self.changes.append(ReservationChange(wanted.name, before, after))


def _spoken(name: str, words: Mapping[str, str]) -> tuple[str, ...]:
    return (f"ReservationName={name}", *(f"{word}={text}" for word, text in words.items()))


def digest(wanted: Reservation) -> str:
    """What of it cannot be changed in place (reservation.c, update_resv): how its resources are chosen, and
    where these are cores or GPUs, all of them."""
    chosen: dict[str, object] = {
        "by": "nodes" if wanted.nodes else "node_count" if wanted.node_count else "partition",
        "partition": wanted.partition,
        "features": wanted.features,
        "tres": dict(wanted.tres),
    }
    if wanted.tres:
        chosen |= {"nodes": wanted.nodes, "node_count": wanted.node_count}
    return key_of(chosen)[:12]


def words_of(wanted: Reservation, now: datetime) -> dict[str, str]:
    """What `scontrol create reservation` is told ``now``. One that has begun already begins at once; one that
    comes again begins with its next time."""
    words = {
        "Users": ",".join(wanted.users),
        "Groups": ",".join(wanted.groups),
        "Accounts": ",".join(wanted.accounts),
        "Nodes": hostlist.compress(sorted(wanted.nodes)),
        "NodeCnt": str(wanted.node_count or ""),
        "PartitionName": wanted.partition,
        "Features": wanted.features,
        "TRES": ",".join(f"{name}={count}" for name, count in wanted.tres.items()),
        "Flags": ",".join(wanted.flags),
    }
    return {**_times(wanted, now), **{word: text for word, text in words.items() if text}}


def _times(wanted: Reservation, now: datetime) -> dict[str, str]:
    start = wanted.start
    if start and wanted.recurring:
        return {
            "StartTime": _text(occurrence(start, wanted.recurring, now)),
            "Duration": str(wanted.minutes),
        }
    begins = _text(start) if start and start > now else "now"
    return {"StartTime": begins, **_end(wanted)}


def _end(wanted: Reservation) -> dict[str, str]:
    return {"EndTime": _text(wanted.end)} if wanted.end else {"Duration": "UNLIMITED"}


def _text(time: datetime | None) -> str:
    return time.isoformat(timespec="seconds") if time else ""


def occurrence(first: datetime, flag: str, now: datetime) -> datetime:
    """The first time of one that comes again by ``flag`` that is not before ``now``. Days are those of the
    clock, as in slurmctld's own (reservation.c, _advance_time)."""
    step = timedelta(seconds=RECURRING[flag])
    at = first
    if at < now:
        at += -(-(now - at) // step) * step
    while not _is_day(at, flag):
        at += step
    return at


def _is_day(at: datetime, flag: str) -> bool:
    """Whether the day of ``at`` is one of ``flag``: WEEKDAY is Monday to Friday."""
    return flag not in ("WEEKDAY", "WEEKEND") or (at.weekday() < 5) == (flag == "WEEKDAY")


def _there(wanted: Reservation, there: FoundReservation) -> dict[str, str]:
    """What slurmctld has, in the words of _changeable."""
    words = {
        "Users": ",".join(sorted(there["users"])),
        "Groups": ",".join(sorted(there["groups"])),
        "Accounts": ",".join(sorted(there["accounts"])),
        "Flags": ",".join(sorted(set(there["flags"]) - _IMPLIED)),
    }
    if not wanted.tres and wanted.nodes:
        every = "ALL_NODES" in there["flags"]
        words["Nodes"] = EVERY_NODE[0] if every else _hosts(hostlist.expand(there["nodes"]))
    elif not wanted.tres and wanted.node_count:
        words["NodeCnt"] = str(there["node_count"])
    return words


def _changeable(wanted: Reservation) -> dict[str, str]:
    words = {
        "Users": ",".join(sorted(wanted.users)),
        "Groups": ",".join(sorted(wanted.groups)),
        "Accounts": ",".join(sorted(wanted.accounts)),
        "Flags": ",".join(sorted(wanted.flags)),
    }
    if not wanted.tres and wanted.nodes:
        words["Nodes"] = EVERY_NODE[0] if wanted.nodes == EVERY_NODE else _hosts(wanted.nodes)
    elif not wanted.tres and wanted.node_count:
        words["NodeCnt"] = str(wanted.node_count)
    return words


def _hosts(names: Sequence[str]) -> str:
    return hostlist.compress(sorted(names))


def _demands_new(wanted: Reservation, there: FoundReservation, now: datetime) -> bool:
    """Whether only a new one has what is wanted: a flag that `update` does not change, another time of one
    that has begun, or one that comes again in another way."""
    before, after = set(there["flags"]) - _IMPLIED, set(wanted.flags)
    ways = {flag for flag in before | after if flag in RECURRING}
    if (before - after) - _REMOVABLE or (after - before) - _LATER or len(ways) > 1:
        return True
    begun = datetime.fromisoformat(there["start"]) <= now
    return begun and not _starts_well(wanted, there, now)


def _starts_well(wanted: Reservation, there: FoundReservation, now: datetime) -> bool:
    is_ = datetime.fromisoformat(there["start"])
    if wanted.start is None:
        return is_ <= now
    if not wanted.recurring:
        return is_ == wanted.start or (is_ <= now and wanted.start <= now)
    if wanted.start > now:
        return is_ == occurrence(wanted.start, wanted.recurring, wanted.start)
    step = timedelta(seconds=RECURRING[wanted.recurring])
    return (is_ - wanted.start) % step == timedelta() and _is_day(is_, wanted.recurring)


def _times_to_set(wanted: Reservation, there: FoundReservation, now: datetime) -> dict[str, str]:
    """Times of one that is there, where they differ. With a start always an end: slurmctld would move it."""
    start, end = (datetime.fromisoformat(there[key]) for key in ("start", "end"))
    if not _starts_well(wanted, there, now):
        return _times(wanted, now)
    if wanted.recurring:
        lasts = timedelta(minutes=wanted.minutes)
        return {} if end - start == lasts else {"Duration": str(wanted.minutes)}
    if wanted.end is None:
        return {} if abs(end - start - _YEAR) <= _SUMMER_TIME else {"Duration": "UNLIMITED"}
    return {} if end == wanted.end else _end(wanted)
