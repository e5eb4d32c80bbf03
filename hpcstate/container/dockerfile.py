"""Reading a Dockerfile, as far as a build needs it: which images go in, and which one is the last base.

Whether it is one, the engine says: nothing here refuses what an engine takes. The language:
https://docs.docker.com/reference/dockerfile/ and BuildKit's frontend/dockerfile/parser/parser.go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hpcstate import paths
from hpcstate.container.dockerfile_values import UnknownFormError, expanded, unset, words
from hpcstate.errors import HpcstateError

KEYWORDS = frozenset(
    {"ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER"}
    | {"ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"}
)

_WITH_DOCUMENTS = ("ADD", "COPY", "RUN")
_DOCUMENT = re.compile(r"(\d*)<<(-?)([^<]+)")
"""A word that begins a here-document (parser.go, reHeredoc): ``<<<`` is none, and quoted text neither."""

_REFERENCE = re.compile(
    r"(?:[A-Za-z0-9.-]+(?::\d+)?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*(?::\w[\w.-]*)?(?:@sha256:[0-9a-f]{64})?"
)
"""The name of an image (distribution/reference, regexp.go)."""

_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*")


@dataclass(frozen=True)
class Instruction:
    """One instruction: ``line`` is its first (1-based), ``words`` its text with continued lines joined,
    ``document`` whether here-documents follow it.
    """

    line: int
    keyword: str
    words: str
    document: bool = False

    @property
    def flags(self) -> tuple[str, ...]:
        """The options at its start (``--from=x``)."""
        found = []
        for word in words(self.words):
            if not word.startswith("--"):
                break
            found.append(word)
        return tuple(found)


@dataclass(frozen=True)
class Images:
    """The images that a build reads: ``used`` are all that the stages it needs name, in their order; ``base``
    is what its last stage starts from in the end, empty for ``scratch``.

    ``unset`` are variables without a value that leave no name of an image, each with its line: what is meant,
    the engine says.
    """

    used: tuple[str, ...] = ()
    base: str = ""
    unset: tuple[tuple[int, str], ...] = ()


@dataclass
class _Stage:
    name: str
    base: str = ""
    parent: int | None = None
    needs: list[int] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    unset: list[tuple[int, str]] = field(default_factory=list)


def read(path: Path) -> tuple[Instruction, ...]:
    """The instructions of the Dockerfile ``path``. Raises HpcstateError when it cannot be read."""
    try:
        return parse(path.read_bytes().decode("utf-8-sig", errors="replace"))
    except OSError as error:
        raise HpcstateError(f"cannot be read: {error}", where=paths.shown(path)) from error


def parse(text: str) -> tuple[Instruction, ...]:
    """The instructions in ``text``: comments dropped, continued lines joined, here-documents skipped."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    escape = _escape(lines)
    continued = re.compile(rf"{re.escape(escape)}[ \t]*$")
    found: list[Instruction] = []
    at = 0
    while at < len(lines):
        first, text, at = _logical(lines, at, continued)
        if text:
            parts = text.split(None, 1)
            keyword, rest = parts[0].upper(), parts[1] if len(parts) > 1 else ""
            ends = _documents(keyword, rest, escape)
            for chomp, end in ends:
                at = _after(lines, at, chomp, end)
            found.append(Instruction(first + 1, keyword, rest.strip(), bool(ends)))
    return tuple(found)


def _logical(lines: Sequence[str], at: int, continued: re.Pattern[str]) -> tuple[int, str, int]:
    """The line that begins at ``at`` with what continues it: where it began, its text, the next one."""
    first, text = at, ""
    while at < len(lines):
        line, at = lines[at], at + 1
        if not line.strip() or line.lstrip().startswith("#"):
            if not text:
                break
            continue
        if not continued.search(line):
            text += line
            break
        text += continued.sub("", line)
    return first, text.strip(), at


