"""``hpcstate completion``, generated from the parser: subcommands, options, their choices, and files.

The scripts are static: completing starts no Python, but for the nodes of a cluster file that was given. Each
walks the words before the cursor to find the subcommand (its path, ``inventory show``), then offers that
command's words.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hpcstate import paths
from hpcstate.cli import OK, build_parser
from hpcstate.files import write_atomically

SHELLS = ("bash", "zsh", "fish")

FILE_METAVAR = "FILE"
"""The metavar of a positional argument that is a cluster file."""


def register(subparsers: Any) -> None:
    """Add ``completion``."""
    parser = subparsers.add_parser(
        "completion",
        help="print the completion script of a shell",
        description='Print a completion script. In ~/.bashrc: eval "$(hpcstate completion bash)"',
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the script for the chosen shell."""
    print(script(args.shell, build_parser()), end="")
    return OK


@dataclass(frozen=True)
class Word:
    """A subcommand, or a choice of a positional argument."""

    name: str
    help: str


@dataclass(frozen=True)
class Option:
    """One spelling of an option. ``choices`` are the values it takes, empty when any will do; ``names`` what
    they are names of, one of NAMES."""

    name: str
    help: str
    takes_value: bool
    choices: tuple[str, ...]
    names: str = ""


@dataclass(frozen=True)
class Command:
    """A command as a shell sees it. ``path`` is ``inventory show``, empty for ``hpcstate`` itself."""

    path: str
    words: tuple[Word, ...]
    options: tuple[Option, ...]
    takes_file: bool
    names: str = ""


NAMES = ("containers", "images", "nodes")
"""What a shell finds names of when they are asked for: folders of the project, the nodes of a file."""

FAMILIES = {"build_images": "images", "seed": "images", "build_containers": "containers"}
"""Tasks of which there is one for each of NAMES."""

_NODES = ("--node", "--nodes")


def _names(path: str, metavar: object) -> str:
    """What a positional argument of the command ``path`` names."""
    if metavar == "NODE":
        return "nodes"
    of_container = path.startswith("container ") and str(metavar).partition("|")[0] == "NAME"
    return "containers" if of_container else ""


def commands(parser: argparse.ArgumentParser, path: str = "") -> Iterator[Command]:
    """The command of ``parser``, then its subcommands. argparse has no public way to ask for them."""
    words: list[Word] = []
    options: list[Option] = []
    takes_file, names = False, ""
    below: list[Command] = []
    for action in parser._actions:
        text = action.help or ""
        if isinstance(action, argparse._SubParsersAction):
            summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, subparser in action.choices.items():
                words.append(Word(name, summaries.get(name, "")))
                below.extend(commands(subparser, f"{path} {name}".strip()))
        elif action.option_strings:
            choices = tuple(str(choice) for choice in action.choices or ())
            for name in action.option_strings:
                kind = "nodes" if name in _NODES else ""
                options.append(Option(name, text, action.nargs != 0, choices, kind))
        else:
            names = names or _names(path, action.metavar)
            takes_file = takes_file or action.metavar == FILE_METAVAR
            words.extend(Word(str(choice), text) for choice in action.choices or ())
    yield Command(path, tuple(words), tuple(options), takes_file, names)
    yield from below


OF_DOIT = ("list", "info", "forget", "clean", "dumpdb", "run")
"""Commands of doit's that ./hpc hands on."""

_UP = (
    Option("--yes", "do not ask before something is removed or running jobs are waited for", False, ()),
    Option("--plan", "do what this plan says", True, ()),
    Option("--drain-seconds", "how long a deploy waits for the jobs on a node", True, ()),
    Option("--force", "a deploy does not wait for jobs", False, ()),
    Option("--reboot", "a node may be rebooted for NVIDIA's driver", False, ()),
    Option("--help", "what ./hpc takes", False, ()),
)
"""The options of ``./hpc up``, which the script itself reads."""


def tasks() -> dict[str, str]:
    """The tasks of the build graph, by name, and what each does, from their source: importing them and doit
    takes as long as most commands."""
    found = {}
    for file in sorted((paths.ROOT / "hpcstate" / "tasks").glob("*.py")):
        for node in ast.parse(file.read_bytes()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("task_"):
                found[node.name.removeprefix("task_")] = (ast.get_docstring(node) or "").partition("\n")[0]
    return found


def front_door(known: Sequence[Command]) -> list[Command]:
    """What ./hpc takes: all that hpcstate does (``known``), the tasks, and some commands of doit's."""
    top, *below = known
    words = {word.name: word for word in top.words}
    words |= {name: Word(name, text) for name, text in tasks().items()}
    words |= {name: Word(name, f"doit {name}") for name in OF_DOIT}
    words["commands"] = Word("commands", "the commands of hpcstate")
    up = Command("up", (), _UP, takes_file=True)
    help_ = Option("--help", "what ./hpc takes", False, ())
    of_tasks = tuple(Word(name, text) for name, text in tasks().items())
    doit = [Command(name, of_tasks, (), takes_file=False) for name in OF_DOIT]
    return [Command("", tuple(words.values()), (help_,), takes_file=False), up, *doit, *below]


def of_doit() -> list[Command]:
    """What doit takes in the project's folder: its commands, the tasks, and the variables of the tasks."""
    words = [Word(name, text) for name, text in tasks().items()]
    top = Command("", (*words, *(Word(name, f"doit {name}") for name in OF_DOIT)), (), takes_file=False)
    return [top, *(Command(name, tuple(words), (), takes_file=False) for name in OF_DOIT)]


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """The completion script of ``parser`` for ``shell``, one of SHELLS, and of the front door ./hpc.

    It is kept: a shell asks for it as it starts, and importing Jinja takes as long as all the rest.
    """
    name, known = f"completion/{shell}.j2", list(commands(parser))
    programs = {"hpcstate": known, "hpc": front_door(known), "doit": of_doit()}
    made_of = (paths.TEMPLATES / name).read_bytes() + repr((programs, str(paths.ROOT))).encode()
    kept = paths.BUILD / "completion" / f"{shell}-{hashlib.sha256(made_of).hexdigest()[:16]}"
    with suppress(OSError):
        return kept.read_text(encoding="utf-8")
    from hpcstate.render import render

    text = "".join(
        render(
            name,
            program=program,
            commands=its,
            quoted=fish_quoted,
            plain_root=str(paths.ROOT),
            root=shlex.quote(str(paths.ROOT)),
            families=FAMILIES,
        )
        for program, its in programs.items()
    )
    with suppress(OSError):
        for old in kept.parent.glob(f"{shell}-*"):
            old.unlink()
        write_atomically(kept, text)
    return text


def fish_quoted(text: str) -> str:
    """``text`` in single quotes for fish, which escapes by backslash there (fish-language, Quotes)."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
