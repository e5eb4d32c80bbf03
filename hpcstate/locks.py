"""Runs of hpcstate that want the same thing: one after the other."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hpcstate.errors import from_os


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold ``folder`` (made when it is not there) while the block runs; another run that wants it waits.

    By flock(2) on the folder itself, which leaves nothing behind. A block must not
    ask for the folder that it holds. Raises HpcstateError when the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise from_os(error) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        # Not only closed: whoever inherited it would go on holding it (flock(2)).
        fcntl.flock(held, fcntl.LOCK_UN)
        os.close(held)
