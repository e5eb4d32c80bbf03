"""Words and variables of a Dockerfile, as the engines' own shell-like reader has them.

BuildKit's frontend/dockerfile/shell/lex.go, and "Environment replacement" of Docker's reference; buildah
(openshift/imagebuilder, shell_parser.go) knows a part of it.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]|[@*#?]")
_OPERATION = re.compile(r"(:?[-+?]|##?|%%?|//?)")


class UnknownFormError(Exception):
    """A form of a variable that no engine documents, or one that ends a build without a value: what it stands
    for is the engine's to say."""


def words(text: str, escape: str = "\\") -> Iterator[str]:
    """The words of ``text``, quotes and all: blanks in quotes or after ``escape`` end none."""
    word, quote, at = "", "", 0
    while at < len(text):
        character = text[at]
        if character == escape and quote != "'" and at + 1 < len(text):
            word += text[at : at + 2]
            at += 2
            continue
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character.isspace():
            if word:
                yield word
            word = ""
            at += 1
            continue
        word += character
        at += 1
    if word:
        yield word


def expanded(text: str, values: Mapping[str, str], escape: str = "\\") -> str:
    """``text`` without its quotes, with the ``values`` of its variables.

    A variable without a value is empty, as in the engines. Raises UnknownFormError.
    """
    found, at, quote = "", 0, ""
    while at < len(text):
        character = text[at]
        if character == escape and quote != "'" and at + 1 < len(text):
            found += text[at + 1] if not quote or text[at + 1] in f'{quote}$"{escape}' else text[at : at + 2]
            at += 2
        elif character in "'\"" and quote in ("", character):
            quote = "" if quote else character
            at += 1
        elif character == "$" and quote != "'":
            value, at = _variable(text, at + 1, values, escape)
            found += value
        else:
            found += character
            at += 1
    return found


def _variable(text: str, at: int, values: Mapping[str, str], escape: str) -> tuple[str, int]:
    """What the variable at ``at`` (after the dollar) stands for, and where it ends."""
    if not text.startswith("{", at):
        name = _NAME.match(text, at)
        return ("$", at) if name is None else (values.get(name[0], ""), name.end())
    name = _NAME.match(text, at + 1)
    end = _closing(text, at)
    if name is None or end < 0:
        raise UnknownFormError(text)
    if name.end() == end:
        return values.get(name[0], ""), end + 1
    operation = _OPERATION.match(text, name.end())
    if operation is None:
        raise UnknownFormError(text)
    word = expanded(text[operation.end() : end], values, escape)
    return _operated(operation[1], values.get(name[0]), word), end + 1


def _operated(operation: str, value: str | None, word: str) -> str:
    there = value is not None and (bool(value) or not operation.startswith(":"))
    if operation.endswith("-"):
        return value or "" if there else word
    if operation.endswith("+"):
        return word if there else ""
    if operation.endswith("?"):
        if not there:
            raise UnknownFormError(word)
        return value or ""
    value = value or ""
    if operation.startswith("/"):
        old, _, new = word.partition("/")
        return re.sub(_pattern(old), lambda _: new, value, count=int(operation == "/"))
    return _trimmed(operation, value, word)


def _trimmed(operation: str, value: str, word: str) -> str:
    """``value`` without the shortest (``#``, ``%``) or longest beginning or end that ``word`` matches."""
    ends = range(len(value) + 1)
    lengths = list(ends) if len(operation) == 1 else list(reversed(ends))
    for length in lengths:
        part = value[:length] if operation[0] == "#" else value[len(value) - length :]
        if re.fullmatch(_pattern(word), part):
            return value[length:] if operation[0] == "#" else value[: len(value) - length]
    return value


def _pattern(word: str) -> str:
    return fnmatch.translate(word).removesuffix(r"\Z").removesuffix(r"\z")


def unset(text: str, values: Mapping[str, str]) -> list[str]:
    """The variables of ``text`` that have no value and whose form gives none either."""
    plain = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
    names = [found[1] or found[2] for found in plain.finditer(text)]
    return [name for name in names if name not in values]


def operations(text: str, escape: str = "\\") -> Iterator[str]:
    """What ``text`` does with its variables, in order: ``:-`` of ``${NAME:-x}``, ``#`` of ``${NAME#x}``.
    Nothing in single quotes, nor what is escaped."""
    at, quote = 0, ""
    while at < len(text):
        character = text[at]
        if character == escape and quote != "'":
            at += 1
        elif character in "'\"" and quote in ("", character):
            quote = "" if quote else character
        elif character == "$" and quote != "'" and text.startswith("{", at + 1):
            name, end = _NAME.match(text, at + 2), _closing(text, at + 1)
            operation = _OPERATION.match(text, name.end()) if name else None
            if operation and operation.end() <= end:
                yield operation[1]
                yield from operations(text[operation.end() : end], escape)
                at = end
        at += 1


def _closing(text: str, at: int) -> int:
    """Where the brace at ``at`` ends; below 0 where it does not."""
    depth = 0
    for place in range(at, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return place
    return -1
