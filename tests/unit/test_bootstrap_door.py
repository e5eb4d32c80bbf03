"""./hpc: which program gets which words. The setup, doit and hpcstate are stand-ins here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from hpcstate.paths import ROOT


@pytest.fixture
def door(tmp_path: Path) -> Path:
    """A project whose programs print their name and words."""
    root = tmp_path / "project"
    (root / "hpcstate/tasks").mkdir(parents=True)
    (root / "inventories").mkdir()
    (root / "inventories/gpu.yaml").touch()
    (root / ".venv/bin").mkdir(parents=True)
    shutil.copy2(ROOT / "hpc", root / "hpc")
    (root / "hpcstate/__init__.py").touch()
    (root / "hpcstate/bootstrap.py").write_text(
        "import os, sys\n"
        "open('asked', 'w').write(repr(sys.argv[1:]))\n"
        "sys.exit(int(os.environ.get('SETUP', 0)))\n",
        encoding="utf-8",
    )
    (root / "hpcstate/tasks/images.py").write_text("def task_build_images() -> None: ...\n", encoding="utf-8")
    for name in ("doit", "hpcstate"):
        program = root / ".venv/bin" / name
        program.write_text(f'#!/bin/sh\necho "{name} $* in ${{PWD##*/}}"\n', encoding="utf-8")
        program.chmod(0o755)
    return root


def knock(
    door: Path, *words: str, cwd: Path | None = None, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run ./hpc with these words."""
    return subprocess.run(
        [door / "hpc", *words],
        cwd=cwd or door,
        env={"PATH": "/usr/bin:/bin", **environ},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["up"], "doit up cluster=inventories/gpu.yaml in project"),
        (["up", "inventories/gpu.yaml"], "doit up cluster=inventories/gpu.yaml in project"),
        (["up", "--verbosity", "2"], "doit up cluster=inventories/gpu.yaml --verbosity 2 in project"),
        (["up", "cluster=inventories/gpu.yaml"], "doit up cluster=inventories/gpu.yaml in project"),
        (["up", "clster=other.yaml", "-n", "2"], "doit up clster=other.yaml -n 2 in project"),
        (["up", "--yes"], "doit up cluster=inventories/gpu.yaml yes=yes in project"),
        (
            ["up", "inventories/gpu.yaml", "--force", "-n", "2", "--reboot", "--drain-seconds", "60"],
            "doit up cluster=inventories/gpu.yaml force=yes -n 2 reboot=yes drain_seconds=60 in project",
        ),
        (
            ["up", "inventories/gpu.yaml", "--plan=/a b.json", "--drain-seconds=5"],
            "doit up cluster=inventories/gpu.yaml plan=/a b.json drain_seconds=5 in project",
        ),
        (["up", "--yes", "inventories/gpu.yaml"], "doit up cluster=inventories/gpu.yaml yes=yes in project"),
        (["build_images"], "doit build_images in project"),
        (["build_images:hpc-base", "-n", "2"], "doit build_images:hpc-base -n 2 in project"),
        (["list", "--all"], "doit list --all in project"),
        (["dumpdb"], "doit dumpdb in project"),
        (["info", "build_images"], "doit info build_images in project"),
        (["status", "a b"], "hpcstate status a b in project"),
        (["build_"], "hpcstate build_ in project"),
        (["commands"], "hpcstate --help in project"),
    ],
)
def test_words_reach_their_program(door: Path, words: list[str], expected: str) -> None:
    assert knock(door, *words).stdout.strip() == expected


def test_files_are_named_from_where_the_user_is(door: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").touch()
    up = knock(door, "up", "mine.yaml", cwd=tmp_path).stdout.strip()
    assert up == f"doit up cluster={tmp_path}/mine.yaml in project"
    assert knock(door, "up", "cluster=mine.yaml", cwd=tmp_path).stdout.strip() == up
    planned = knock(door, "up", "mine.yaml", "--plan", "p.json", cwd=tmp_path).stdout.strip()
    assert planned == f"doit up cluster={tmp_path}/mine.yaml plan={tmp_path}/p.json in project"
    status = knock(door, "status", "mine.yaml", cwd=tmp_path).stdout.strip()
    assert status == f"hpcstate status mine.yaml in {tmp_path.name}"


def test_it_may_be_called_by_a_link(door: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(door / "hpc")
    done = subprocess.run([link, "list"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "doit list in project"


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"], ["up", "--yes", "--help"]])
def test_help_sets_nothing_up(door: Path, words: list[str]) -> None:
    done = knock(door, *words, SETUP="2")
    assert done.returncode == 0
    assert "./hpc up [FILE]" in done.stdout


@pytest.mark.parametrize("words", [["test"], ["test:unit", "-n", "2"], ["up", "--verbosity", "2"]])
def test_the_setup_is_told_the_command(door: Path, words: list[str]) -> None:
    knock(door, *words)
    assert (door / "asked").read_text() == repr(words[:1])


def test_nothing_runs_when_the_setup_failed(door: Path) -> None:
    done = knock(door, "up", SETUP="2")
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("word", ["none.yaml", "cluster=none.yaml"])
def test_a_missing_cluster_file_is_named(door: Path, word: str) -> None:
    done = knock(door, "up", word)
    assert done.returncode == 2
    assert "none.yaml: no such file" in done.stderr
    assert "hint: " in done.stderr


def test_a_second_cluster_file_is_a_message(door: Path) -> None:
    done = knock(door, "up", "inventories/gpu.yaml", "--yes", "other.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "up takes one cluster file, not inventories/gpu.yaml and other.yaml too" in done.stderr


@pytest.mark.parametrize("option", ["--plan", "--drain-seconds"])
def test_an_option_without_its_value_is_a_message(door: Path, option: str) -> None:
    done = knock(door, "up", "inventories/gpu.yaml", option)
    assert done.returncode == 2
    assert f"{option} has no value" in done.stderr
    assert done.stdout == ""
