"""docs/pyinfra-and-doit.md, run: its files are written, its commands do what it says.

``<!-- file: NAME -->`` says that the indented lines behind it are that file, ``<!-- run -->`` that they are
run. ``; shows: TEXT`` is in what they print, ``, fails``: their exit code is not 0.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.cluster.inventory import CHOICES
from hpcstate.tasks.artifacts import asked_anew, made_by_tasks
from hpcstate.tasks.graph import VARIABLES

PAGE = paths.ROOT / "docs" / "pyinfra-and-doit.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCK = re.compile(r"<!-- (file: (?P<file>\S+)|run)(?P<fails>, fails)?(?:; shows: (?P<shows>.+?))? -->\n\n")


@dataclass(frozen=True)
class Block:
    """Lines of the page: a file, or commands with what they say."""

    file: str
    text: str
    shows: str
    fails: bool


def blocks(text: str) -> Iterator[Block]:
    for found in BLOCK.finditer(text):
        lines: list[str] = []
        for line in text[found.end() :].splitlines():
            if line and not line.startswith("    "):
                break
            lines.append(line[4:])
        body = "\n".join(lines).strip("\n") + "\n"
        yield Block(found["file"] or "", body, found["shows"] or "", bool(found["fails"]))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the project in it, and the files of the page."""
    home = tmp_path_factory.mktemp("home")
    (home / "hpcstate").symlink_to(paths.ROOT)
    for block in blocks(TEXT):
        if block.file:
            (home / block.file).write_text(block.text.replace("/tmp/note", f"{home}/note"))
    return home


RUN = [block for block in blocks(TEXT) if not block.file]


@pytest.mark.parametrize("block", RUN, ids=[block.text.splitlines()[-1][:50] for block in RUN])
def test_its_commands_do_what_it_says(home: Path, block: Block) -> None:
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "HOME": str(home), "PATH": programs, "PYTHONPATH": str(paths.ROOT)}
    environment |= {"HPCSTATE_BUILD": str(home / "build"), "PYINFRA_PROGRESS": "off"}
    script = block.text.replace("/tmp/note", f"{home}/note")
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said = done.stdout + done.stderr
    assert (done.returncode != 0) == block.fails, said
    assert block.shows in said
    assert "Traceback" not in said


def test_there_is_much_to_run() -> None:
    assert len(RUN) >= 7
    assert {block.file for block in blocks(TEXT)} == {"", "note.py", "scratch.py", "inventory.py"}


@pytest.mark.parametrize("name", [*CHOICES, *VARIABLES])
def test_it_has_every_choice(name: str) -> None:
    assert f"`{name}=" in TEXT or f" `{name}=" in TEXT


def test_its_forced_rebuilds_are_those_that_are() -> None:
    """They would take minutes: what each does is in test_doit.py."""
    section = TEXT.partition("## Built anew\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^    doit (.+?)(?:  |$)", section, re.MULTILINE)
    assert len(lines) >= 5
    for line in lines:
        for word in line.split():
            name, is_variable, value = word.partition("=")
            if is_variable:
                assert (name, bool(asked_anew(value))) == ("rebuild", True)
            elif name not in ("forget", "clean", "-s"):
                assert name in (*made_by_tasks(), "build_images")
