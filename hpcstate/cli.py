"""The ``hpcstate`` command: finds the subcommands, runs one, turns its outcome into an exit code.

A module of ``hpcstate/commands`` with ``register(subparsers)`` adds its subcommands and gives each
``set_defaults(run=function)``; ``function(args)`` returns the exit code. These modules import at the top
only what is cheap: libvirt, Jinja and the like belong inside the function.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import io
import os
import pkgutil
import re
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from hpcstate import commands
from hpcstate.errors import HpcstateError, ProblemsError, UnreadableFileError, from_os

OK = 0
FINDINGS = 1
COULD_NOT_RUN = 2
INTERRUPTED = 130
"""Exit codes; 130 is what shells report for a program that Control-C ended."""


_CHOICE = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)$")
"""What argparse says of a word that is none of the choices; since Python 3.12 it quotes none of them."""


class Parser(argparse.ArgumentParser):
    """A parser whose commands may hand words on to another program: those behind ``--`` are not looked into
    where the command has a default for ``words``, and become it. (To argparse they are positional arguments
    like those before them.) A word that is none of the choices is told with the one that was meant."""

    def error(self, message: str) -> NoReturn:
        """As argparse ends, in a line: what is wrong, and what was meant where that can be told."""
        if found := _CHOICE.search(message):
            word, choices = found[1], re.findall(r"'([^']*)'|([^', ]+)", found[2])
            near = difflib.get_close_matches(word, [quoted or bare for quoted, bare in choices], n=1)
            if near:
                of = message[: found.start()] if message.startswith("argument -") else ""
                message = f"{of}there is no {word!r}; did you mean {near[0]}?"
        elif message.startswith("unrecognized arguments: "):
            for word in message.split()[2:]:
                name = word.rstrip(";").partition("=")[0]
                near = difflib.get_close_matches(name, self._option_string_actions, n=1)
                if name.startswith("--") and near:
                    message += f"; did you mean {near[0]}?"
        super().error(message)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, but for the words behind ``--``."""
        given = list(sys.argv[1:] if args is None else args)
        if self.get_default("words") is None or "--" not in given:
            return super().parse_known_args(given, namespace)
        end = given.index("--")
        found, left = super().parse_known_args(given[:end], namespace)
        found.words = given[end + 1 :]
        return found, left


class _Version(argparse.Action):
    """Tells the version of the package, and the commit of the checkout that it runs from."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        """Raises SystemExit, as argparse's own does."""
        import shutil
        from importlib.metadata import version

        from hpcstate.paths import ROOT
        from hpcstate.run import run

        commit = ""
        if (ROOT / ".git").exists() and shutil.which("git"):
            asked = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
            commit = run(asked, check=False).stdout.strip()
        print(f"hpcstate {version('hpcstate')}{f' ({commit})' if commit else ''}")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """The parser with every subcommand of the installed modules."""
    parser = Parser(
        prog="hpcstate",
        description="A GPU Slurm cluster from one file, and kept in that state.",
        epilog="Exit codes: 0 fine, 1 findings, 2 could not run, 130 interrupted by Ctrl-C.",
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in sorted(found.name for found in pkgutil.iter_modules(commands.__path__)):
        module = importlib.import_module(f"{commands.__name__}.{name}")
        if hasattr(module, "register"):
            module.register(subparsers)
    parser.add_argument("--version", action=_Version, nargs=0, help="tell the version and the commit")
    _add_log_options(parser)
    parser.set_defaults(verbose=0, log_level=None, log_file=None)
    return parser


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """``argv`` as the commands understand it. Words too many are an error of the command, which knows what it
    takes, and not of ``hpcstate``.

    Raises SystemExit as argparse does, HpcstateError for a node that is named without its option.
    """
    args, left = build_parser().parse_known_args(argv)
    if left and hasattr(args, "node") and not any(word.startswith("-") for word in left):
        from hpcstate.commands.arguments import refuse_bare_nodes

        refuse_bare_nodes(args, left)
    if left:
        behind = "; a command stands behind --" if hasattr(args, "words") else ""
        args.command.error(f"unrecognized arguments: {' '.join(left)}{behind}")
    return args


def _add_log_options(parser: argparse.ArgumentParser) -> None:
    """The options of the log, on ``parser`` and on the commands below it: they may stand before a command and
    behind it. Their defaults are those of the whole: a command's own would replace what stood before it.
    """
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for action in below:
        for command in action.choices.values():
            _add_log_options(command)
    if not below:
        parser.set_defaults(command_name="-".join(parser.prog.split()[1:]), command=parser)
    group = parser.add_argument_group("log")
    group.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=argparse.SUPPRESS,
        help="tell more of what is done; -vv: all",
    )
    group.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default=argparse.SUPPRESS,
        help="what is told on standard error (default: warning)",
    )
    group.add_argument(
        "--log-file",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="write a log there; all that is done is in it",
    )


def _log_files(args: argparse.Namespace) -> list[Path]:
    """Where the log of this run goes unasked: to the clusters of its file that are there.

    A cluster that was never started has no folder below build/, and gets none by being looked at.
    """
    if not hasattr(args, "cluster_names"):
        return []
    from hpcstate.log import files_of

    return files_of(args.cluster_names(args), args.command_name, make=args.makes_cluster)


def _told(text: str, args: argparse.Namespace | None) -> str:
    """``text`` with the cluster file of ``args`` in the commands that it names."""
    from hpcstate.paths import named

    return named(text, args.file) if args is not None and hasattr(args, "cluster_names") else text


def _end_by_exception() -> None:
    """A closed terminal and a kill end a command as an exit does: what it must put back, it puts back. Under
    nohup SIGHUP is ignored, and stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, lambda got, _: sys.exit(128 + got))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (without the program's name) and return the exit code."""
    # A caller may have closed them (`>&-`): then there is nobody to tell, and that is no finding.
    sys.stdout = sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    sys.stderr = sys.stderr or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Messages quote the user's file; a terminal that lacks a character must not stop them.
            stream.reconfigure(errors="backslashreplace")
    args = None
    try:
        args = _parsed(argv)
        from hpcstate.files import PLAIN_UMASK
        from hpcstate.log import logged

        os.umask(PLAIN_UMASK)

        level = args.log_level or ("warning", "info", "debug")[min(args.verbose, 2)]
        _end_by_exception()
        words = ["hpcstate", *(sys.argv[1:] if argv is None else argv)]
        asked_for = [args.log_file] if args.log_file else []
        with logged(words, _log_files(args), asked_for=asked_for, level=level):
            code: int = args.run(args)
            sys.stdout.flush()
        return code
    except SystemExit as exit_:  # argparse: 2 for a usage error, 0 for --help
        return exit_.code if isinstance(exit_.code, int) else COULD_NOT_RUN
    except ProblemsError as error:
        print(error, file=sys.stderr)
        return COULD_NOT_RUN if isinstance(error, UnreadableFileError) else FINDINGS
    except HpcstateError as error:
        print(f"hpcstate: {_told(str(error), args)}", file=sys.stderr)
        return COULD_NOT_RUN
    except KeyboardInterrupt:
        print("hpcstate: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, a pager) has gone; without this the interpreter complains at exit (Python's
        # library reference, signal, "Note on SIGPIPE").
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return COULD_NOT_RUN
    except OSError as error:
        print(f"hpcstate: {from_os(error)}", file=sys.stderr)
        return COULD_NOT_RUN
