"""How mails about jobs leave the cluster: ``mail`` of the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Tls = Literal["starttls", "tls", "none"]
"""Encrypted behind a greeting, from the first byte, or not at all."""


@dataclass(frozen=True)
class MailSettings:
    """The relay ``host``:``port`` takes mails from the address ``sender``. ``domain`` is put behind the name
    of a user who gave no address, empty for none. With ``user`` the relay wants a login, whose password is
    the first line of ``password_file``, a file of this machine.
    """

    host: str
    port: int
    sender: str
    domain: str = ""
    tls: Tls = "starttls"
    user: str = ""
    password_file: Path | None = None
