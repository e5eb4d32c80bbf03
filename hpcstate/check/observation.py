"""What several checks look at together: looked up once in a run of checks, and never kept longer.

A job or a command on every node costs seconds, and several checks read different things out of one answer. A
function that makes such an observation is decorated with :func:`observation`; the runner of the checks opens
a run, in which each is made once. Outside of a run it is made anew at each call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from hpcstate.node.ssh import Live

T = TypeVar("T")


class Observations:
    """The observations of the run that is going on, if one is. For one thread."""

    def __init__(self) -> None:
        self._made: dict[Callable[..., Any], Future[Any]] | None = None

    @contextmanager
    def of_one_run(self) -> Iterator[None]:
        """A run: nothing is known when the block begins, and what it observes is forgotten when it ends. What
        was seen before the cluster was broken is therefore never taken for what is seen after."""
        outer, self._made = self._made, {}
        try:
            yield
        finally:
            self._made = outer

    def make(self, look: Callable[[Live], T], live: Live) -> T:
        """``look(live)``, or what it came to earlier in this run: its answer, or the exception it raised."""
        if self._made is None:
            return look(live)
        made = self._made.get(look)
        if made is None:
            made = Future()
            try:
                made.set_result(look(live))
            except Exception as error:
                made.set_exception(error)
            self._made[look] = made
        answer: T = made.result()
        return answer


def observation(look: Callable[[Live], T]) -> Callable[[Live], T]:
    """Make ``look`` an observation: in a run of checks it is made once, by the first check that asks."""

    @functools.wraps(look)
    def observed(live: Live) -> T:
        return live.observations.make(look, live)

    return observed
