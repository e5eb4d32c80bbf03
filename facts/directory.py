"""Facts about a directory of people. hpcstate.probe.directory describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import directory
from hpcstate.probe.directory import DirectoryState


class Directory(ProbedFact[DirectoryState]):
    """sssd of a host: whether it is there, ours, and on. Needs root (``_sudo=True``).

    >>> host.get_fact(Directory, units=["sssd.service"], record=RECORD, conf=CONF)["installed"]
    True
    """

    command = staticmethod(directory.command)
    parse = staticmethod(directory.parse)
