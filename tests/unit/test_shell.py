"""The shell of the project: programs are files, shellcheck finds nothing in them, and what runs them gives
their text and their parameters as they are."""

from __future__ import annotations

import ast
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hpcstate import programs
from hpcstate.gpu import mig
from hpcstate.paths import ROOT

FOLDERS = ("hpcstate", "operations", "packer", "containers", "templates", "tests")
_SHEBANG = re.compile(rb"#!.*\b(ba|da)?sh\b")


def shell_files() -> list[Path]:
    """Every file that a shell runs: on nodes, in images and containers, here. What is rendered from templates
    for an image is among the golden files of tests/render."""
    found = [ROOT / "hpc", ROOT / ".ci" / "run"]
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.is_symlink() or not path.is_file() or path.suffix in (".j2", ".py"):
                continue
            with path.open("rb") as file:
                first = file.readline()
            if path.suffix == ".sh" or _SHEBANG.match(first):
                found.append(path)
    return sorted(found)


def shellcheck(*files: Path) -> str:
    """What shellcheck finds in ``files``; programs for a node's ``sh -c`` have no first line for it."""
    assert shutil.which("shellcheck"), "shellcheck is not installed: ./hpc test installs it"
    named = [path for path in files if _SHEBANG.match(path.read_bytes())]
    found = ""
    for words, group in ((), named), (("--shell=sh",), [path for path in files if path not in named]):
        if group:
            done = subprocess.run(
                ["shellcheck", *words, "--format=gcc", "--", *group],
                capture_output=True,
                text=True,
                check=False,
            )
            found += done.stdout + done.stderr
    return found


def test_shellcheck_finds_nothing() -> None:
    files = shell_files()
    assert len(files) > 40
    assert shellcheck(*files) == ""


def test_shellcheck_finds_nothing_in_what_splits_gpus(tmp_path: Path) -> None:
    program = tmp_path / "mig.sh"
    program.write_text(mig.files({})[mig.SCRIPT])
    assert shellcheck(program) == ""


@pytest.mark.parametrize("first", ["", "#!/bin/sh\n"])
def test_shellcheck_would_find_something(tmp_path: Path, first: str) -> None:
    program = tmp_path / "program.sh"
    program.write_text(f"{first}file=$1\nrm $file\n")
    assert "SC2086" in shellcheck(program)


# programs are files

SOURCES = ("hpcstate", "operations", "facts", "deploys")
_CONTROL = re.compile(
    r"\b(for|while|until)\b.*;\s*do\b|\bif\b.*;\s*then\b.*\bfi\b|\bcase\b.*\bin\b.*\besac\b", re.S
)
SHORT = {
    # One command behind a condition, or for two names.
    "hpcstate/probe/slurm.py": 1,
    "hpcstate/passthrough/vfio.py": 1,
    "hpcstate/hypervisor/ports.py": 1,
    "hpcstate/container/layers.py": 2,
}


def texts(path: Path) -> Iterator[str]:
    """The texts of a Python source, docstrings left out; what is put into one is X."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    parts |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.value


def test_a_program_is_a_file_and_no_text_in_python() -> None:
    found = {
        str(path.relative_to(ROOT)): count
        for folder in SOURCES
        for path in sorted((ROOT / folder).rglob("*.py"))
        if (count := sum(bool(_CONTROL.search(text)) for text in texts(path)))
    }
    assert found == SHORT


def test_every_program_is_named_by_a_module_beside_it() -> None:
    """So the keys of images find it (hpcstate/artifact/imports.py), and a reader who runs it."""
    lost = []
    for folder in ("hpcstate", "operations", "tests/suites"):
        for program in sorted((ROOT / folder).rglob("*.sh")):
            beside = program.parent.glob("*.py")
            if not any(program.name in texts(module) for module in beside):
                lost.append(str(program.relative_to(ROOT)))
    assert lost == []


# how they are run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((), []), (("a b", "it's", "", "$(id)", "*"), ["a b", "it's", "", "$(id)", "*"]), ((7,), ["7"])],
)
def test_a_program_gets_its_parameters_as_they_are(
    tmp_path: Path, arguments: Sequence[object], words: list[str]
) -> None:
    program = tmp_path / "program.sh"
    program.write_text("printf '%s\\n' \"$root\" $#\nfor word; do printf '<%s>\\n' \"$word\"; done\n")
    text = programs.command(program, arguments=arguments, root="/it's a $HOME")
    # It may stand within braces, and words that the shell had before are gone.
    done = subprocess.run(
        ["sh", "-c", f"{{ {text}; }}", "sh", "old"], capture_output=True, text=True, check=True
    )
    shown = [f"<{word}>" for word in words]
    assert done.stdout.splitlines() == ["/it's a $HOME", str(len(words)), *shown]


@pytest.mark.parametrize("content", ["", "no newline", "two\n\nlines\n", "$HOME 'x' \\n\n"])
def test_a_file_is_replaced_as_a_whole(tmp_path: Path, content: str) -> None:
    path, mark = tmp_path / "it's new" / "a file", tmp_path / "mark"
    owner = f"{tmp_path.owner()}:{tmp_path.group()}"
    for mode in ("640", "755"):
        text = programs.replace_file(str(path), mode, owner=owner, mark=str(mark))
        subprocess.run(["sh", "-c", text], input=content, text=True, check=True)
        assert path.read_text() == content
        assert stat.S_IMODE(path.stat().st_mode) == int(mode, 8)
        mark.unlink()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_file_that_cannot_be_written_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    text = programs.replace_file(str(path), "no mode")
    done = subprocess.run(
        ["sh", "-c", f"{text} && echo on"], input="new", capture_output=True, text=True, check=False
    )
    assert (done.returncode != 0, done.stdout, path.read_text()) == (True, "", "old")
