"""A directory of people beside ``users`` of the file: ``directory`` of an hpc cluster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

LdapSchema = Literal["rfc2307", "rfc2307bis"]
"""How a group names its members: by login (memberUid) or by entry (member)."""

LdapTls = Literal["required", "none"]
"""Whether the directory is spoken to encrypted only."""


@dataclass(frozen=True)
class LdapDirectory:
    """An LDAP directory, by sssd. The ``uri`` are asked in their order; ``base`` is where people and groups
    are, unless ``user_base`` and ``group_base`` say so. ``ca_file``, a file of this machine, has the
    certificates by which the server's is verified; None for those of Debian. With ``bind_dn`` nodes show who
    they are, by the first line of ``bind_password_file``, a file of this machine.

    ``allow_groups`` (names) or ``access_filter`` (LDAP) say who may log in; without both everybody of the
    directory. Numbers from ``min_id`` to ``max_id`` count, others are not seen.
    """

    uri: tuple[str, ...]
    base: str
    user_base: str = ""
    group_base: str = ""
    schema: LdapSchema = "rfc2307"
    tls: LdapTls = "required"
    ca_file: Path | None = None
    bind_dn: str = ""
    bind_password_file: Path | None = None
    allow_groups: tuple[str, ...] = ()
    access_filter: str = ""
    min_id: int = 1001
    max_id: int = 65_000_000
