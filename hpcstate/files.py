"""Files of this machine: written in one step, copied with their holes, locked, and whole trees of them.

A tree belongs to many users, as that of a container or an image does. An ordinary user unpacks and removes
one in a user namespace, with the subordinate ids that are theirs (subuid(5)).
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hpcstate.errors import HpcstateError, from_os
from hpcstate.paths import shown
from hpcstate.run import run, tail

PLAIN_UMASK = 0o022
"""What is built has the same modes for everybody; what is secret gets its mode where it is written."""

_AGAIN = 0.2
"""Seconds between two tries."""

_BLANK = re.compile(r"\\([0-7]{3})")
"""How the kernel writes blanks and backslashes in its tables of mounts."""


def write_atomically(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Write ``content`` aside and rename it to ``path``: a reader sees the old file or the new one, and an
    interrupted run leaves no part of it. Nobody but this user can read it before it has its ``mode``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # write(2) names none
        raise


def rewrite_page(page: Path, rewritten: Callable[[str], str]) -> int:
    """Write what ``rewritten`` makes of ``page``, where that is another text, and say so: the exit code of a
    program that keeps the tables of a document. What it could not do is on standard error."""
    try:
        before = page.read_text(encoding="utf-8")
        after = rewritten(before)
    except (OSError, HpcstateError) as error:
        print(f"{page}: {error}", file=sys.stderr)
        return 2
    if after != before:
        write_atomically(page, after)
    print(f"{page}: {'written' if after != before else 'as it was'}")
    return 0


def copy_sparse(source: Path, target: Path) -> None:
    """Copy with holes, sharing blocks where the file system can (``cp --reflink=auto``)."""
    target.unlink(missing_ok=True)
    done = run(["cp", "--reflink=auto", "--sparse=always", "--", source, target], check=False)
    if done.code:
        target.unlink(missing_ok=True)
        if not source.exists():
            raise FileNotFoundError(source)
        full = "No space left on device" in done.stderr
        raise OSError(
            errno.ENOSPC if full else errno.EIO, tail(done.stderr, 1).strip() or "cp failed", str(target)
        )


@contextmanager
def alone(folder: Path, report: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Hold ``folder`` (made when it is not there) while the block runs; another run that wants it waits, and
    says so to ``report``.

    By flock(2) on the folder itself, which leaves nothing behind. A block must not ask for the folder that it
    holds. Raises HpcstateError when the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise from_os(error) from error
    try:
        # Asked again and again: pyinfra's hosts are greenlets of one thread, and one that waits in the kernel
        # would keep the one that it waits for from going on.
        told = False
        while not _taken(held):
            if not told:
                told = True
                report(f"waits for another run of hpcstate, which works in {shown(folder)}")
            time.sleep(_AGAIN)
        try:
            yield
        finally:
            # Not only closed: whoever inherited it would go on holding it (flock(2)).
            fcntl.flock(held, fcntl.LOCK_UN)
    finally:
        os.close(held)


def _taken(held: int) -> bool:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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
