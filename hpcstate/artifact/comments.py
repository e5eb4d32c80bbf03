"""Programs without their comments, for keys: a comment in a shell script or a template of Packer builds
nothing anew. Text in, text out; for comparing only, never for running.

Not parsers: they follow quotes, substitutions and here-documents, to know where a `#` begins a comment. What
they are not sure of they give back as it is. tests/unit/artifact/test_comments.py has bash judge.
"""

from __future__ import annotations

import itertools
import re
from pathlib import PurePath

_HEREDOC = re.compile(r"<<(-?)[ \t]*(?:'([^'\n]+)'|\"([^\"\n]+)\"|\\?([A-Za-z_][A-Za-z0-9_]*))")
_ARITHMETIC = re.compile(r"\$\(\((?:[^()#{}'\"`\\\n]|\$\{[^{}'\"`\\\n]*\}|\((?:[^()#{}'\"`\\\n])*\))*\)\)")
_HCL_HEREDOC = re.compile(r"<<-?([A-Za-z_][A-Za-z0-9_-]*)[ \t]*\r?\n")
_HCL_STRING = re.compile(r'"(?:[^"\\\n$%]|\\.|\$\$\{|%%\{|[$%](?!\{)|[$%]\{[^"{}\n]*\})*"')
_BEFORE_A_COMMENT = " \t\n;&|()"
"""A `#` begins a comment where a word can begin (POSIX, Shell Command Language, 2.3, rule 9)."""


class _Unsure(Exception):
    """The text is not what is followed here."""


def meaning(text: str, name: str) -> str:
    """``text`` of the file ``name`` without comments and blank lines, where its kind (.sh, .hcl) is known."""
    suffix = PurePath(name).suffix
    try:
        if suffix == ".sh":
            return _shell(text)
        if suffix == ".hcl":
            return _hcl(text)
    except _Unsure:
        pass
    return text


def _lines(parts: list[tuple[bool, str]]) -> str:
    """The pieces of a program put together. Blank lines and blanks at the ends of lines go, where they are
    not within a ``literal`` piece."""
    whole = ""
    for literal, group in itertools.groupby(parts, key=lambda part: part[0]):
        text = "".join(text for _, text in group)
        whole += text.replace("\n", "\0") if literal else re.sub(r"[ \t\r]+(?=\n)", "", text)
    whole = re.sub(r"\n{2,}", "\n", whole.strip("\n"))
    return f"{whole}\n".replace("\0", "\n")


def _shell(text: str) -> str:
    """POSIX's shell, and what of bash's is alike."""
    if "\0" in text:
        raise _Unsure
    first, _, _ = text.partition("\n")
    parts: list[tuple[bool, str]] = [(True, first)] if first.startswith("#!") else []
    at = len(first) if parts else 0
    bound = -1
    """Where an escaped character ended: a `#` there goes on with its word."""
    stack: list[str] = []
    waiting: list[tuple[str, bool]] = []
    while at < len(text):
        inside = stack[-1] if stack else ""
        here = text[at]
        if inside == "'":
            end = text.find("'", at)
            if end < 0:
                raise _Unsure
            parts.append((True, text[at : end + 1]))
            stack.pop()
            at = end + 1
        elif here == "\\":
            parts.append((True, text[at : at + 2]))
            at += 2
            bound = at
        elif inside in ('"', "${", "`"):
            at = _quoted(text, at, stack, parts)
        elif here == "#" and at > bound and (at == 0 or text[at - 1] in _BEFORE_A_COMMENT):
            end = text.find("\n", at)
            at = end if end >= 0 else len(text)
        elif here == "\n":
            parts.append((False, "\n"))
            at += 1
            while waiting:
                at = _heredoc(text, at, waiting.pop(0), parts)
                if waiting:
                    parts.append((True, "\n"))
                    at += 1
        elif text.startswith("$((", at):
            at = _arithmetic(text, at, parts)
        elif text.startswith(("((", "$[", "$'", "[[", "<<<"), at):
            # Bash's own.
            raise _Unsure
        elif found := _HEREDOC.match(text, at):
            waiting.append((found[2] or found[3] or found[4], bool(found[1])))
            parts.append((True, found[0]))
            at = found.end()
        elif text.startswith("<<", at):
            raise _Unsure
        elif text.startswith(("$(", "${"), at):
            stack.append("$(" if text[at + 1] == "(" else "${")
            parts.append((False, text[at : at + 2]))
            at += 2
        elif here == "(" and stack:
            stack.append("(")
            parts.append((False, here))
            at += 1
        elif here == ")" and inside in ("$(", "("):
            stack.pop()
            parts.append((False, here))
            at += 1
        elif stack and re.compile(r"\bcase\b").match(text, at):
            # The bracket after a pattern would end the substitution too early.
            raise _Unsure
        else:
            if here in "'\"`":
                stack.append(here)
            parts.append((False, here))
            at += 1
    if stack or waiting:
        raise _Unsure
    return _lines(parts)


