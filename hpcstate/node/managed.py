"""What hpcstate manages on nodes: the rows of the table in docs/drift.md, which the operations declare."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hpcstate.errors import HpcstateError


@dataclass(frozen=True)
class Managed:
    """One row: something that an operation manages.

    ``key`` is its name, by which the lab's test of it goes. ``what`` and ``where`` it is, how a drift of it
    is ``seen``, and what happens ``then``: the deploy mends it, names it at its end, or stops on that node.
    ``needs`` is what a test of it would need that the lab has not, empty when the lab breaks it.
    """

    key: str
    what: str
    where: str
    seen: str
    then: Literal["mended", "named", "stops"]
    needs: str = ""


_BLOCK = re.compile(r"(?ms)^<!-- managed -->$.*?^<!-- end -->$")


def table(rows: Sequence[Managed]) -> str:
    """The Markdown of ``rows``, in their order."""
    lines = ["| key | what is managed | where | how drift is seen | what happens |", "|---|---|---|---|---|"]
    for row in rows:
        then = f"{row.then}; not tried in the lab, which lacks {row.needs}" if row.needs else row.then
        lines.append(f"| `{row.key}` | {row.what} | {row.where} | {row.seen} | {then} |")
    return "\n".join(lines)


def rewritten(page: str, rows: Sequence[Managed]) -> str:
    """``page`` with the table of ``rows`` between ``<!-- managed -->`` and ``<!-- end -->``.

    Raises HpcstateError when the page has not exactly one such place.
    """
    text = f"<!-- managed -->\n\n{table(rows)}\n\n<!-- end -->"
    after, count = _BLOCK.subn(lambda _: text, page)
    if count != 1:
        raise HpcstateError(
            f"{count} places for the table", hint="<!-- managed --> and <!-- end -->, once each"
        )
    return after
