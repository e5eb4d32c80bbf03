"""Completion: what each shell is told, and what it makes of it."""

from __future__ import annotations

import argparse
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.commands import completion

ANSWERS_IN = 90
"""Seconds."""


def parser() -> argparse.ArgumentParser:
    """A parser with everything a completion has to know."""
    top = argparse.ArgumentParser(prog="hpcstate", add_help=False)
    commands = top.add_subparsers()
    start = commands.add_parser("start", help="start it's nodes", add_help=False)
    start.add_argument("file", metavar="FILE")
    start.add_argument("--cluster", choices=("hpc", "cloud", "all"), help="which")
    start.add_argument("--node", help="one node")
    start.add_argument("-f", "--force", action="store_true", help="by force")
    show = (
        commands.add_parser("inventory", add_help=False).add_subparsers().add_parser("show", add_help=False)
    )
    show.add_argument("shell", choices=("bash", "zsh"))
    build = (
        commands.add_parser("container", add_help=False).add_subparsers().add_parser("build", add_help=False)
    )
    build.add_argument("names", metavar="NAME", nargs="+")
    return top


def test_the_parser_as_a_shell_sees_it() -> None:
    top, start, inventory, show, _, build = completion.commands(parser())
    assert [command.path for command in (top, start, inventory, show)] == [
        "",
        "start",
        "inventory",
        "inventory show",
    ]
    assert [word.name for word in top.words] == ["start", "inventory", "container"]
    assert (build.names, start.names) == ("containers", "")
    assert [option.names for option in start.options] == ["", "nodes", "", ""]
    assert start.takes_file
    assert [(option.name, option.takes_value, option.choices) for option in start.options] == [
        ("--cluster", True, ("hpc", "cloud", "all")),
        ("--node", True, ()),
        ("-f", False, ()),
        ("--force", False, ()),
    ]
    assert [word.name for word in show.words] == ["bash", "zsh"]