def _quoted(text: str, at: int, stack: list[str], parts: list[tuple[bool, str]]) -> int:
    """One step within double quotes, a parameter's braces or backquotes, where no comment is looked for."""
    here, inside = text[at], stack[-1]
    if (here == inside and inside != "${") or (here == "}" and inside == "${"):
        stack.pop()
    elif text.startswith("$((", at):
        return _arithmetic(text, at, parts)
    elif text.startswith(("$(", "${"), at):
        stack.append(text[at : at + 2])
        parts.append((True, text[at : at + 2]))
        return at + 2
    elif here in '"`' or (here == "'" and inside != '"' and '"' not in stack):
        stack.append(here)
    parts.append((True, here))
    return at + 1


def _heredoc(text: str, at: int, waiting: tuple[str, bool], parts: list[tuple[bool, str]]) -> int:
    word, tabs = waiting
    begin = at
    while at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        line = text[at:end]
        at = min(end + 1, len(text))
        if (line.lstrip("\t") if tabs else line) == word:
            parts.append((True, text[begin:end]))
            return end
    raise _Unsure


def _arithmetic(text: str, at: int, parts: list[tuple[bool, str]]) -> int:
    found = _ARITHMETIC.match(text, at)
    if found is None:
        raise _Unsure
    parts.append((True, found[0]))
    return found.end()


def _hcl(text: str) -> str:
    """HCL 2 (its specification of syntax, Lexical Elements): `#` and `//` to the end of the line, `/* */`."""
    parts: list[tuple[bool, str]] = []
    at, braces = 0, 0
    while at < len(text):
        here = text[at]
        if here == "#" or text.startswith("//", at):
            end = text.find("\n", at)
            at = end if end >= 0 else len(text)
        elif text.startswith("/*", at):
            end = text.find("*/", at + 2)
            if end < 0:
                raise _Unsure
            parts.append((False, " "))
            at = end + 2
        elif found := _HCL_HEREDOC.match(text, at):
            close = re.compile(rf"^[ \t]*{re.escape(found[1])}[ \t]*\r?$", re.MULTILINE).search(
                text, found.end()
            )
            if close is None:
                raise _Unsure
            parts.append((True, text[at : close.end()]))
            at = close.end()
        elif here == '"':
            end = _hcl_string(text, at)
            parts.append((True, text[at:end]))
            at = end
        else:
            braces += (here in "{[(") - (here in "}])")
            parts.append((False, here))
            at += 1
    if braces:
        raise _Unsure
    return _lines(parts)


def _hcl_string(text: str, at: int) -> int:
    """Where the quoted template at ``at`` ends; one with a quote within `${ }` is not followed."""
    found = _HCL_STRING.match(text, at)
    if found is None:
        raise _Unsure
    return found.end()
