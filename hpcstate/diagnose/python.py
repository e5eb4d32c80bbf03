"""Tracebacks of Python: the exception that was first, also where another was raised while it was handled.
Pure; standard library only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hpcstate.diagnose.lines import LogLine

_HEAD = "Traceback (most recent call last):"
_EXCEPTION = re.compile(r"^(?P<type>(?:[A-Za-z_]\w*\.)*[A-Z]\w*)(?:: (?P<said>.*)|:?$)")
_LOCATION = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+)(?:, in (?P<name>.+))?')
_CHAINED = re.compile(
    r"During handling of the above exception, another exception occurred|"
    r"The above exception was the direct cause of the following exception"
)

WRAPPERS = (
    "ChildFailedError", "CalledProcessError", "ProcessExitedException", "ProcessRaisedException",
    "SystemExit",
    "SignalException", "KeyboardInterrupt", "BrokenProcessPool", "ActorDiedError", "WorkerCrashedError",
    "RendezvousClosedError", "DistBackendError", "DistNetworkError", "DistStoreError", "BrokenPipeError",
    "ConnectionResetError", "ConnectionRefusedError", "EOFError", "RayTaskError",
)  # fmt: skip
"""Exceptions that tell of the failure of another process."""


@dataclass(frozen=True)
class Traceback:
    """An exception that ended a program or thread: its ``type`` and what it ``said``, the ``line`` that has
    it, the ``place`` in the program that raised it (``file:line``), ``first`` the index of its first line.
    ``wraps``: it tells of another process's failure."""

    type: str
    said: str
    line: LogLine
    index: int
    place: str
    wraps: bool


def tracebacks(lines: Sequence[LogLine]) -> list[Traceback]:
    """The exceptions in ``lines`` that began a chain, in the order in which they are; those of several ranks
    may be mixed, and each line goes to its own."""
    found: list[Traceback] = []
    begun: dict[int | None, tuple[int, str]] = {}
    chained: set[int | None] = set()
    for index, line in enumerate(lines):
        key, text = line.rank, _stripped(line.text)
        if _CHAINED.search(text):
            chained.add(key)
        elif _HEAD in text:
            begun[key] = (index, "")
        elif key in begun:
            start, place = begun[key]
            if located := _LOCATION.match(text):
                begun[key] = (start, f"{located['file']}:{located['line']}")
            elif not text.startswith((" ", "\t")) and (said := _EXCEPTION.match(text.strip())):
                del begun[key]
                if key in chained:
                    chained.discard(key)
                    continue
                kind = said["type"]
                wraps = kind.rpartition(".")[2] in WRAPPERS
                found.append(Traceback(kind, said["said"] or "", line, index, place, wraps))
            elif index - start > 400:
                del begun[key]
    return found


def _stripped(text: str) -> str:
    """``text`` behind what some logs put before it: a box of rich, ``stderr:``, a worker's name."""
    text = re.sub(r"^(?:\(\w+ pid=\d+[^)]*\) |stderr: ?|E +(?=\w+(?:Error|Exception)))", "", text)
    return text.strip("│ ") if text.startswith("│") else text
