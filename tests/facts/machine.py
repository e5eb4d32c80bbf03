"""A small machine for the facts' commands: a folder of chosen programs, stand-ins for others, and names that
need quoting.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

AWKWARD = 'it\'s "a" name $(touch pwned) — Ä'


def programs(folder: Path, names: Iterable[str]) -> Path:
    """Make ``folder`` with links to the programs ``names`` of this machine, and no others; return it."""
    folder.mkdir()
    for name in names:
        found = shutil.which(name)
        assert found is not None, name
        (folder / name).symlink_to(found)
    return folder


def stand_in(folder: Path, name: str, script: str) -> None:
    """A program ``name`` that runs ``script``."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def run(command: str, tools: Path, cwd: Path) -> str:
    """What ``command`` prints; it must succeed and be quiet on standard error."""
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env={"PATH": str(tools)},
        cwd=cwd,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()
