"""The Xids that matter, and what each means: xids.toml as types."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

TABLE = Path(__file__).with_name("xids.toml")
CATALOG = "https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html"

Severity = Literal["error", "warning", "note"]
"""error: the GPU must get no jobs. warning: it works, somebody should look. note: a job's own fault."""


@dataclass(frozen=True)
class KnownXid:
    """What an Xid means, and the ``step`` that ends it."""

    severity: Severity
    meaning: str
    step: str


UNKNOWN = KnownXid("warning", "not in hpcstate's table", f"look it up: {CATALOG}")


@cache
def known_xids() -> Mapping[int, KnownXid]:
    """The table by Xid number."""
    data = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return {
        number: KnownXid(row["severity"], row["meaning"], row["step"])
        for row in data["xid"]
        for number in row["numbers"]
    }
