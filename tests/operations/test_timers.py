"""Timers of a host: made, changed, turned on, removed, left alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hpcstate.node.timers import MARK, Timer
from operations import timers
from tests.operations.harness import Outcome, run

LAB = Timer("hpcstate-lab", f"# {MARK}\n[Timer]\n", "[Service]\n", "#!/bin/sh\n")
ON = {"mode": "755", "enabled": "enabled", "active": "active"}


def there(timer: Timer, **changes: str) -> dict[str, Any]:
    return {timer.name: {"sha256": timer.sha256, **ON, **changes}}


def ask(found: dict[str, Any], *wanted: Timer) -> Outcome:
    return run(timers.state, wanted, facts={"facts.timers.Timers": {"*": found}})


def lines(done: Outcome) -> list[str]:
    """The last line of each command: the call, where a program stands before it."""
    return [
        str(command["command"] if isinstance(command, dict) else command).splitlines()[-1]
        for command in done.commands
    ]


WRITTEN = [
    "replace_file /usr/local/lib/hpcstate/hpcstate-lab 755",
    "replace_file /etc/systemd/system/hpcstate-lab.service 644",
    "replace_file /etc/systemd/system/hpcstate-lab.timer 644",
    "systemctl daemon-reload",
]
TURNED_ON = ["systemctl enable --quiet hpcstate-lab.timer", "systemctl restart hpcstate-lab.timer"]


def test_a_new_one_is_written_and_turned_on() -> None:
    assert lines(ask({}, LAB)) == [*WRITTEN, *TURNED_ON]


def test_one_that_is_right_is_left_alone() -> None:
    done = ask(there(LAB), LAB)
    assert (done.commands, len(done.noops)) == ([], 1)
    assert len(ask({}).noops) == 1


def test_one_that_was_changed_is_written_anew() -> None:
    assert lines(ask(there(LAB), replace(LAB, program="#!/bin/sh\nexit\n"))) == [*WRITTEN, *TURNED_ON]
    assert lines(ask(there(LAB, mode="644"), LAB)) == [*WRITTEN, *TURNED_ON]


def test_one_that_is_off_is_turned_on() -> None:
    assert lines(ask(there(LAB, active="inactive"), LAB)) == TURNED_ON
    assert lines(ask(there(LAB, enabled="disabled"), LAB)) == TURNED_ON


def test_one_that_the_file_has_no_more_goes_with_all_its_files() -> None:
    assert lines(ask(there(LAB))) == [
        "systemctl disable --quiet --now hpcstate-lab.timer",
        "rm -f /etc/systemd/system/hpcstate-lab.timer /etc/systemd/system/hpcstate-lab.service "
        "/usr/local/lib/hpcstate/hpcstate-lab",
        "systemctl daemon-reload",
    ]
