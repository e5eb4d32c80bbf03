"""What a long step says as it runs: the phases by name, and now and then the last line of its output."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hpcstate.terminal import Say

EVERY = 10.0
"""Seconds between two lines about the same step."""

WIDEST = 110
_PHASES = {
    "Fetching OCI image": "Apptainer fetches the image",
    "Extracting": "Apptainer unpacks the image",
    "Copying": "Apptainer copies the files",
    "Running post scriptlet": "%post",
    "Running setup scriptlet": "%setup",
    "Creating SIF file": "Apptainer packs the .sif",
}
"""How the lines begin by which Apptainer 1.4 says what it does, and what is said of it."""

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


@contextmanager
def followed(report: Say, every: float = EVERY) -> Iterator[Callable[[str], None]]:
    """Is told each line of an output; ``report`` hears the last one of them each ``every`` seconds, unless
    nothing was said since.
    """
    lock, done = threading.Lock(), threading.Event()
    began, last = time.monotonic(), [""]

    def heard(line: str) -> None:
        text = shown(line)
        if text:
            with lock:
                last[0] = text

    def tell() -> None:
        while not done.wait(every):
            with lock:
                text, last[0] = last[0], ""
            if text:
                report(f"  {time.monotonic() - began:.0f} s: {text}")

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield heard
    finally:
        done.set()
        thread.join()


def shown(line: str) -> str:
    """``line`` as a person may see it: what a bar of progress wrote last, without control characters."""
    text = _CONTROL.sub("", line.rstrip("\r").rpartition("\r")[2]).strip()
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def phase(line: str) -> str:
    """What Apptainer begins with ``line`` of its output; empty for any other line."""
    said = re.match(r"INFO:\s+(.*)", line)
    return next((name for start, name in _PHASES.items() if said and said[1].startswith(start)), "")
