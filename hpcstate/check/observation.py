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
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from hpcstate.node.ssh import Live

T = TypeVar("T")


_runs: WeakKeyDictionary[Live, dict[Callable[..., Any], Future[Any]]] = WeakKeyDictionary()
"""What was observed in the run that is going on, by the cluster that it looks at. For one thread."""


@contextmanager
def one_run(live: Live) -> Iterator[None]:
    """A run: nothing is known when the block begins, and what it observes is forgotten when it ends. What was
    seen before the cluster was broken is therefore never taken for what is seen after.
    """
    outer = _runs.get(live)
    _runs[live] = {}
    try:
        yield
    finally:
        if outer is None:
            del _runs[live]
        else:
            _runs[live] = outer


def observation(look: Callable[[Live], T]) -> Callable[[Live], T]:
    """Make ``look`` an observation: in a run of checks it is made once, by the first check that asks."""

    @functools.wraps(look)
    def observed(live: Live) -> T:
        """``look(live)``, or what it came to earlier in this run: its answer, or the exception it raised."""
        run = _runs.get(live)
        if run is None:
            return look(live)
        made = run.get(look)
        if made is None:
            made = run[look] = Future()
            try:
                made.set_result(look(live))
            except Exception as error:
                made.set_exception(error)
        answer: T = made.result()
        return answer

    return observed
