"""Facts about munge. hpcstate.probe.munge describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import munge
from hpcstate.probe.munge import MungeKeyFile


class MungeKey(ProbedFact[MungeKeyFile]):
    """Digest, owner and mode of the munge key; {} when absent. Needs root (``_sudo=True``)."""

    command = staticmethod(munge.command)
    parse = staticmethod(munge.parse)
