"""What the inventory of a cluster file imports: ``inventories/<name>.py`` is two lines that call it.

A door, as cli.py is: files of users have this name in them, wherever the code behind it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hpcstate.cluster.inventory import (
    FILE_VARIABLE,
    groups_beside,
    groups_of,
    groups_of_environment,
    refuse_wrong_data,
)

__all__ = ["groups_beside", "groups_of", "groups_of_environment", "refuse_cluster_file", "refuse_wrong_data"]

_WITHOUT_VALUE = frozenset(
    [
        "--dry",
        "--diff",
        "--yes",
        "-y",
        "--sudo",
        "--same-sudo-password",
        "--use-sudo-password",
        "--use-sudo-login",
        "--dzdo",
        "--no-wait",
        "--serial",
        "--ssh-password-prompt",
        "--debug",
        "--debug-all",
        "--debug-facts",
        "--debug-operations",
        "--json",
        "-v",
        "-vv",
        "-vvv",
    ]
)
"""Options of pyinfra 3.10 that no word follows (``pyinfra --help``)."""


def refuse_cluster_file(argv: Sequence[str]) -> None:
    """Say what to give instead where the inventory of a pyinfra's command line is a cluster file: pyinfra
    would run it as Python, and show a traceback. Raises SystemExit.
    """
    before = ""
    for word in argv[1:]:
        of_an_option = before.startswith("-") and "=" not in before and before not in _WITHOUT_VALUE
        if not word.startswith("-") and not of_an_option:
            if Path(word).suffix in (".yaml", ".yml"):
                own = Path(word).with_suffix(".py")
                instead = f"pyinfra {own}" if own.is_file() else ""
                hint = instead or f"{FILE_VARIABLE}={word} pyinfra inventories/chosen.py"
                what = f"{word} is a cluster file, and pyinfra's inventories are Python"
                raise SystemExit(f"{what}\n  hint: {hint}")
            return
        before = word
