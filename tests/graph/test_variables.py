"""The variables of doit's command line: those that tasks read, and others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpcstate.paths import ROOT


def doit(tmp_path: Path, *words: str, door: bool = False) -> subprocess.CompletedProcess[str]:
    program = ["./hpc"] if door else [sys.executable, "-m", "doit"]
    environment = {**os.environ, "HPCSTATE_BUILD": str(tmp_path / "build")}
    return subprocess.run(
        [*program, *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("task", ["render", "judge", "up", "list"])
def test_an_unknown_variable_is_an_error(tmp_path: Path, task: str) -> None:
    done = doit(tmp_path, task, "clster=other.yaml")
    assert done.returncode == 2
    assert "there is no variable 'clster'" in done.stderr
    assert "did you mean cluster=other.yaml?" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize("name", ["cluster", "plan"])
def test_a_variable_without_a_value_is_an_error(tmp_path: Path, name: str) -> None:
    done = doit(tmp_path, "render", f"{name}=")
    assert done.returncode == 2
    assert f"doit: {name}= has no value" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_front_door_says_so_too(tmp_path: Path) -> None:
    done = doit(tmp_path, "render", "klaster=inventories/gpu.yaml", "x=1", door=True)
    assert done.returncode == 2
    assert "'klaster'" in done.stderr and "'x'" in done.stderr


def test_a_known_variable_is_taken(tmp_path: Path) -> None:
    done = doit(tmp_path, "render", "cluster=inventories/minimal.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "build" / "minimal" / "rendered").is_dir()
