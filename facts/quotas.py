"""Facts about the quotas of users. hpcstate.probe.quotas describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import quotas
from hpcstate.probe.quotas import QuotasState


class Quotas(ProbedFact[QuotasState]):
    """Quotas of users on a mounted file system, and which are ours. Needs root (``_sudo=True``).

    >>> host.get_fact(Quotas, top=TOP, device=DEVICE, record=RECORD, files=[], unit=SERVICE)["limits"][2001]
    2097152
    """

    command = staticmethod(quotas.command)
    parse = staticmethod(quotas.parse)
