"""The environment that an image says (ENV), as a .sif sets it.

Apptainer 1.4.5 turns ENV into double-quoted shell within a default value (conveyorPacker_oci.go, insertEnv).
There its own shell reads a backtick and ``$(…)`` as commands, and an error of syntax ends the file: that
variable and all after it are gone, and the container starts all the same. So the file is written here, with
each value quoted.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

FILE = "/.singularity.d/env/10-docker2singularity.sh"
"""Where a .sif has the environment of the image that it was made of."""

OF_APPTAINER = frozenset(
    {"HOME", "PWD", "OLDPWD", "SHLVL", "PS1", "PROMPT_COMMAND", "TERM", "USER", "LOGNAME"}
)
"""What Apptainer sets by itself, whatever an image says: the user's home, prompt and terminal."""

_EXTENDED = frozenset({"PATH", "LD_LIBRARY_PATH"})
"""To these Apptainer adds folders of its own at the end."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASKS_FOR_QUOTES = re.compile(r"[`$\\\"'\n\r]")


def variables(said: Sequence[str]) -> dict[str, str]:
    """The variables of ``NAME=VALUE`` lines that a shell can have, the last of a name."""
    found: dict[str, str] = {}
    for line in said:
        name, _, value = line.partition("=")
        if _NAME.fullmatch(name):
            found[name] = value
    return found


def is_plain(said: Sequence[str]) -> bool:
    """Whether Apptainer's own conversion gets each value right."""
    return not any(_ASKS_FOR_QUOTES.search(value) for value in variables(said).values())


def script(said: Sequence[str]) -> str:
    """What the file says for the environment ``said``: as in Apptainer's own, a value of who starts the
    container comes first, but for PATH; and not the LANG=C that --cleanenv puts there.
    """
    lines = ["#!/bin/sh"]
    for name, value in variables(said).items():
        quoted = shlex.quote(value)
        if name == "PATH":
            lines.append(f"PATH={quoted}")
        elif name == "LANG":
            lines.append(f'[ "${{LANG:-C}}" != C ] || LANG={quoted}')
        else:
            lines.append(f'[ -n "${{{name}:-}}" ] || {name}={quoted}')
        lines.append(f"export {name}")
    return "\n".join(lines) + "\n"


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """What a container has in its environment other than ``expected``, a line for each variable."""
    lines = []
    for name, value in expected.items():
        there = found.get(name)
        if name in OF_APPTAINER or there == value:
            continue
        longer = not value or f"{there}:".startswith(f"{value}:")
        longer = not value or f"{there}:".startswith(f"{value}:")
        if name in _EXTENDED and there is not None and longer:
            continue
        is_now = "is gone" if there is None else f"is {there!r}"
        lines.append(f"{name} {is_now}, the image says {value!r}")
    return lines
