"""What a person sees while and after hpcstate works: stages that go on, nodes a line each, tables."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import TextIO

from hpcstate.errors import HpcstateError

Say = Callable[[str], None]
"""Is told what is going on, a line each."""

_LOG = logging.getLogger("hpcstate.terminal")

_TICK = 15.0
"""Seconds between two lines that say that a stage goes on."""

_QUIET = 10.0
"""Seconds between two lines about the same node where lines are not rewritten; the first and the last of a
piece of work are always shown."""


_NARROWEST = 40
_GAP = 2
_COLUMN = 12
_WORDS = 8
"""Characters that a terminal has at least, that stand between columns, and that a column keeps where it folds
within words, and between them."""


class Board:
    """Says what each node is doing. Safe to use from several threads; a context manager."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._terminal = self._stream.isatty()
        self._lock = threading.Lock()
        self._lines: dict[str, str] = {}
        self._said: dict[str, float] = {}

    def say(self, node: str, text: str) -> None:
        """``node`` is doing ``text`` now."""
        with self._lock:
            if self._lines.get(node) == text:
                return
            rewound = len(self._lines)
            self._lines[node] = text
            if self._terminal:
                # Up to the first line of the board, then every line anew (ECMA-48: CUU, EL).
                up = f"\x1b[{rewound}A" if rewound else ""
                width = max(map(len, self._lines))
                board = "".join(f"\x1b[2K  {name:<{width}}  {what}\n" for name, what in self._lines.items())
                self._stream.write(up + board)
            elif "%" not in text or time.monotonic() - self._said.get(node, 0.0) >= _QUIET:
                self._said[node] = time.monotonic()
                self._stream.write(f"  {node}: {text}\n")
            self._stream.flush()

    def line(self, text: str) -> None:
        """A line of its own, after which the board begins anew below."""
        with self._lock:
            self._stream.write(f"{text}\n")
            self._stream.flush()
            self._lines = {}


def watch(
    draw: Callable[[], str],
    seconds: float,
    stream: TextIO | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Shows what ``draw`` gives every ``seconds``, in its own place on a terminal, until Ctrl-C; 0 then. What
    cannot be told is said, and tried again: a cluster that starts is not there yet."""
    out = stream or sys.stdout
    try:
        while True:
            try:
                text = draw()
            except HpcstateError as error:
                text = str(error)
            head = f"{time.strftime('%H:%M:%S')}, every {seconds:g} s, Ctrl-C ends it"
            if out.isatty():
                # Home, then each line to its end, then what is left of the last time (ECMA-48: CUP, EL, ED).
                lines = "\x1b[K\n".join((head, "", *text.splitlines()))
                out.write(f"\x1b[H{lines}\x1b[K\n\x1b[J")
            else:
                out.write(f"{head}\n{text}\n\n")
            out.flush()
            sleep(max(1.0, seconds))
    except KeyboardInterrupt:
        return 0


def agreed(question: str) -> bool:
    """Whether the person at the terminal says yes; no where there is none."""
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def plural(number: int, noun: str) -> str:
    """``1 node``, ``2 nodes``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def width() -> int | None:
    """How many characters a line on standard output may have; None where it is no terminal: who reads it with
    a program wants whole lines. COLUMNS counts everywhere, as for ps(1): watch(1) sets it, and shells keep
    theirs to themselves."""
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS", "").isdecimal():
        return None
    return max(shutil.get_terminal_size().columns, _NARROWEST)


def folded(line: str, indent: int) -> list[str]:
    """``line`` in lines that fit the terminal, all but the first indented."""
    limit = width()
    if limit is None or len(line) <= limit:
        return [line]
    head, text = line[:indent], line[indent:]
    lines = textwrap.wrap(text, max(limit - indent, _COLUMN), break_on_hyphens=False)
    return [(head if number == 0 else " " * indent) + part for number, part in enumerate(lines)]


def fitted(text: str) -> str:
    """The lines of ``text`` folded, each behind its own indentation and ``->``; not those of a table."""
    lines = []
    for line in text.split("\n"):
        mark = re.match(r"\s*(-> )?", line)
        lines += folded(line, mark.end() if mark else 0)
    return "\n".join(lines)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], indent: str = "  ") -> str:
    """``rows`` under ``header`` in columns as wide as their widest cell, a line each; on a terminal that is
    narrower, the widest columns fold."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    limit = width()
    # Between words first, then with narrower gaps; names and addresses are cut where nothing else helps.
    words = [
        max((len(word) for line in lines for word in line[column].split()), default=0)
        for column in range(len(widths))
    ]
    for gap, floors in ((_GAP, words), (1, words), (1, [_COLUMN] * len(widths))):
        room = None if limit is None else limit - len(indent) - gap * (len(widths) - 1)
        whole = list(widths)
        if room is None or _narrowed(widths, floors, room):
            break
    else:
        # It is too wide in any case: cut names would be no help.
        widths = whole
    return "\n".join(line for cells in lines for line in _row(cells, widths, indent, gap))


def _narrowed(widths: list[int], floors: Sequence[int], room: int) -> bool:
    """Take from the widest of ``widths``, none below its floor nor _WORDS, until they fit into ``room``;
    whether they do."""
    while sum(widths) > room:
        spare = [at for at, width in enumerate(widths) if width > max(_WORDS, floors[at])]
        if not spare:
            return False
        widths[max(spare, key=widths.__getitem__)] -= 1
    return True


def _row(cells: Sequence[str], widths: Sequence[int], indent: str, gap: int) -> list[str]:
    parts = [
        [cell]
        if len(cell) <= width
        else textwrap.wrap(cell, width, break_on_hyphens=False, break_long_words=True) or [""]
        for cell, width in zip(cells, widths, strict=True)
    ]
    between = " " * gap
    return [
        (indent + between.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))).rstrip()
        for line in zip_longest(*parts, fillvalue="")
    ]


_finished: dict[str, float] = {}


def finished_stages() -> dict[str, float]:
    """The stages of this run that are done, in order, with their duration in seconds."""
    return dict(_finished)


@contextmanager
def stage(name: str, what: str) -> Iterator[None]:
    """Print that ``name`` begins with ``what``, every 15 s that it goes on, and how long it took."""
    started = time.monotonic()
    print(f"==> {name}: {what}", flush=True)
    _LOG.debug("==> %s: %s", name, what)
    done = threading.Event()
    ticker = threading.Thread(target=_tick, args=(name, started, done), daemon=True)
    ticker.start()
    try:
        yield
    except BaseException:
        done.set()
        print(f"==> {name}: stopped after {time.monotonic() - started:.0f} s", flush=True)
        _LOG.debug("==> %s: stopped", name)
        raise
    finally:
        done.set()
        ticker.join()
    _finished[name] = time.monotonic() - started
    print(f"==> {name}: done in {time.monotonic() - started:.0f} s", flush=True)
    _LOG.debug("==> %s: done in %.0f s", name, time.monotonic() - started)


def _tick(name: str, started: float, done: threading.Event) -> None:
    while not done.wait(_TICK):
        print(f"    {name}: {time.monotonic() - started:.0f} s ...", file=sys.stderr, flush=True)


@contextmanager
def ticking(say: Say, what: str, every_s: float = 10.0) -> Iterator[None]:
    """``say`` tells how long ``what`` goes on by now, each ``every_s`` seconds, while the block runs."""
    started = time.monotonic()
    done = threading.Event()

    def tick() -> None:
        while not done.wait(every_s):
            say(f"{what} ({time.monotonic() - started:.0f} s)")

    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        yield
    finally:
        done.set()
        ticker.join()
