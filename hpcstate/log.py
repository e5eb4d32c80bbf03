"""The log of a run: what was asked, said and run, for whoever wants to know later what happened.

A command about a cluster leaves it in ``build/<cluster>/logs``; a day's reading is kept, not a year's. What
travels by standard input is in no log: that is the way of secrets (run.py). A log that cannot be written is
a note, once, and no reason to stop: the command is what was asked for.
"""

from __future__ import annotations

import atexit
import getpass
import io
import logging
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TextIO

from hpcstate.errors import HpcstateError, from_os
from hpcstate.paths import ClusterPaths, shown

LOG = logging.getLogger("hpcstate")
KEPT = 50
"""Logs of a cluster that are kept; the oldest go."""

_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def new_file(folder: Path, command: str) -> Path:
    """Where the log of ``command``, which begins now, goes in ``folder``; the oldest ones beyond KEPT go.

    Raises HpcstateError when the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in sorted(folder.glob("*.log"))[: -(KEPT - 1)]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise from_os(error) from error
    return folder / f"{datetime.now():%Y-%m-%dT%H%M%S.%f}-{command}.log"


def files_of(clusters: Iterable[str], command: str, *, make: bool) -> list[Path]:
    """The logs of ``command`` for ``clusters``, by name; with ``make`` also where there is no folder yet.

    Who may not write there, and only looks at a cluster of somebody else, leaves none. Where the folder
    cannot be made, or kept in order, a note says so.
    """
    found = []
    for name in clusters:
        at = ClusterPaths.of(name)
        if make or (at.root.is_dir() and not _is_of_another(at.logs if at.logs.is_dir() else at.root)):
            try:
                found.append(new_file(at.logs, command))
            except HpcstateError as error:
                _note(at.logs, error.message, sys.stderr)
    return found


def _is_of_another(folder: Path) -> bool:
    """Whether ``folder`` is of another user, who lets this one write nothing there."""
    return folder.stat().st_uid != os.geteuid() and not os.access(folder, os.W_OK)


def _note(file: Path, why: str, stream: TextIO) -> None:
    """Say on ``stream`` that there is no log in ``file``; nobody hears it where that is full or closed."""
    with suppress(OSError, ValueError):
        stream.write(f"hpcstate: no log in {shown(file)}: {why}; the command goes on without it\n")
        stream.flush()


def begin(argv: Sequence[str], files: Iterable[Path]) -> None:
    """Log the rest of this process to ``files``; a note says which cannot be written."""
    rest = logged(argv, files, copy=False)
    rest.__enter__()
    atexit.register(rest.__exit__, None, None, None)


@contextmanager
def logged(
    argv: Sequence[str],
    files: Iterable[Path] = (),
    *,
    asked_for: Iterable[Path] = (),
    level: str = "warning",
    copy: bool = True,
) -> Iterator[None]:
    """The block is logged: everything to each of ``files`` and of ``asked_for`` (mode 0600), what has at
    least ``level`` to standard error. With ``copy`` what it prints is in the files too.

    One that cannot be written, from the beginning or later, is a note on standard error. Raises HpcstateError
    when one that was ``asked_for`` cannot be opened.
    """
    handlers: list[logging.Handler] = [_terminal(level)]
    try:
        for file in asked_for:
            handlers.append(_File(file, sys.stderr))
    except OSError as error:
        raise from_os(error) from error
    for file in files:
        try:
            handlers.append(_File(file, sys.stderr))
        except OSError as error:
            _note(file, error.strerror or str(error), sys.stderr)
    for handler in handlers[1:]:
        handler.setFormatter(logging.Formatter(_FORMAT))
    out, err = sys.stdout, sys.stderr
    before = LOG.level, LOG.propagate
    LOG.setLevel(logging.DEBUG if len(handlers) > 1 else level.upper())
    LOG.propagate = False
    for handler in handlers:
        LOG.addHandler(handler)
    if copy and len(handlers) > 1:
        sys.stdout, sys.stderr = _Copy(out, handlers[1:]), _Copy(err, handlers[1:])
    LOG.debug("%s: %s", getpass.getuser(), shlex.join(argv))
    try:
        yield
    except BaseException as error:
        _log_end(error)
        raise
    finally:
        sys.stdout, sys.stderr = out, err
        for handler in handlers:
            LOG.removeHandler(handler)
            handler.close()
        LOG.setLevel(before[0])
        LOG.propagate = before[1]


def _log_end(error: BaseException) -> None:
    """What ended the run, in the words of its user; of what nobody foresaw, where it came from."""
    match error:
        case HpcstateError():
            LOG.debug("ended: %s", error)
        case KeyboardInterrupt():
            LOG.debug("ended: interrupted")
        case SystemExit():
            LOG.debug("ended with exit code %s", error.code)
        case _:
            LOG.debug("ended by a fault of the program: %s", error, exc_info=True)


def _terminal(level: str) -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(level.upper())
    handler.setFormatter(logging.Formatter("  [%(levelname)s] %(message)s"))
    return handler


class _File(logging.FileHandler):
    """A log in ``file``. The first line that cannot be written ends it, with a note on ``stream``: that must
    not be sys.stderr as it is later, which is copied into this very file (_Copy).

    Raises OSError when the file cannot be opened.
    """

    def __init__(self, file: Path, stream: TextIO) -> None:
        file.touch(mode=0o600)
        self._file, self._stream, self._ended = file, stream, False
        super().__init__(file, encoding="utf-8", errors="backslashreplace")

    def emit(self, record: logging.LogRecord) -> None:
        if not self._ended:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        if not self._ended:
            self._ended = True
            error = sys.exc_info()[1]
            why = (error.strerror if isinstance(error, OSError) else "") or str(error)
            _note(self._file, why, self._stream)

    def close(self) -> None:
        # What is still in its buffer cannot be written either; the file is closed all the same.
        with suppress(OSError):
            super().close()


class _Copy(io.TextIOBase):
    """A stream that says its whole lines to ``handlers`` too. All else of it is the stream's own."""

    def __init__(self, stream: TextIO, handlers: Sequence[logging.Handler]) -> None:
        self._stream, self._handlers, self._begun = stream, handlers, ""

    def write(self, text: str) -> int:
        written = self._stream.write(text)
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            record = LOG.makeRecord(LOG.name, logging.INFO, "", 0, "| %s", (line,), None)
            for handler in self._handlers:
                handler.handle(record)
        return written

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding
