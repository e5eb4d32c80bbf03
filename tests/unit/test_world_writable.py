"""What root reads and runs lies where only root writes: no name that can be known below /tmp or /var/tmp."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

from hpcstate.paths import ROOT

_NAME = re.compile(r"/(?:var/)?tmp/[\w{$.-]|/dev/shm/[\w{$.-]")
FOLDERS = ("deploys", "facts", "hpcstate", "operations", "templates")
ALLOWED = {
    # What it names is in a tree of its own, entered read-only, where this is a tmpfs.
    "hpcstate/container/toolbox_enter.py",
    # The output of the ordinary user's jobs, read as that user, under a name that is drawn anew each time.
    "hpcstate/check/jobs.py",
}


def named(path: Path) -> list[str]:
    """Texts of ``path`` that name something in a folder where everybody writes; comments do not count."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix != ".py":
        lines = [line.partition("#")[0] for line in text.splitlines()]
        return [line.strip() for line in lines if _NAME.search(line)]
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [
        token.string
        for token in tokens
        if token.type == tokenize.STRING and not token.string.startswith('"""') and _NAME.search(token.string)
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_has_a_known_name_where_everybody_writes(folder: str) -> None:
    found = {
        str(path.relative_to(ROOT)): names
        for path in sorted((ROOT / folder).rglob("*"))
        if path.is_file() and path.suffix != ".pyc" and (names := named(path))
    }
    assert {path: names for path, names in found.items() if path not in ALLOWED} == {}


@pytest.mark.parametrize("line", ['there = f"/var/tmp/{name}"', 'x = "/tmp/file"', "y = 'cat /dev/shm/a'"])
def test_such_a_name_is_found(line: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(f"{line}\n")
    assert named(tmp_path / "a.py")
