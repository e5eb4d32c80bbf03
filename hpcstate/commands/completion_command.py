"""``hpcstate completion``: the completion script of a shell."""

from __future__ import annotations

import argparse
from typing import Any

from hpcstate.cli import OK, build_parser
from hpcstate.commands import completion


def register(subparsers: Any) -> None:
    """Add ``completion``."""
    parser = subparsers.add_parser(
        "completion",
        help="print the completion script of a shell",
        description='Print a completion script. In ~/.bashrc: eval "$(hpcstate completion bash)"',
    )
    parser.add_argument("shell", choices=completion.SHELLS, help="the shell")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the script for the chosen shell."""
    print(completion.script(args.shell, build_parser()), end="")
    return OK
