"""What every task is made of: actions and conditions whose errors are messages."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from doit.exceptions import TaskFailed

from hpcstate.errors import HpcstateError, from_os

P = ParamSpec("P")
R = TypeVar("R")


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