def demand(shell: str) -> None:
    """Fail with the next step where ``shell`` is not installed."""
    if shutil.which(shell) is None:
        pytest.fail(f"{shell} is not installed: ./hpc test installs it")


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_the_scripts_are_in_the_language_of_their_shell(shell: str, tmp_path: Path) -> None:
    demand(shell)
    script = tmp_path / shell
    script.write_text(completion.script(shell, parser()))
    done = subprocess.run([shell, "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([""], "start inventory container"),
        (["container", "build", "mpi"], "mpi-minimal"),
        (["container", "build", "mpi-minimal", "pytorch-cpu"], "pytorch-cpu-mpi"),
        (["inv"], "inventory"),
        (["inventory", "show", ""], "bash zsh"),
        (["start", "--"], "--cluster --node --force"),
        (["start", "--cluster", "c"], "cloud"),
        (["start", "--force", "g"], "gpu.yaml"),
        (["start", "sub/"], "sub/more.yml"),
        (["start", "o"], "other-folder"),
    ],
)
def test_bash_completes(words: list[str], expected: str, tmp_path: Path) -> None:
    for file in ("gpu.yaml", "gpu.py", "sub/more.yml", "other-folder/x"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / "script").write_text(completion.script("bash", parser()))
    command = """source ./script
        COMP_WORDS=(hpcstate "$@") COMP_CWORD=$#; _hpcstate; echo "${COMPREPLY[*]}" """
    done = subprocess.run(
        ["bash", "-c", command, "bash", *words], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["u"], "up"),
        (["build_i"], "build_images"),
        (["dump"], "dumpdb"),
        (["inv"], "inventory"),
        (["inventory", "show", ""], "bash zsh"),
        (["start", "--"], "--cluster --node --force"),
        (["up", "--"], "--yes --plan --drain-seconds --force --reboot --help"),
        (["up", "--yes", "g"], "gpu.yaml"),
        (["info", "build_c"], "build_containers"),
        (["build_images", ":", "hpc-b"], "hpc-base"),
        (["build_containers", ":", "mpi"], "mpi-minimal"),
        (["build_images", "rebuild", "=", "mpi"], "mpi-minimal"),
        (["render", "cluster", "=", "g"], "gpu.yaml"),
    ],
)
def test_bash_completes_the_front_door(words: list[str], expected: str, tmp_path: Path) -> None:
    (tmp_path / "gpu.yaml").touch()
    (tmp_path / "script").write_text(completion.script("bash", parser()))
    command = """source ./script
        COMP_WORDS=(./hpc "$@") COMP_CWORD=$#; _hpc; echo "${COMPREPLY[*]}"; complete -p hpc >/dev/null"""
    done = subprocess.run(
        ["bash", "-c", command, "bash", *words], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected


@pytest.mark.parametrize(
    ("words", "expected", "at_home"),
    [
        (["forg"], "forget", True),
        (["build_i"], "build_images", True),
        (["clean", "build_images", ":", "hpc-b"], "hpc-base", True),
        (["build_i"], "", False),
    ],
)
def test_bash_completes_doit_in_the_projects_folder(
    words: list[str], expected: str, at_home: bool, tmp_path: Path
) -> None:
    """Elsewhere it is another project's."""
    (tmp_path / "script").write_text(completion.script("bash", parser()))
    command = f"""source {tmp_path}/script
        COMP_WORDS=(doit "$@") COMP_CWORD=$#; _doit; echo "${{COMPREPLY[*]}}" """
    where = paths.ROOT if at_home else tmp_path
    done = subprocess.run(
        ["bash", "-c", command, "bash", *words], cwd=where, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["start", "gpu.yaml", "--node", "compute-"], "compute-01 compute-02"),
        (["start", "gpu.yaml", "--node", "con"], "controller"),
        (["start", "none.yaml", "--node", "g"], "gpu.yaml"),
    ],
)
def test_bash_completes_the_nodes_of_the_file(words: list[str], expected: str, tmp_path: Path) -> None:
    (tmp_path / "gpu.yaml").write_text((paths.ROOT / "inventories/gpu.yaml").read_text())
    (tmp_path / "script").write_text(completion.script("bash", parser()))
    program = tmp_path / "hpcstate"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={paths.ROOT} exec {sys.executable} -m hpcstate "$@"\n')
    program.chmod(0o755)
    command = """source ./script
        COMP_WORDS=(./hpcstate "$@") COMP_CWORD=$#; _hpcstate; echo "${COMPREPLY[*]}" """
    done = subprocess.run(
        ["bash", "-c", command, "bash", *words], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected


def test_the_front_door_is_completed_as_it_is() -> None:
    """Its options and commands are read by a shell script: both say the same."""
    door = (paths.ROOT / "hpc").read_text()
    usage = door.partition("<<'TEXT'\n")[2].partition("TEXT\n")[0]
    assert max(map(len, usage.splitlines())) <= 80
    options = [option.name for option in completion._UP if option.name != "--help"]
    assert re.findall(r"^ {6}(--[\w-]+)", usage, re.MULTILINE) == options
    handed_on = re.search(r"^(list \|.*)\)$", door, re.MULTILINE)
    assert handed_on and {*completion.OF_DOIT} <= {*handed_on[1].split(" | ")}
    assert completion.tasks()["up"] == "the main job: from one file to a running, proven cluster"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("./hpc forg", ["forget"]),
        ("./hpc build_images:hpc-b", ["build_images:hpc-base"]),
        ("./hpc rebuild=mpi", ["rebuild=mpi-minimal"]),
        ("doit build_im", []),
        ("hpcstate s", ["start"]),
        ("hpcstate start --cluster c", ["cloud"]),
        ("hpcstate start g", ["gpu.yaml", "gpu.py"]),
        ("hpcstate inventory show z", ["zsh"]),
        ("hpcstate container build mpi", ["mpi-minimal"]),
    ],
)
def test_fish_completes(line: str, expected: list[str], tmp_path: Path) -> None:
    demand("fish")
    for name in ("gpu.py", "gpu.yaml"):
        (tmp_path / name).touch()
    (tmp_path / "script").write_text(completion.script("fish", parser()))
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source ./script; complete -C '{line}'"],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [found.split("\t")[0] for found in done.stdout.splitlines()] == expected


