"""From bytes to a tree of strings that knows its lines. Nothing here knows what a cluster is.

strictyaml reads the file: no anchors, no type tags, no duplicate keys, and every scalar is the text that
was written (``1.0`` stays ``1.0``, ``no`` stays ``no``). Flow style is allowed, because the files of the
earlier system use it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import strictyaml
from strictyaml import ruamel

from hpcstate.errors import HpcstateError, Problem, ProblemsError, UnreadableFileError

MAX_BYTES = 1 << 19
"""A cluster file of a thousand nodes with ``count`` is a page long; what is larger is no cluster file."""

MAX_DEPTH = 40
"""Nesting that no cluster file has: deeper flow style is refused, deeper blocks when the stack runs out."""

# YAML 1.2, 5.1 "Character Set", without the byte order mark.
_NOT_PRINTABLE = re.compile(
    "[^\x09\x0a\x0d\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)


@dataclass(frozen=True)
class Document:
    """A parsed file. ``tree`` is dicts, lists and texts; ``lines`` maps each place to its line, from 1."""

    tree: Any
    lines: dict[str, int]


def child(place: str, key: object) -> str:
    """The place of ``key`` inside the mapping at ``place``; keys with odd characters are quoted."""
    parent = "" if place == "." else place
    plain = isinstance(key, str) and re.fullmatch(r"[\w-]+", key, re.ASCII)
    return f"{parent}.{key}" if plain else f"{parent}.{shown(key)}"


def item(place: str, position: int) -> str:
    """The place of an entry of the list at ``place``."""
    return f"{place}[{position}]"


def shown(value: object) -> str:
    """What the user wrote, safe to print: quoted, control characters escaped, cut after 60 characters."""
    text = ascii(value) if not isinstance(value, str) or not value.isprintable() else repr(value)
    return text if len(text) <= 60 else f"{text[:56]}...{text[-1]}"


def read_text(path: Path) -> str:
    """The text of ``path``, UTF-8, at most MAX_BYTES.

    Raises UnreadableFileError when it cannot be opened, ProblemsError when it is not text.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _unreadable(path, "no such file", "the project's own files are in inventories/") from None
    except IsADirectoryError:
        raise _unreadable(path, "this is a directory", "name the cluster file inside it") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _unreadable(path, f"it cannot be read: {reason}") from None
    if len(data) > MAX_BYTES:
        raise failed(
            path, 0, f"the file is larger than {MAX_BYTES // 1024} KiB", "is this a cluster file (YAML)?"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise failed(
            path, line, f"byte {data[error.start]:#04x} is not UTF-8 text", "save the file as UTF-8"
        ) from None


def parse_document(text: str, path: Path) -> Document:
    """Parse ``text`` as strict YAML. ``path`` is only for messages.

    Raises ProblemsError with the line when it is not YAML, or uses what a cluster file must not.
    """
    if found := _NOT_PRINTABLE.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise failed(
            path, line, f"the character {found.group()!a} may not stand in YAML", "is this a text file?"
        )
    if not re.sub(r"(?m)#.*$|^---\s*$", "", text).strip():
        raise failed(path, 1, "the file is empty", "see inventories/minimal.yaml for the smallest one")
    if line := _line_of_deep_flow(text):
        raise _too_deep(path, line)
    try:
        tree = ruamel.load(text, Loader=_Loader)
        return Document(tree, _lines(tree, path))
    except RecursionError:
        raise _too_deep(path, _line_of_deep_blocks(text)) from None
    except HpcstateError:
        raise
    except ruamel.error.MarkedYAMLError as error:
        raise _syntax_problem(path, error) from None
    except Exception as error:
        # The parser inside strictyaml meets some malformed input with its own bugs (ValueError for the
        # escape "\UFFFFFFFF", AttributeError for reader errors, and others), so nothing narrower holds.
        raise failed(path, 1, f"not valid YAML: {shown(str(error))}") from None


def failed(path: Path, line: int, message: str, hint: str = "") -> ProblemsError:
    """One problem of the file as a whole, as the error to raise."""
    return ProblemsError(str(path), (Problem(line, ".", message, hint),))


def _unreadable(path: Path, message: str, hint: str = "") -> UnreadableFileError:
    return UnreadableFileError(str(path), (Problem(0, ".", message, hint),))


class _Loader(strictyaml.parser.StrictYAMLLoader):  # type: ignore[misc]  # strictyaml has no types
    """The loader of strictyaml.dirty_load, with flow style.

    Not dirty_load itself: for its validators it copies the tree, in time that grows with the square of a
    list's length (1,000 entries 2 s), and they stop at the first error, where our walk finds all.
    """

    label = "the cluster file"
    allow_flow_style = True


def _syntax_problem(path: Path, error: Any) -> ProblemsError:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark is not None else 1
    problem = str(error.problem or error.context or "").strip()
    if isinstance(error, strictyaml.AnchorTokenDisallowed) or "alias" in problem:
        return failed(
            path, line, "anchors and aliases (& and *) are not read", "write it out, or quote the text"
        )
    if isinstance(error, strictyaml.TagTokenDisallowed):
        return failed(path, line, "type tags (!) are not read", "leave the tag out, or quote the text")
    if isinstance(error, strictyaml.DuplicateKeysDisallowed):
        key = problem.removeprefix("Duplicate key ").removesuffix(" found")
        # Any other file of colons comes here too, as /etc/shadow does: what is no name is not shown.
        named = f"the key {key}" if re.fullmatch(r"['\"]?[\w-]{1,60}['\"]?", key) else "a key"
        return failed(path, line, f"{named} is written twice", "keep one of the two")
    if "\\t" in problem:
        return failed(path, line, "a tab where YAML wants spaces", "indent with spaces")
    if "another document" in problem:
        return failed(path, line, "a second document (---) in the file", "one file holds one document")
    start = error.context_mark
    if start is not None and start.line + 1 != line and re.search("quoted|flow", str(error.context)):
        # A quote or bracket that is not closed is noticed lines later; the user looks for where it opens.
        problem = f"what opens here is not closed: in line {line} {problem}"
        line = start.line + 1
    return failed(path, line, f"not valid YAML: {problem}", "look for a missing quote, colon or bracket")


def _lines(tree: Any, path: Path) -> dict[str, int]:
    """The line of each place, and the check that all keys are plain text."""
    lines = {".": 1}
    todo = [(".", tree)]
    while todo:
        place, value = todo.pop()
        if isinstance(value, dict):
            if value.merge:  # type: ignore[attr-defined]  # a ruamel CommentedMap
                raise failed(path, lines[place], "merge keys (<<) are not read", "write the keys out")
            for key, inner in value.items():
                below = child(place, key)
                lines[below] = value.lc.data[key][0] + 1  # type: ignore[attr-defined]
                if not isinstance(key, str):
                    raise failed(path, lines[below], "a key must be plain text")
                todo.append((below, inner))
        elif isinstance(value, list):
            for position, inner in enumerate(value):
                below = item(place, position)
                lines[below] = value.lc.data[position][0] + 1  # type: ignore[attr-defined]
                todo.append((below, inner))
    return lines


def _too_deep(path: Path, line: int) -> ProblemsError:
    return failed(path, line, "nested too deeply", "a cluster file has about eight levels")


def _line_of_deep_flow(text: str) -> int:
    """The line where more than MAX_DEPTH brackets are open, 0 if there is none.

    Looked for before parsing, because the scanner's time grows with the square of the open brackets. Quoted
    texts and comments do not count.
    """
    depth = 0
    for match in re.finditer(r'"(?:\\.|[^"\\])*"|\'[^\']*\'|#.*|[][{}]', text):
        if match.group() in "[{":
            depth += 1
        elif match.group() in "]}":
            depth = max(depth - 1, 0)
        if depth > MAX_DEPTH:
            return text.count("\n", 0, match.start()) + 1
    return 0


def _line_of_deep_blocks(text: str) -> int:
    """The line where the nesting passes MAX_DEPTH; events need no recursion."""
    depth = 0
    for event in ruamel.parse(text, Loader=ruamel.RoundTripLoader):
        if isinstance(event, ruamel.events.CollectionStartEvent):
            depth += 1
        elif isinstance(event, ruamel.events.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            return int(event.start_mark.line) + 1
    return 1
