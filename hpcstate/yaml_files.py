"""YAML files of the project with a schema of strictyaml's: their data, or one error with file and line.

The cluster file is not read by this: hpcstate/schema/ finds all of its errors at once.
"""

from __future__ import annotations

from typing import Any

import strictyaml as sy

from hpcstate.errors import HpcstateError


def whole(expression: str) -> Any:
    """A validator for text that matches ``expression`` as a whole. ``sy.Regex`` ends it with ``$``, which
    also matches before a line break at the end (Python's re, "$"): a name with one ends a line of a script.
    """
    return sy.Regex(rf"{expression}\Z")


_QUOTES = str.maketrans("", "", "'\"")


def load(text: str, schema: Any, *, where: str, hint: str = "", flow_style: bool = False) -> Any:
    """The data of ``text`` by ``schema``. ``where`` names the file, ``hint`` is the next step in errors.

    ``flow_style`` allows ``[a, b]`` and ``{a: b}``. Raises HpcstateError with the line.
    """
    try:
        if flow_style:
            return sy.dirty_load(text, schema, allow_flow_style=True).data
        return sy.load(text, schema).data
    except sy.YAMLError as error:
        line, written = _place(error, text)
        said = ", ".join(" ".join(part.split()) for part in (error.context, error.problem) if part)
        raise HpcstateError(
            f"{said}: {written[:80]}" if written else said,
            where=f"{where}:{line}" if line else where,
            hint=hint,
        ) from error
    except Exception as error:
        # The parser inside strictyaml has bugs of its own with malformed input (ValueError for the escape
        # "\UFFFFFFFF", AttributeError for reader errors, and others), so nothing narrower holds.
        raise HpcstateError(f"not valid YAML: {str(error)[:200]!r}", where=where, hint=hint) from error


def _place(error: Any, text: str) -> tuple[int, str]:
    """The line of ``text`` (from 1; 0 where it is not known) that ``error`` is about, and what it says.

    A validator's mark counts the lines of the document as strictyaml would write it, with other quotes and
    line breaks (strictyaml/exceptions.py): that line is looked for in what the user wrote.
    """
    mark = error.problem_mark or error.context_mark
    lines = mark.buffer.rstrip("\0").splitlines() if mark and mark.buffer else []
    if not lines:
        return 0, ""
    at = min(mark.line, len(lines) - 1)
    written = _bare(lines[at])
    found = [number for number, line in enumerate(text.splitlines(), 1) if _bare(line).startswith(written)]
    return (min(found, key=lambda number: abs(number - at - 1)) if found and written else 0), written


def _bare(line: str) -> str:
    return line.translate(_QUOTES).strip()
