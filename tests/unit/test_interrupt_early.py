"""Ctrl-C while a program of the project is still being imported: a line, and what a shell expects to see."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

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
