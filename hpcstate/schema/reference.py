"""The tables of docs/cluster-file.md, from the tables of keys: ``python -m hpcstate.schema.reference``.

A table stands between ``<!-- keys: SECTION -->`` and ``<!-- end -->``; what is between them is replaced, the
rest of the page is written by hand.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from hpcstate import paths
from hpcstate.errors import HpcstateError
from hpcstate.files import rewrite_page
from hpcstate.schema.declare import Keys
from hpcstate.schema.keys import SECTIONS

PAGE = paths.ROOT / "docs" / "cluster-file.md"
COMMAND = "python -m hpcstate.schema.reference"

_WIDTH = 110
_BLOCK = re.compile(r"(?ms)^<!-- keys: (?P<title>[^\n]+) -->$(?P<body>.*?)^<!-- end -->$")
_MARKER = re.compile(r"(?m)^<!-- (keys: .*|end) -->$")


def described(section: type[Keys]) -> str:
    """The Markdown of one section: a table of its keys, then its labels and those of the earlier system."""
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for row in section.rows.values():
        cells = (f"`{row.name}`", row.shown_default, row.shown_meaning)
        lines.append("|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|")
    lists = [("Labels", section.labels), ("Earlier", section.earlier)]
    told = " ".join(f"{title}: {_listed(section, names)}." for title, names in lists if names)
    if told:
        lines += ["", *textwrap.wrap(told, _WIDTH, break_long_words=False, break_on_hyphens=False)]
    return "\n".join(lines)


def rewritten(page: str, sections: Iterable[type[Keys]] = SECTIONS) -> str:
    """``page`` with the table of each of ``sections`` as it is now.

    Raises HpcstateError when a section has not exactly one place, or when a marker is of none or not closed.
    """
    tables = {section.title: described(section) for section in sections}
    found = [match["title"] for match in _BLOCK.finditer(page)]
    for title in dict.fromkeys([*found, *tables]):
        if title not in tables:
            raise HpcstateError(f"there is no section {title!r}", hint="the titles stand in schema/keys.py")
        if found.count(title) != 1:
            raise HpcstateError(
                f"{found.count(title)} places for the keys of {title}",
                hint=f"write <!-- keys: {title} --> and <!-- end --> once, each on a line of its own",
            )
    if len(_MARKER.findall(page)) != 2 * len(found):
        raise HpcstateError("a marker without its other half", hint="each table ends with <!-- end -->")
    return _BLOCK.sub(
        lambda match: f"<!-- keys: {match['title']} -->\n\n{tables[match['title']]}\n\n<!-- end -->", page
    )


def main(arguments: Sequence[str]) -> int:
    """Write the tables of the page named in ``arguments``, docs/cluster-file.md if none is. The exit code."""
    path = Path(arguments[0]) if arguments else PAGE
    return rewrite_page(path, rewritten)


def _listed(section: type[Keys], names: Iterable[str]) -> str:
    return ", ".join(
        f"`{name}` ({section.notes[name]})" if name in section.notes else f"`{name}`" for name in names
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