def _documents(keyword: str, rest: str, escape: str) -> list[tuple[bool, str]]:
    """The here-documents that follow an instruction: whether tabs before the end do not count, the end."""
    if keyword == "ONBUILD":
        keyword, _, rest = rest.partition(" ")
        keyword = keyword.upper()
    if keyword not in _WITH_DOCUMENTS:
        return []
    found = [match for word in words(rest, escape) if (match := _DOCUMENT.fullmatch(word))]
    return [(bool(match[2]), re.sub(r"[\"'\\]", "", match[3])) for match in found]


def _after(lines: Sequence[str], at: int, chomp: bool, end: str) -> int:
    """The line after a here-document; where none ends it, what follows is no part of it."""
    for number in range(at, len(lines)):
        if (lines[number].lstrip("\t") if chomp else lines[number]) == end:
            return number + 1
    return at


def images(
    instructions: Sequence[Instruction],
    arguments: Mapping[str, str] | None = None,
    target: str = "",
    platform: Mapping[str, str] | None = None,
) -> Images:
    """What a build of the stage ``target`` (empty: the last) reads, by the build ``arguments`` given and by
    those that the engine has by itself (``platform``). Stages that it does not need name nothing.
    """
    stages = _stages(instructions, arguments or {}, platform or {})
    if not stages:
        return Images()
    chosen = _find(stages, target) if target else None
    last = len(stages) - 1 if chosen is None else chosen
    needed = _needed(stages, last)
    used: list[str] = []
    missing: list[tuple[int, str]] = []
    for number in sorted(needed):
        used += [image for image in stages[number].images if image not in used]
        missing += stages[number].unset
    return Images(tuple(used), _base(stages, last), tuple(missing))


def first_arguments(instructions: Sequence[Instruction]) -> set[str]:
    """The names that ARG declares before the first FROM."""
    found: set[str] = set()
    for instruction in instructions:
        if instruction.keyword == "FROM":
            break
        if instruction.keyword == "ARG":
            found |= {word.partition("=")[0] for word in words(instruction.words)}
    return found


def stage_defaults(instructions: Sequence[Instruction]) -> tuple[dict[str, str], list[tuple[int, str]]]:
    """The defaults of arguments by which a FROM names a stage (``FROM base-${VARIANT}``); and the lines and
    names of those that a stage gives another default of its own.
    """
    outer: dict[str, str] = {}
    named: set[str] = set()
    used: dict[str, str] = {}
    other: list[tuple[int, str]] = []
    started = False
    for instruction in instructions:
        if instruction.keyword == "FROM":
            started = True
            parts = [word for word in words(instruction.words) if not word.startswith("--")] or [""]
            if _named(_Stage(""), parts[0], instruction.line, outer).lower() in named:
                used |= {name: outer[name] for name in _VARIABLE.findall(parts[0]) if name in outer}
            if len(parts) > 2:
                named.add(parts[2].lower())
        elif instruction.keyword == "ARG" and not started:
            outer |= _argument(instruction.words, {}, outer, {})
        elif instruction.keyword == "ARG":
            found = _argument(instruction.words, {}, {}, {})
            other += [(instruction.line, name) for name, value in found.items() if value != outer.get(name)]
    return used, [(line, name) for line, name in other if name in used]


_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")


def _stages(
    instructions: Sequence[Instruction], arguments: Mapping[str, str], platform: Mapping[str, str]
) -> list[_Stage]:
    outer = dict(platform)
    inner: dict[str, str] = {}
    stages: list[_Stage] = []
    for instruction in instructions:
        if instruction.keyword == "FROM":
            stages.append(_started(instruction, stages, outer))
            inner = {}
        elif instruction.keyword == "ARG":
            scope, above = (inner, {**outer, **platform}) if stages else (outer, {})
            scope |= _argument(instruction.words, {**arguments}, scope, above)
        elif instruction.keyword == "ENV" and stages:
            inner |= _assigned(instruction.words, inner)
        elif stages:
            for name in _sources(instruction):
                _add(stages, name, instruction.line, inner)
    return stages


