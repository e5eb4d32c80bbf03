"""The munge key of a host: its digest, never its content."""

from __future__ import annotations

import shlex
from typing import TypedDict

from hpcstate.errors import HpcstateError


class MungeKeyFile(TypedDict, total=False):
    """``sha256`` is hexadecimal, ``mode`` octal digits as chmod takes them (``400``). Empty when absent."""

    sha256: str
    user: str
    group: str
    mode: str


def command(path: str = "/etc/munge/munge.key") -> str:
    """Mode, owner and digest of the key; nothing without a key, ``unreadable`` without the right to look.

    Debian's /etc/munge has mode 0700, so that anybody but root and munge sees no key at all.
    """
    key, directory = shlex.quote(path), shlex.quote(path.rpartition("/")[0] or "/")
    return (
        f"if [ -d {directory} ] && [ ! -x {directory} ]; then echo unreadable; "
        f"elif [ -f {key} ]; then stat -L -c '%a %U %G' -- {key}; "
        f"if [ -r {key} ]; then sha256sum <{key}; else echo unreadable; fi; fi"
    )


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
