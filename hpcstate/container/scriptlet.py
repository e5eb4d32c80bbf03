"""The line of a definition's %post at which a build ended.

Apptainer runs a section by `/bin/sh -ex /.post.script` (internal/pkg/build/stage.go), in an environment of
its own: the shell says the commands that it starts (``+ words``), and the number of a line only for errors
that are its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_SECTION = re.compile(r"^\s*%+(\S+)")
_STAGE = re.compile(r"^bootstrap:", re.IGNORECASE)
_STARTED = "Running post scriptlet"
_OWN = re.compile(r"/\.post\.script: (?:line )?(\d+):")
_TRACED = re.compile(r"^\++ (.+)$")
_WORD = re.compile(r"[\w./=:@%+-]{2,}")


def failing(definition: str, output: str) -> tuple[int, str]:
    """The line (1-based) of ``definition``, and its text, at which the %post ended whose build said
    ``output``. 0 where it is not known, with the command that was started last, if any.
    """
    scripts = _scripts(definition.split("\n"))
    *before, said = output.split(_STARTED)
    if not before or len(before) > len(scripts):
        return 0, ""
    script = scripts[len(before) - 1]
    command, found = "", (0, "")
    for line in said.splitlines():
        own = _OWN.search(line)
        if own and 0 < int(own[1]) <= len(script):
            at, text = script[int(own[1]) - 1]
            found = (at, text.strip())
        elif traced := _TRACED.match(line):
            command, found = traced[1], (0, "")
    return found if found[0] else _place(script, command)


def _scripts(lines: Sequence[str]) -> list[list[tuple[int, str]]]:
    """The %post of each stage that has one: its lines with their numbers. What comes twice is joined."""
    found: list[list[tuple[int, str]]] = []
    section, fresh = "", True
    for number, line in enumerate(lines, 1):
        if _STAGE.match(line):
            section, fresh = "", True
        elif named := _SECTION.match(line):
            section = named[1].lower()
            if section == "post" and fresh:
                found.append([])
                fresh = False
        elif section == "post":
            found[-1].append((number, line))
    return found


def _place(script: Sequence[tuple[int, str]], command: str) -> tuple[int, str]:
    """The line that has most of the words of ``command``, which a shell has expanded: its first one at least.
    The last of several, for those before were passed.
    """
    words = _WORD.findall(command)
    best, most = (0, command), 0
    for number, text in script:
        if not words or text.lstrip().startswith("#") or words[0] not in _WORD.findall(text):
            continue
        common = sum(word in _WORD.findall(text) for word in words)
        if common >= most:
            best, most = (number, text.strip()), common
    return best
