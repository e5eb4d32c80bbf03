"""Runs of hpcstate that want the same thing: one after the other."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hpcstate.errors import from_os
from hpcstate.paths import shown

_AGAIN = 0.2
"""Seconds between two tries."""


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
