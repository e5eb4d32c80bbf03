"""The ``hpcstate`` command: finds the subcommands, runs one, turns its outcome into an exit code.

A module of ``hpcstate/commands`` with ``register(subparsers)`` adds its subcommands and gives each
``set_defaults(run=function)``; ``function(args)`` returns the exit code. These modules import at the top
only what is cheap: libvirt, Jinja and the like belong inside the function.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import pkgutil
import sys
from collections.abc import Sequence

from hpcstate import commands
from hpcstate.errors import HpcstateError, ProblemsError, UnreadableFileError, from_os

OK = 0
FINDINGS = 1
COULD_NOT_RUN = 2
INTERRUPTED = 130
"""Exit codes; 130 is what shells report for a program that Control-C ended."""


def build_parser() -> argparse.ArgumentParser:
    """The parser with every subcommand of the installed modules."""
    parser = argparse.ArgumentParser(
        prog="hpcstate",
        description="A GPU Slurm cluster from one file, and kept in that state.",
        epilog="Exit codes: 0 fine, 1 findings, 2 could not run.",
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in sorted(found.name for found in pkgutil.iter_modules(commands.__path__)):
        module = importlib.import_module(f"{commands.__name__}.{name}")
        if hasattr(module, "register"):
            module.register(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (without the program's name) and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Messages quote the user's file; a terminal that lacks a character must not stop them.
            stream.reconfigure(errors="backslashreplace")
    try:
        args = build_parser().parse_args(argv)
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except SystemExit as exit_:  # argparse: 2 for a usage error, 0 for --help
        return exit_.code if isinstance(exit_.code, int) else COULD_NOT_RUN
    except ProblemsError as error:
        print(error, file=sys.stderr)
        return COULD_NOT_RUN if isinstance(error, UnreadableFileError) else FINDINGS
    except HpcstateError as error:
        print(f"hpcstate: {error}", file=sys.stderr)
        return COULD_NOT_RUN
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, a pager) has gone; without this the interpreter complains at exit (Python's
        # library reference, signal, "Note on SIGPIPE").
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return COULD_NOT_RUN
    except OSError as error:
        print(f"hpcstate: {from_os(error)}", file=sys.stderr)
        return COULD_NOT_RUN