def _started(instruction: Instruction, stages: Sequence[_Stage], outer: Mapping[str, str]) -> _Stage:
    parts = [word for word in words(instruction.words) if not word.startswith("--")]
    stage = _Stage("")
    if len(parts) > 2 and parts[1].lower() == "as":
        # buildah fills in variables here, BuildKit takes none.
        stage.name = _named(_Stage(""), parts[2], instruction.line, outer).lower()
    image = _named(stage, parts[0] if parts else "", instruction.line, outer)
    stage.parent = _find(stages, image, numbers=False)
    if stage.parent is not None:
        stage.needs.append(stage.parent)
    elif _is_image(image):
        stage.base = image
        stage.images.append(image)
    return stage


def _named(stage: _Stage, written: str, line: int, values: Mapping[str, str]) -> str:
    """What ``written`` names; empty where only the engine knows, and what lacks a value is on record."""
    try:
        name = expanded(written, values)
    except UnknownFormError:
        return ""
    missing = unset(written, values)
    if missing and not _REFERENCE.fullmatch(name):
        stage.unset += [(line, variable) for variable in missing]
    return name


def _is_image(name: str) -> bool:
    return bool(_REFERENCE.fullmatch(name)) and name.lower() != "scratch"


def _add(stages: list[_Stage], written: str, line: int, values: Mapping[str, str]) -> None:
    """That the last of ``stages`` takes something out of ``written``, a stage before it or an image."""
    stage = stages[-1]
    name = _named(stage, written, line, values)
    number = _find(stages[:-1], name)
    if number is not None:
        stage.needs.append(number)
    elif _is_image(name) and not name.isdecimal():
        stage.images.append(name)


def _sources(instruction: Instruction) -> list[str]:
    """What an instruction takes files from: COPY --from, and RUN --mount=…,from=…."""
    found = []
    for flag in instruction.flags:
        name, _, value = flag.partition("=")
        if name == "--from" and instruction.keyword in ("COPY", "ADD"):
            found.append(value)
        elif name == "--mount" and instruction.keyword == "RUN":
            fields = (field.partition("=") for field in value.strip("\"'").split(","))
            found += [said for key, _, said in fields if key.strip().lower() == "from"]
    return found


def _argument(
    text: str, given: Mapping[str, str], scope: Mapping[str, str], above: Mapping[str, str]
) -> dict[str, str]:
    """The values that ``ARG text`` gives: those of the build first, then its own, then those of before."""
    found: dict[str, str] = {}
    for word in words(text):
        name, equal, value = word.partition("=")
        if name in given:
            found[name] = given[name]
        elif equal:
            try:
                found[name] = expanded(value, {**scope, **found})
            except UnknownFormError:
                # A variable without a value is empty in a default (lex.go, ProcessWord).
                found[name] = ""
        elif name in above:
            found[name] = above[name]
    return found


def _assigned(text: str, scope: Mapping[str, str]) -> dict[str, str]:
    """The values that ``ENV text`` gives, also in its old form without an equals sign."""
    parts = list(words(text))
    if parts and "=" not in parts[0]:
        parts = [f"{parts[0]}={' '.join(parts[1:])}"]
    found = {}
    for part in parts:
        name, _, value = part.partition("=")
        try:
            found[name] = expanded(value, scope)
        except UnknownFormError:
            continue
    return found


def _find(stages: Sequence[_Stage], name: str, *, numbers: bool = True) -> int | None:
    """The stage called ``name``: the last of several, or by its number."""
    for number in reversed(range(len(stages))):
        if stages[number].name and stages[number].name == name.lower():
            return number
    return int(name) if numbers and name.isdecimal() and int(name) < len(stages) else None


def _needed(stages: Sequence[_Stage], last: int) -> set[int]:
    found, open_ = set(), [last]
    while open_:
        number = open_.pop()
        if number not in found:
            found.add(number)
            open_ += stages[number].needs
    return found


def _base(stages: Sequence[_Stage], number: int) -> str:
    """The image below the stage ``number``."""
    while (parent := stages[number].parent) is not None:
        number = parent
    return stages[number].base


def _escape(lines: Sequence[str]) -> str:
    """What continues a line: a backslash, unless a directive at the top says a backtick."""
    for line in lines:
        directive = _DIRECTIVE.fullmatch(line.strip())
        if directive is None:
            break
        if directive[1].lower() == "escape":
            return directive[2]
    return "\\"
