"""The fact about a node's own disk. hpcstate.probe.root_disk describes the value."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import root_disk


class RootDisk(ProbedFact[int | None]):
    """The size of the file system at / in MiB, None when it is not known.

    >>> host.get_fact(RootDisk)
    20013
    """

    command = staticmethod(root_disk.command)
    parse = staticmethod(root_disk.parse)
