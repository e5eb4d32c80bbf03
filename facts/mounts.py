"""Facts about what a host mounts by units of ours. hpcstate.probe.mounts describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import mounts
from hpcstate.probe.mounts import MountsState


class Mounts(ProbedFact[MountsState]):
    """Mounts of ``storage.mounts``: unit files, units, what is mounted. Needs root (``_sudo=True``).

    >>> host.get_fact(Mounts, places=("/data",), automounts=("data.automount",), mark=MARK, units=UNITS)
    """

    command = staticmethod(mounts.command)
    parse = staticmethod(mounts.parse)
