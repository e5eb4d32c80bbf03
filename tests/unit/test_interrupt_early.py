"""Ctrl-C while a program of the project is still being imported: a line, and what a shell expects to see."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hpcstate.host import environment
from hpcstate.paths import ROOT

INTERRUPTER = """
import importlib.abc, os, sys
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["INTERRUPT_AT"]:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
"""
"""As sitecustomize: an interrupt that comes as this module is looked for."""


def interrupted(tmp_path: Path, at: str, *words: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTER)
    search = f"{tmp_path}:{ROOT}"
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": search, "INTERRUPT_AT": at},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("hpcstate.cli", ["-m", "hpcstate", "--version"]),
        ("hpcstate.errors", ["-m", "hpcstate", "--version"]),
        ("hpcstate.commands.lint", ["-m", "hpcstate", "--version"]),
        ("hpcstate.schema", ["-m", "hpcstate", "inventory", "show", "inventories/gpu.yaml"]),
        ("hpcstate.host.packages", ["-m", "hpcstate.bootstrap", "list"]),
        ("hpcstate.tasks.commands", ["-m", "doit", "list"]),
        ("hpcstate.artifact.recipe", ["-m", "doit", "list"]),
        ("hpcstate.tasks.images", ["-m", "doit", "list"]),
    ],
)
def test_it_is_told_in_a_line(tmp_path: Path, at: str, words: list[str]) -> None:
    done = interrupted(tmp_path, at, *words)
    assert done.returncode in (130, -signal.SIGINT), done.stderr
    assert "interrupted" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("name", "told"), [("doit", True), ("pyinfra", True), ("somebody-elses", False)])
def test_doit_and_pyinfra_know_it_from_the_start(tmp_path: Path, name: str, told: bool) -> None:
    """By the line that the environment has for Python; a program that is not ours keeps its traceback."""
    (tmp_path / environment.INTERRUPTS).write_text(environment._EARLY)
    program = tmp_path / name
    program.write_text(f"import site; site.addsitedir({str(tmp_path)!r}); raise KeyboardInterrupt\n")
    done = subprocess.run(
        [sys.executable, program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGINT
    assert (done.stderr == "interrupted\n") == told
    assert ("Traceback" in done.stderr) != told


def test_the_line_harms_nothing_where_the_project_is_not(tmp_path: Path) -> None:
    (tmp_path / environment.INTERRUPTS).write_text(environment._EARLY)
    code = f"import site; site.addsitedir({str(tmp_path)!r})"
    done = subprocess.run(
        [sys.executable, "-S", "-I", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
