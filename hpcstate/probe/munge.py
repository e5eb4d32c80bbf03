"""The munge key of a host: its digest, never its content."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from hpcstate import programs
from hpcstate.errors import HpcstateError


class MungeKeyFile(TypedDict, total=False):
    """``sha256`` is hexadecimal, ``mode`` octal digits as chmod takes them (``400``). Empty when absent."""

    sha256: str
    user: str
    group: str
    mode: str


def command(path: str = "/etc/munge/munge.key") -> str:
    """The program munge_key.sh for the key at ``path``."""
    return programs.command(Path(__file__).with_name("munge_key.sh"), arguments=[path])


def parse(text: str) -> MungeKeyFile:
    """What ``command`` printed; {} when the key is absent.

    Raises HpcstateError when the key may be there and could not be read: that is not the same as absent.
    """
    lines = text.splitlines()
    if not lines:
        return {}
    try:
        (mode, user, group), (sha256, _) = (line.split() for line in lines)
    except ValueError as error:
        raise HpcstateError(
            f"cannot read the munge key: {'; '.join(lines)}", hint="only root can: ask with _sudo=True"
        ) from error
    return MungeKeyFile(sha256=sha256, user=user, group=group, mode=mode)
