"""When a cluster is backed up, and where to: ``backup`` of the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Every = Literal["hourly", "daily", "weekly"]
"""How often, in systemd's words (systemd.time(7), calendar events)."""


@dataclass(frozen=True)
class BackupSettings:
    """A backup ``every`` so often into the folder ``path`` of this machine, where the newest ``keep`` stay.

    ``homes`` and ``containers`` are taken too. It is encrypted by the first line of ``passphrase_file``, or
    to the public key in ``encrypt_to``; in the clear without either.
    """

    every: Every
    path: Path
    keep: int = 14
    homes: bool = False
    containers: bool = False
    passphrase_file: Path | None = None
    encrypt_to: Path | None = None
