"""Reading a Dockerfile: what it starts from, and what is wrong with it before anything is built.

The language: https://docs.docker.com/reference/dockerfile/. The engines check the rest themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcstate import paths
from hpcstate.errors import HpcstateError, Problem, ProblemsError

KEYWORDS = frozenset(
    {"ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER"}
    | {"ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"}
)

_HEREDOC = re.compile(r"<<-?\s*([\"']?)([A-Za-z_][A-Za-z0-9_]*)\1")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|([A-Za-z_][A-Za-z0-9_]*))")


@dataclass(frozen=True)
class Instruction:
    """One instruction: ``line`` is its first (1-based), ``words`` its text with continued lines joined."""

    line: int
    keyword: str
    words: str


def read(path: Path) -> tuple[Instruction, ...]:
    """The instructions of the Dockerfile ``path``.

    Raises HpcstateError when it cannot be read and ProblemsError with everything that is no Dockerfile.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise HpcstateError(f"cannot be read: {error}", where=paths.shown(path)) from error
    instructions = parse(text)
    if problems := check(instructions):
        raise ProblemsError(paths.shown(path), tuple(problems))
    return instructions


def parse(text: str) -> tuple[Instruction, ...]:
    """The instructions in ``text``: comments dropped, continued lines joined, here-documents skipped."""
    lines = text.splitlines()
    escape = _escape(lines)
    found: list[Instruction] = []
    at = 0
    while at < len(lines):
        first, words = at, ""
        while at < len(lines):
            line = lines[at]
            at += 1
            if not line.strip() or line.lstrip().startswith("#"):
                if words:
                    continue
                break
            if not line.rstrip().endswith(escape):
                words += line.strip()
                break
            words += line.rstrip().removesuffix(escape).strip() + " "
        if not words:
            continue
        keyword, _, rest = words.partition(" ")
        if keyword.upper() in ("RUN", "COPY", "ADD"):
            for _, end in _HEREDOC.findall(rest):
                at = next((n + 1 for n in range(at, len(lines)) if lines[n].strip() == end), len(lines))
        found.append(Instruction(first + 1, keyword.upper(), rest.strip()))
    return tuple(found)


def check(instructions: Sequence[Instruction]) -> list[Problem]:
    """What no engine would build, with its line."""
    known = " ".join(sorted(KEYWORDS))
    found = [
        Problem(instruction.line, instruction.keyword, "there is no such instruction", f"there are: {known}")
        for instruction in instructions
        if instruction.keyword not in KEYWORDS
    ]
    found += [
        Problem(instruction.line, instruction.keyword, "it says nothing")
        for instruction in instructions
        if instruction.keyword in KEYWORDS and not instruction.words
    ]
    first = next((instruction for instruction in instructions if instruction.keyword != "ARG"), None)
    if first is None or (first.keyword != "FROM" and first.keyword in KEYWORDS):
        line, place = (first.line, first.keyword) if first else (1, "FROM")
        found.append(
            Problem(line, place, "FROM has to come first", "FROM scratch, or an image; before it only ARG")
        )
    return found


def bases(instructions: Sequence[Instruction]) -> tuple[str, ...]:
    """The images that the Dockerfile starts from, without ``scratch`` and its own stages; by the defaults of
    the ARGs before the first FROM.
    """
    arguments: dict[str, str] = {}
    stages: set[str] = set()
    found: list[str] = []
    before = True
    for instruction in instructions:
        if instruction.keyword == "ARG" and before:
            name, _, value = instruction.words.partition("=")
            arguments[name.strip()] = substituted(value.strip().strip("\"'"), arguments)
        elif instruction.keyword == "FROM":
            before = False
            words = [word for word in instruction.words.split() if not word.startswith("--")]
            image = substituted(words[0], arguments) if words else ""
            if image and image != "scratch" and image.lower() not in stages and image not in found:
                found.append(image)
            if len(words) == 3 and words[1].lower() == "as":
                stages.add(words[2].lower())
    return tuple(found)


def substituted(text: str, arguments: Mapping[str, str]) -> str:
    """``text`` with ``$NAME``, ``${NAME}`` and ``${NAME:-default}`` replaced."""
    return _VARIABLE.sub(lambda found: arguments.get(found[1] or found[3], "") or found[2] or "", text)


def _escape(lines: Sequence[str]) -> str:
    """What continues a line: a backslash, unless the directive at the top says a backtick."""
    for line in lines:
        directive = re.fullmatch(r"#\s*([a-z]+)\s*=\s*(\S+)\s*", line.strip())
        if directive is None:
            break
        if directive[1] == "escape":
            return directive[2]
    return "\\"
