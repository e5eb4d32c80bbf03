"""Values in a definition: ``{{ NAME }}``, by the defaults of ``%arguments``, filled in as Apptainer 1.4 does.

We fill in ourselves, so that what is checked is what is built: Apptainer finds nothing left to replace. Its
rules are those of internal/pkg/build/args/reader.go and pkg/build/types/parser/deffile.go (1.4.5), and
tests/containers/test_definitions.py compares with the real one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_BLANK = r"[\t\n\f\r ]"
"""What Go's ``\\s`` is; Python's has more."""

_VALUE = re.compile(rf"\{{\{{{_BLANK}*([A-Za-z0-9_]+){_BLANK}*\}}\}}")
_COMMENT = re.compile(r"#[^!]")
_STAGE = re.compile(r"^bootstrap:", re.IGNORECASE | re.MULTILINE)


class UnknownValueError(Exception):
    """A ``{{ name }}`` that no ``%arguments`` of its stage has a default for; ``line`` is 1-based."""

    def __init__(self, name: str, line: int) -> None:
        super().__init__(name)
        self.name, self.line = name, line


def names(text: str) -> set[str]:
    """The values that ``text`` asks for, also within the defaults of others, but not within comments."""
    return {found[1] for found in active(text)}


def stages(text: str) -> int:
    """How many lines of ``text`` begin a stage. Apptainer fills each in by itself: no value makes one."""
    return len(_STAGE.findall(text))


def filled(text: str, given: Mapping[str, str] | None = None) -> str:
    """The definition ``text`` with its values, stage by stage, those ``given`` before the defaults (as by
    `apptainer build --build-arg`); it has as many lines as before.

    Raises UnknownValueError for the first that has none.
    """
    parts: list[str] = []
    for start, stage in _stages(text):
        defaults = {**_defaults(stage), **(given or {})}
        done = 0
        for found in active(stage):
            if found[1] not in defaults:
                raise UnknownValueError(found[1], text.count("\n", 0, start + found.start()) + 1)
            parts += [stage[done : found.start()], _nested(defaults[found[1]], defaults)]
            done = found.end()
        parts.append(stage[done:])
    return "".join(parts)


def _nested(value: str, defaults: Mapping[str, str]) -> str:
    """``value`` with the values that it names; those name no others."""
    return _VALUE.sub(lambda found: defaults.get(found[1], found[0]), value)


def active(text: str) -> Iterator[re.Match[str]]:
    """The ``{{ NAME }}`` of ``text`` that Apptainer replaces: not those after a ``#`` in their line."""
    done = 0
    for found in _VALUE.finditer(text):
        line = max(text.rfind("\n", done, found.start()), done)
        if not _COMMENT.search(text[line : found.start()]):
            yield found
            done = found.end()


def _stages(text: str) -> Iterator[tuple[int, str]]:
    """The stages of ``text``, each from its `Bootstrap:` on, with their offsets."""
    starts = sorted({0, *(found.start() for found in _STAGE.finditer(text))})
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        yield start, text[start:end]


def _defaults(stage: str) -> Mapping[str, str]:
    """What the ``%arguments`` of a stage say, `NAME=VALUE` a line."""
    found: dict[str, str] = {}
    section = ""
    for line in stage.split("\n"):
        if line.lstrip().startswith("%"):
            section = line.strip().strip("%").lower().partition(" ")[0]
        elif section == "arguments" and not line.lstrip().startswith("#"):
            name, equal, value = line.partition("=")
            if equal and name.strip():
                found[name.strip()] = value.strip()
    return found