def test_fish_completes_doit_in_the_projects_folder(tmp_path: Path) -> None:
    demand("fish")
    (tmp_path / "script").write_text(completion.script("fish", parser()))
    done = subprocess.run(
        [
            "fish",
            "--no-config",
            "-c",
            f"source {tmp_path}/script; complete -C 'doit build_im'; complete -C 'doit info build_co'; "
            "complete -C 'doit clean build_images:hpc-b'",
        ],
        cwd=paths.ROOT,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert found == ["build_images", "build_containers", "build_images:hpc-base"]


ZSHRC = """\
PS1=READY
unsetopt BEEP PROMPT_SP
autoload -Uz compinit && compinit -u -D
source ./script
hpcstate() { print -r -- "RAN:$*." }
doit() { print -r -- "RAN:$*." }
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("hpcstate s", "start"),
        ("hpcstate start --cluster c", "start --cluster cloud"),
        ("hpcstate start --cluster r", "start --cluster r"),
        ("hpcstate start --node oth", "start --node other.txt"),
        ("hpcstate inventory show z", "inventory show zsh"),
        ("hpcstate start g", "start gpu.yaml"),
        ("hpcstate start --n", "start --node"),
        ("hpcstate container build mpi-m", "container build mpi-minimal"),
    ],
)
def test_zsh_completes(line: str, expected: str, tmp_path: Path) -> None:
    demand("zsh")
    (tmp_path / "script").write_text(completion.script("zsh", parser()))
    (tmp_path / ".zshrc").write_text(ZSHRC)
    for name in ("gpu.yaml", "gpu.py", "other.txt"):
        (tmp_path / name).touch()
    assert typed(f"{line}\t\n", tmp_path) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("doit build_im", "build_images"),
        ("doit info build_co", "info build_containers"),
        ("doit clean build_images:hpc-b", "clean build_images:hpc-base"),
        ("doit rebuild=mpi-m", "rebuild=mpi-minimal"),
    ],
)
def test_zsh_completes_doit_in_the_projects_folder(line: str, expected: str, tmp_path: Path) -> None:
    demand("zsh")
    (tmp_path / "script").write_text(completion.script("zsh", parser()))
    settings = ZSHRC.replace("./script", f"{tmp_path}/script") + f"cd {paths.ROOT}\n"
    (tmp_path / ".zshrc").write_text(settings)
    assert typed(f"{line}\t\n", tmp_path) == expected


def typed(keys: str, home: Path) -> str:
    """The words that a zsh with the settings in ``home`` gives to hpcstate when ``keys`` are typed."""
    terminal, other_end = pty.openpty()
    shell = subprocess.Popen(
        ["zsh", "-d", "-i"],
        stdin=other_end,
        stdout=other_end,
        stderr=other_end,
        cwd=home,
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", "TERM": "dumb"},
        start_new_session=True,
    )
    os.close(other_end)
    try:
        printed_until(terminal, "READY")
        os.write(terminal, keys.encode())
        return printed_until(terminal, r"RAN:(.*?) ?\.\r")
    finally:
        shell.kill()
        shell.wait()
        os.close(terminal)


def printed_until(terminal: int, pattern: str) -> str:
    """What the last group of ``pattern`` matches, once the terminal shows it."""
    shown, until = "", time.monotonic() + ANSWERS_IN
    while not (found := re.search(pattern, shown)):
        assert select.select([terminal], [], [], max(0, until - time.monotonic()))[0], shown
        shown += os.read(terminal, 4096).decode()
    return found.group(found.lastindex or 0)


def test_the_script_is_kept_until_the_commands_are_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    first = completion.script("bash", parser())
    (kept,) = (tmp_path / "completion").iterdir()
    assert kept.read_text() == first
    kept.write_text("kept")
    assert completion.script("bash", parser()) == "kept"
    other = parser()
    other.add_argument("--other", help="one more")
    assert "--other" in completion.script("bash", other)
    (now,) = (tmp_path / "completion").iterdir()
    assert now != kept
    kept.parent.joinpath(now.name).unlink()
    kept.parent.rmdir()
    tmp_path.joinpath("completion").write_text("no folder can be made here")
    assert completion.script("bash", parser()) == first
