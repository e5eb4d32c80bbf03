"""Reservations: what a cluster file asks of slurmctld, and the calls of scontrol that make it so. Each call
and each comparison was tried with slurmctld 24.11.5; what it showed is in tests/facts/reservations.*."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from hpcstate.model import Reservation
from hpcstate.probe.reservations import FoundReservation, ReservationsState
from hpcstate.slurm.reservations import ReservationsDifference, difference, digest, occurrence

RECORDED = Path(__file__).parents[2] / "facts" / "reservations.Reservations" / "normal.json"
NOW = "2026-11-28T06:30:00"


def made(name: str = "r", **changes: Any) -> Reservation:
    known: dict[str, Any] = {
        "start": datetime(2026, 12, 1, 8),
        "end": datetime(2026, 12, 1, 10),
        "users": ("root",),
        "nodes": ("n1",),
    }
    return Reservation(name, **{**known, **changes})


def there(wanted: Reservation, **changes: Any) -> FoundReservation:
    """What slurmctld shows of ``made()``."""
    found = FoundReservation(
        mark=digest(wanted),
        start="2026-12-01T08:00:00",
        end="2026-12-01T10:00:00",
        users=["root"],
        groups=[],
        accounts=[],
        nodes="n1",
        node_count=1,
        partition="",
        flags=sorted([*wanted.flags, "SPEC_NODES"]),
    )
    return FoundReservation(**{**found, **changes})  # type: ignore[typeddict-item]


def state(used: list[str] | None = None, now: str = NOW, **found: FoundReservation) -> ReservationsState:
    return ReservationsState(now=now, found=found, used=[] if used is None else used, answers=True)


def steps(wanted: Sequence[Reservation], found: ReservationsState) -> list[str]:
    return [" ".join(step) for step in difference(wanted, found).steps]


def test_what_was_recorded_of_five_is_what_is_wanted_of_them() -> None:
    found = json.loads(RECORDED.read_text())["fact"]
    wanted = [
        made(
            "maintenance", end=None, minutes=120, nodes=("n2", "n1"), flags=("IGNORE_JOBS", "MAINT", "WEEKLY")
        ),
        made(
            "course",
            start=None,
            end=None,
            users=("root", "hpc"),
            nodes=(),
            node_count=1,
            flags=("FLEX", "MAGNETIC", "NO_HOLD_JOBS_AFTER", "REPLACE_DOWN"),
        ),
        made(
            "cores",
            start=datetime(2026, 12, 2, 8),
            end=None,
            minutes=60,
            nodes=(),
            tres={"cpu": 2},
            flags=("DAILY",),
        ),
        made(
            "part",
            start=datetime(2026, 12, 9, 8),
            end=datetime(2026, 12, 9, 10),
            nodes=(),
            partition="two",
            flags=("STATIC_ALLOC",),
        ),
        made(
            "every",
            start=datetime(2027, 12, 12, 8),
            end=datetime(2027, 12, 12, 10),
            users=(),
            accounts=("ml",),
            nodes=("ALL",),
        ),
    ]
    found_none = ReservationsDifference((), (), ("reservations made by hand: by hand",), ())
    assert difference(wanted, found) == found_none


CREATED: dict[str, tuple[dict[str, Any], str]] = {
    "once": (
        {},
        "StartTime=2026-12-01T08:00:00 EndTime=2026-12-01T10:00:00 Users=root Nodes=n1",
    ),
    "begun already": (
        {"start": datetime(2026, 11, 1)},
        "StartTime=now EndTime=2026-12-01T10:00:00 Users=root Nodes=n1",
    ),
    "always": ({"start": None, "end": None}, "StartTime=now Duration=UNLIMITED Users=root Nodes=n1"),
    "its next time": (
        {"start": datetime(2026, 11, 1, 6), "end": None, "minutes": 60, "flags": ("DAILY", "MAINT")},
        "StartTime=2026-11-29T06:00:00 Duration=60 Users=root Nodes=n1 Flags=DAILY,MAINT",
    ),
    "chosen by Slurm": (
        {"nodes": (), "node_count": 2, "features": "gpu&big", "partition": "main", "accounts": ("ml", "bio")},
        "StartTime=2026-12-01T08:00:00 EndTime=2026-12-01T10:00:00 Users=root Accounts=ml,bio NodeCnt=2 "
        "PartitionName=main Features=gpu&big",
    ),
    "GPUs": (
        {"nodes": (), "tres": {"gres/gpu": 2, "cpu": 8}},
        "StartTime=2026-12-01T08:00:00 EndTime=2026-12-01T10:00:00 Users=root TRES=gres/gpu=2,cpu=8",
    ),
}


@pytest.mark.parametrize("case", CREATED)
def test_create(case: str) -> None:
    changes, words = CREATED[case]
    wanted = made(**changes)
    assert steps([wanted], state()) == [
        f"create reservation ReservationName=r {words} Comment=hpcstate:{digest(wanted)}"
    ]


UPDATED: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "people": (
        {"users": (), "accounts": ("ml",)},
        {},
        ["update ReservationName=r Users= Accounts=ml"],
    ),
    "nodes": ({"nodes": ("n1", "n2")}, {}, ["update ReservationName=r Nodes=n[1-2]"]),
    "all nodes": ({"nodes": ("ALL",)}, {}, ["update ReservationName=r Nodes=ALL"]),
    "start, always with its end": (
        {"start": datetime(2026, 12, 1, 9)},
        {},
        ["update ReservationName=r StartTime=2026-12-01T09:00:00 EndTime=2026-12-01T10:00:00"],
    ),
    "flags": (
        {"flags": ("FLEX", "MAINT")},
        {"flags": ["IGNORE_JOBS", "MAINT", "SPEC_NODES"]},
        ["update ReservationName=r Flags-=IGNORE_JOBS", "update ReservationName=r Flags+=FLEX"],
    ),
    "by hand": ({}, {"users": ["alice"], "nodes": "n2"}, ["update ReservationName=r Users=root Nodes=n1"]),
    "length of what comes again": (
        {"end": None, "minutes": 60, "flags": ("WEEKLY",)},
        {"start": "2026-12-08T08:00:00", "end": "2026-12-08T10:00:00", "flags": ["SPEC_NODES", "WEEKLY"]},
        ["update ReservationName=r StartTime=2026-12-01T08:00:00 Duration=60"],
    ),
}


@pytest.mark.parametrize("case", UPDATED)
def test_update_in_place_also_while_jobs_use_it(case: str) -> None:
    changes, shown, wanted_steps = UPDATED[case]
    wanted = made(**changes)
    found = state(["r"], r=there(wanted, **{"flags": ["SPEC_NODES"], **shown}))
    assert steps([wanted], found) == wanted_steps


NEW: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a flag that stays": ({}, {"flags": ["OVERLAP", "SPEC_NODES"]}),
    "a flag that comes too late": ({"nodes": (), "node_count": 1, "flags": ("REPLACE",)}, {"flags": []}),
    "another way to come again": (
        {"end": None, "minutes": 120, "flags": ("DAILY",)},
        {"flags": ["SPEC_NODES", "WEEKLY"]},
    ),
    "another time of one that has begun": (
        {"end": None, "minutes": 120, "flags": ("DAILY",)},
        {"start": "2026-11-28T06:00:00", "end": "2026-11-28T08:00:00", "flags": ["DAILY", "SPEC_NODES"]},
    ),
    "other resources": ({}, {"mark": "000000000000"}),
}


@pytest.mark.parametrize("case", NEW)
def test_what_cannot_change_is_made_anew_when_no_job_needs_it(case: str) -> None:
    changes, shown = NEW[case]
    wanted = made(**changes)
    delete, create = steps([wanted], state(r=there(wanted, **shown)))
    assert delete == "delete ReservationName=r" and create.startswith("create reservation ReservationName=r ")
    for used in (["x", "r"], None):
        found = state(used, r=there(wanted, **shown))
        found["used"] = used
        waits = difference([wanted], found)
        assert waits.steps == () and "stays: " in waits.held[0]


@pytest.mark.parametrize(
    ("flag", "first", "now", "at"),
    [
        ("DAILY", "2026-11-01T08:00", "2026-11-28T08:00", "2026-11-28T08:00"),
        ("DAILY", "2026-11-01T08:00", "2026-11-28T08:01", "2026-11-29T08:00"),
        ("HOURLY", "2026-11-01T08:10", "2026-11-28T08:11", "2026-11-28T09:10"),
        ("WEEKLY", "2026-11-03T08:00", "2026-11-28T08:00", "2026-12-01T08:00"),
        ("WEEKDAY", "2026-11-01T08:00", "2026-11-28T07:00", "2026-11-30T08:00"),
        ("WEEKEND", "2026-11-02T08:00", "2026-11-27T09:00", "2026-11-28T08:00"),
        ("WEEKEND", "2026-12-02T08:00", "2026-11-27T09:00", "2026-12-05T08:00"),
    ],
)
def test_the_next_time(flag: str, first: str, now: str, at: str) -> None:
    found = occurrence(datetime.fromisoformat(first), flag, datetime.fromisoformat(now))
    assert found == datetime.fromisoformat(at)


@pytest.mark.parametrize(
    ("flag", "starts"),
    [
        ("DAILY", ["2026-12-02T08:00:00", "2027-05-01T08:00:00"]),
        ("WEEKLY", ["2026-12-08T08:00:00", "2027-11-30T08:00:00"]),
        ("WEEKDAY", ["2026-12-04T08:00:00", "2026-12-07T08:00:00"]),
        ("WEEKEND", ["2026-12-05T08:00:00"]),
    ],
)
def test_one_that_moved_on_is_as_it_should_be(flag: str, starts: list[str]) -> None:
    wanted = made(end=None, minutes=120, flags=(flag,))
    for start in starts:
        shown = there(wanted, start=start, end=start.replace("T08", "T10"))
        for now in (start, start.replace("T08", "T07"), start.replace("T08", "T09")):
            assert steps([wanted], state(now=now, r=shown)) == []
        other = there(wanted, start=start.replace("T08", "T07"), end=start.replace("T08", "T09"))
        assert steps([wanted], state(now=start.replace("T08", "T06"), r=other))


def test_what_left_the_file_goes_when_no_job_needs_it() -> None:
    assert steps([], state(r=there(made()))) == ["delete ReservationName=r"]
    kept = difference([], state(["r"], r=there(made())))
    assert kept.steps == () and kept.held == (
        "the reservation r should go and stays: jobs run or wait in it; deploy again later",
    )


def test_those_of_others_are_named_and_left() -> None:
    hand = there(made(), mark=None, users=["alice"])
    roll = there(made(), mark=None)
    found = state(r=hand, x=hand)
    found["found"]["hpcstate-roll-n2"] = roll
    same_name = difference([made()], found)
    assert same_name.steps == ()
    assert same_name.named[0].startswith("the reservation r was made by hand, and stays as it is")
    assert same_name.named[1] == "reservations made by hand: x"
    assert difference([], found).named == ("reservations made by hand: r, x",)


def test_what_is_over_is_not_made_again() -> None:
    after = "2026-12-01T10:00:00"
    over = difference([made()], state(now=after))
    assert over.steps == () and over.named == (
        "the reservation r ended at 2026-12-01T10:00:00; it may leave the cluster file",
    )
    assert steps([made()], state(now=after, r=there(made()))) == []
    later = there(made(), end="2026-12-24T00:00:00")
    assert steps([made()], state(now=after, r=later)) == ["delete ReservationName=r"]


def test_what_is_deleted_comes_before_what_takes_its_place() -> None:
    old = there(made("old"))
    assert [step.split(" ")[0] for step in steps([made("new")], state(old=old))] == ["delete", "create"]
