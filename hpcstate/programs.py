"""Shell programs that run on nodes and hosts: files beside the modules that use them.

Nothing is installed for them: a host's sh is given their text. By hand they run as
``NAME=VALUE… sh FILE ARGUMENT…``; one that stands behind others as ``cat FILES | NAME=VALUE… sh -s …``.
shellcheck reads them (tests/unit/test_shell.py). Standard library only.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

REPLACE = Path(__file__).with_name("replace_file.sh")
"""The function replace_file: one file is replaced in one step."""


_READ: dict[str, str] = {}
"""The names of the programs that were read, by their texts."""


def names(script: str) -> str:
    """What the log calls ``script``: the files whose programs are in it, else its first word.

    Nothing else of it: an argument, a value or a text within it may be secret.
    """
    if found := [name for text, name in _READ.items() if text in script]:
        return ", ".join(found)
    lines = (line.strip() for line in script.splitlines())
    first = next((line for line in lines if line and not line.startswith(("#", "set -", "cd "))), "")
    word = re.match(r"[\w./-]+(?=\s|;|$)", first)
    return word.group() if word else "sh"


def _read(file: Path) -> str:
    text = file.read_text(encoding="utf-8").rstrip("\n")
    _READ[text] = file.name
    return text


def command(*files: Path, arguments: Sequence[object] | None = None, **variables: object) -> str:
    """The text for ``sh -c``: ``files`` one after the other, behind their variables and positional arguments.

    The text of a program stays as it is in its file; what a call is about stands in the first lines. It ends
    without a newline, so that it may stand within braces or before a ``;``. Raises OSError when a file is
    missing.
    """
    ahead = []
    if variables:
        ahead.append(" ".join(f"{name}={shlex.quote(str(value))}" for name, value in variables.items()))
    if arguments is not None:
        ahead.append(" ".join(("set --", *(shlex.quote(str(argument)) for argument in arguments))))
    return "\n".join((*ahead, *map(_read, files)))


def replace_file(path: str, mode: str, *, owner: str = "", mark: str = "") -> str:
    """Puts what comes on standard input at ``path`` in one step: a reader sees the old file or the new one.

    ``mode`` is octal digits, ``owner`` as chown takes it (empty: who runs it). ``mark`` is an empty file that
    is made before the step, for what has to follow it. The folder is made as needed.
    """
    words = [path, mode, *((owner, mark) if mark else (owner,) if owner else ())]
    return f"{command(REPLACE)}\nreplace_file {' '.join(shlex.quote(word) for word in words)}"
