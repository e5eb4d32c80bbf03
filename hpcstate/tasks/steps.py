"""What every task is made of: stages that show themselves, errors that are messages."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

from doit.exceptions import TaskFailed

from hpcstate.errors import HpcstateError, from_os

_TICK = 15.0
P = ParamSpec("P")


R = TypeVar("R")
_finished: dict[str, float] = {}


def finished_stages() -> dict[str, float]:
    """The stages of this run that are done, in order, with their duration in seconds."""
    return dict(_finished)


def action(work: Callable[P, R]) -> Callable[P, R | TaskFailed]:
    """A doit action whose errors (HpcstateError, what the system refuses) are messages, not tracebacks."""

    @wraps(work)
    def run(*args: P.args, **kwargs: P.kwargs) -> R | TaskFailed:
        try:
            return work(*args, **kwargs)
        except HpcstateError as error:
            return TaskFailed(str(error), report=True)
        except OSError as error:
            return TaskFailed(str(from_os(error)), report=True)

    return run


def condition(question: Callable[P, bool]) -> Callable[P, bool]:
    """A doit ``uptodate`` callable that answers no where it cannot tell: the action then says why."""

    @wraps(question)
    def ask(*args: P.args, **kwargs: P.kwargs) -> bool:
        try:
            return question(*args, **kwargs)
        except HpcstateError:
            return False

    return ask


@contextmanager
def stage(name: str, what: str) -> Iterator[None]:
    """Print that ``name`` begins, every 15 s that it goes on (only where no terminal could wonder), and how
    long it took, in seconds.
    """
    started = time.monotonic()
    print(f"==> {name}: {what}", flush=True)
    done = threading.Event()
    ticker = threading.Thread(target=_tick, args=(name, started, done), daemon=True)
    ticker.start()
    try:
        yield
    except BaseException:
        done.set()
        print(f"==> {name}: stopped after {time.monotonic() - started:.0f} s", flush=True)
        raise
    finally:
        done.set()
        ticker.join()
    _finished[name] = time.monotonic() - started
    print(f"==> {name}: done in {time.monotonic() - started:.0f} s", flush=True)


def _tick(name: str, started: float, done: threading.Event) -> None:
    while not done.wait(_TICK):
        print(f"    {name}: {time.monotonic() - started:.0f} s ...", file=sys.stderr, flush=True)
