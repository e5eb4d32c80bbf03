"""Reservations of slurmctld: what the operation yields; and its program, with a stand-in for scontrol."""

from __future__ import annotations

import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

from hpcstate import programs
from hpcstate.model import Reservation
from hpcstate.slurm.reservations import digest
from operations import reservations
from tests.operations.harness import Outcome, run

FACT = "facts.reservations.Reservations"
WANTED = Reservation("r", datetime(2026, 12, 1, 8), datetime(2026, 12, 1, 10), users=("root",), nodes=("n1",))
THERE: dict[str, Any] = {
    "mark": digest(WANTED),
    "start": "2026-12-01T08:00:00",
    "end": "2026-12-01T10:00:00",
    "users": ["root"],
    "groups": [],
    "accounts": [],
    "nodes": "n1",
    "node_count": 1,
    "partition": "",
    "flags": ["SPEC_NODES"],
}
EMPTY: dict[str, Any] = {"now": "2026-11-28T06:30:00", "found": {}, "used": [], "answers": True}
SOUND: dict[str, Any] = {**EMPTY, "found": {"r": THERE}}


def state(found: dict[str, Any], *wanted: Reservation) -> Outcome:
    return run(reservations.state, facts={FACT: found}, wanted=wanted)


def told(outcome: Outcome) -> list[str]:
    (command,) = outcome.raw
    text = command.connector_arguments["_stdin"]
    assert isinstance(text, str)
    return [line.split("\x1f")[0] for line in text.splitlines()]


def test_create_change_remove() -> None:
    assert told(state(EMPTY, WANTED)) == ["create"]
    assert told(state({**EMPTY, "found": {"r": {**THERE, "nodes": "n2"}}}, WANTED)) == ["update"]
    assert told(state(SOUND)) == ["delete"]


def test_noop() -> None:
    assert state(SOUND, WANTED).noops == ["reservations are as they should be"]
    assert state({**EMPTY, "answers": False}).noops == ["the cluster file has no reservations"]


def test_a_slurmctld_that_does_not_answer_fails_only_what_is_wanted() -> None:
    assert state({**EMPTY, "answers": False}, WANTED).raw


def test_the_program_tries_once_more_and_says_what_stays_undone(tmp_path: Path) -> None:
    """`a` is in the way of `b` until it has gone; `c` is refused always."""
    (tmp_path / "scontrol").write_text(
        f"""#!/bin/sh
echo "$*" >>{tmp_path}/asked
case $2 in
*b) [ -e {tmp_path}/gone ] || {{ echo overlaps 100%; exit 1; }} ;;
*a) touch {tmp_path}/gone ;;
*c) echo "Nodes busy" >&2; exit 1 ;;
esac
"""
    )
    (tmp_path / "scontrol").chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", programs.command(reservations.PROGRAM)],
        input="create\x1fname=b\ncreate\x1fname=c\x1fUsers=\ndelete\x1fname=a\n",
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == [
        "create name=b",
        "create name=c Users=",
        "delete name=a",
        "create name=b",
        "create name=c Users=",
    ]
    assert done.returncode == 1
    assert done.stderr.startswith("scontrol create name=c Users=\nNodes busy\nin the way are ")
