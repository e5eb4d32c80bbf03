"""Progress of work on several nodes: a line for each, rewritten on a terminal, else plain lines."""

from __future__ import annotations

import sys
import threading
import time
from typing import TextIO

_QUIET = 10.0
"""Seconds between two lines about the same node where lines are not rewritten; the first and the last of a
piece of work are always shown."""


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
