"""One command at a time changes a cluster: who comes second waits, and is told who works there."""

from __future__ import annotations

import atexit
import fcntl
import getpass
import os
import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from hpcstate.errors import from_os
from hpcstate.paths import ClusterPaths
from hpcstate.terminal import Say

_AGAIN = 0.5
"""Seconds between two tries."""

_TELL = 60.0
"""Seconds after which who waits is told again for whom."""

_held: set[int] = set()


def held() -> tuple[int, ...]:
    """The file descriptors that a child process has to inherit so that the turn lasts as long as it works,
    also when this process is killed."""
    return tuple(sorted(_held))


@contextmanager
def turn(names: Iterable[str], argv: Sequence[str], say: Say) -> Iterator[None]:
    """No other command changes the clusters called ``names`` while the block runs: one that wants to waits
    for it, and ``say`` is told who has it. ``argv`` is the command line of this one, for the others.

    By flock(2) on build/<cluster>/turn, which ends with the process, however that ends, and with the children
    that were given :func:`held`. It is no lock of the
    functions below, which have their own (files.alone): a block may use them. Raises HpcstateError when the
    file cannot be made.
    """
    with ExitStack() as held:
        for name in sorted(set(names)):
            held.enter_context(_one(ClusterPaths.of(name).turn, name, argv, say))
        yield


def begin(names: Iterable[str], argv: Sequence[str], say: Say) -> None:
    """The same until this process ends. Raises as :func:`turn` does."""
    rest = turn(names, argv, say)
    rest.__enter__()
    atexit.register(rest.__exit__, None, None, None)


@contextmanager
def _one(file: Path, name: str, argv: Sequence[str], say: Say) -> Iterator[None]:
    begun, told = time.monotonic(), None
    while (lock := _taken(file)) is None:
        now = time.monotonic()
        if told is None or now - told > _TELL:
            say(
                f"{name}: waits for {_who(file)}"
                if told is None
                else f"{name}: still waits ({now - begun:.0f} s)"
            )
            told = now
        time.sleep(_AGAIN)
    try:
        text = (
            f"{getpass.getuser()}: {shlex.join(argv)} (process {os.getpid()}, "
            f"since {datetime.now():%Y-%m-%d %H:%M:%S})\n"
        )
        os.ftruncate(lock, 0)
        os.pwrite(lock, text.encode(), 0)
        _held.add(lock)
        yield
    finally:
        _held.discard(lock)
        os.ftruncate(lock, 0)
        fcntl.flock(lock, fcntl.LOCK_UN)
        os.close(lock)


def at_work(name: str) -> str:
    """The command that changes the cluster called ``name`` now, in its own words, with its process and since
    when; empty where none does. Waits for nobody."""
    file = ClusterPaths.of(name).turn
    try:
        seen = os.open(file, os.O_RDONLY)
    except OSError:
        return ""
    try:
        # Shared: two that look do not see each other.
        fcntl.flock(seen, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _who(file)
    finally:
        os.close(seen)
    return ""


def _taken(file: Path) -> int | None:
    """The open ``file``, locked; None where another has it, or it was removed meanwhile (`destroy` does)."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        held = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise from_os(error) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if file.exists() and os.path.samestat(os.fstat(held), file.stat()):
            return held
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(held)
    return None


def _who(file: Path) -> str:
    """Who has the turn, in their own words."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip() or "another command"
    except OSError:
        return "another command"
