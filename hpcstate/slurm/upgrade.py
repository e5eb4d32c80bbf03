"""Whether the tables of accounting go with the slurmdbd that is installed. Pure.

slurmdbd converts older tables as it starts, which may take hours and has no way back; newer ones it refuses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from hpcstate.probe.tables import TablesState

_DUE = re.compile(r"current version is '(\d+)' needs to be at '(\d+)'")
"""What `slurmdbd -u` prints (24.11, as_mysql_convert.c, as_mysql_print_dbver)."""

_NEWER = ("downgrading is not possible", "higher than expected")
_TOO_OLD = "too old for this version of Slurm"


@dataclass(frozen=True)
class TablesStep:
    """``nothing`` to do, ``convert`` the tables, or ``refuse`` to start slurmdbd with them, with the reason
    and the next step. ``old`` and ``new`` are the versions of tables of a conversion."""

    kind: Literal["nothing", "convert", "refuse"]
    reason: str = ""
    old: int = 0
    new: int = 0


def step(found: TablesState) -> TablesStep:
    """What the tables ``found`` ask for before slurmdbd starts.

    Its exit code alone says little: `slurmdbd -u` ends with 1 where a conversion is due, for tables that it
    refuses, and for an empty database, whose version it takes for 4294967294 (24.11.5).
    """
    if not found["answers"] or not found["there"] or found["code"] == 0:
        return TablesStep("nothing")
    if any(words in found["said"] for words in _NEWER):
        return TablesStep(
            "refuse",
            f"the tables of accounting (version {found['version']}) are of a newer Slurm than the slurmdbd "
            "of this image, which cannot read them; nothing was touched. An image with that Slurm, or "
            "`hpcstate restore` of a backup from before (docs/backup.md)",
        )
    if _TOO_OLD in found["said"]:
        return TablesStep(
            "refuse",
            f"the tables of accounting (version {found['version']}) are too old for the slurmdbd of this "
            "image: it converts those of the three releases before; nothing was touched. A release between "
            "the two first",
        )
    if due := _DUE.search(found["said"]):
        return TablesStep("convert", old=int(due[1]), new=int(due[2]))
    return TablesStep(
        "refuse",
        f"`slurmdbd -u` ended with {found['code']}, and it is not known whether the tables of accounting go "
        f"with it: {found['said'] or 'it said nothing'}",
    )
