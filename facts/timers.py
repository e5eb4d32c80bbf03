"""Facts about the timers that hpcstate has on a host. hpcstate.probe.timers describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import timers
from hpcstate.probe.timers import TimerState


class Timers(ProbedFact[dict[str, TimerState]]):
    """Timers by name, with the digest of their files and their state. Needs root (``_sudo=True``).

    >>> host.get_fact(Timers, mark=MARK, units=UNITS, programs=PROGRAMS)["hpcstate-scratch"]["active"]
    'active'
    """

    command = staticmethod(timers.command)
    parse = staticmethod(timers.parse)
