"""What a user of MariaDB may do: for the one by which its metrics are read."""

from __future__ import annotations

import shlex


def command(user: str) -> str:
    """The rights of ``user``, a line each; nothing where there is no such user, or no MariaDB."""
    show = shlex.quote(f"SHOW GRANTS FOR `{user}`@`localhost`")
    return f"timeout 30 mariadb --batch --skip-column-names --execute {show} 2>/dev/null || :"


def parse(text: str) -> list[str]:
    """The lines, which are MariaDB's own statements."""
    return [line.strip() for line in text.splitlines() if line.strip()]
