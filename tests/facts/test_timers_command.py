"""timers.sh for real, on a tree in the place of systemd's files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate.node.data_volume import UNITS
from hpcstate.node.timers import MARK, PROGRAMS, Timer
from hpcstate.probe import timers
from tests.facts.machine import programs, run, stand_in

TOOLS = ("sh", "cat", "grep", "cut", "stat", "sha256sum")
MADE = Timer("hpcstate-lab", f"# {MARK}\n[Timer]\n", "[Service]\n", "#!/bin/sh\n")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    folder = programs(tmp_path / "tools", TOOLS)
    stand_in(folder, "systemctl", "case $1 in is-enabled) echo enabled ;; *) echo inactive; exit 3 ;; esac")
    return folder


def put(root: Path, timer: Timer) -> None:
    for path, (text, mode) in timer.files.items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(int(mode, 8))


def look(tools: Path, root: Path) -> dict[str, timers.TimerState]:
    return timers.parse(run(timers.command(MARK, UNITS, PROGRAMS, str(root)), tools, root))


def test_timers_of_ours_and_no_others(tools: Path, tmp_path: Path) -> None:
    put(tmp_path, MADE)
    put(tmp_path, replace(MADE, name="hpcstate-by-hand", timer="[Timer]\n"))
    put(tmp_path, replace(MADE, name="other"))
    wanted = {"sha256": MADE.sha256, "mode": "755", "enabled": "enabled", "active": "inactive"}
    assert look(tools, tmp_path) == {"hpcstate-lab": wanted}


def test_one_whose_program_is_gone(tools: Path, tmp_path: Path) -> None:
    put(tmp_path, MADE)
    (tmp_path / PROGRAMS.lstrip("/") / MADE.name).unlink()
    found = look(tools, tmp_path)[MADE.name]
    assert found["sha256"] != MADE.sha256 and found["mode"] == ""


def test_a_node_with_none(tools: Path, tmp_path: Path) -> None:
    assert look(tools, tmp_path) == timers.parse("") == {}
