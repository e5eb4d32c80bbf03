"""Trees of files that belong to many users, as a container or an image has them: unpacking and removing.

An ordinary user does both in a user namespace, with the subordinate ids that are theirs (subuid(5)).
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from hpcstate.errors import HpcstateError
from hpcstate.run import run

_BLANK = re.compile(r"\\([0-7]{3})")
"""How the kernel writes blanks and backslashes in its tables of mounts."""


def unpack(tar: Path, root: Path) -> None:
    """Unpack ``tar`` below ``root`` with its owners. Raises HpcstateError when the disk is full."""
    words: list[str | Path] = ["tar", "--numeric-owner", "-C", root, "-xf", tar, "--exclude=./dev/*"]
    run(_as_root(words), hint="the next run goes on from here")


def remove_tree(root: Path) -> None:
    """Remove ``root`` and all below it; nothing happens when it is not there.

    Raises HpcstateError when a file system is mounted in it: that one's files would go as well.
    """
    if mounted_below(root):
        raise HpcstateError(
            "something is still mounted below this folder", where=str(root), hint=f"umount -R {root}"
        )
    shutil.rmtree(root, ignore_errors=True)
    if root.exists() and os.geteuid() != 0:
        run(_as_root(["rm", "-rf", root]), check=False)


def mounted_below(root: Path) -> bool:
    """Whether a file system is mounted at or below ``root`` (proc_pid_mountinfo(5))."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    points = (_BLANK.sub(lambda found: chr(int(found[1], 8)), line.split()[4]) for line in lines)
    return any(Path(point).is_relative_to(root.resolve()) for point in points)


def _as_root(words: list[str | Path]) -> list[str | Path]:
    if os.geteuid() == 0:
        return words
    return ["unshare", "--user", "--map-root-user", "--map-auto", *words]
