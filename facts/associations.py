"""Facts about who may use how much of a cluster. hpcstate.probe.associations describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import associations
from hpcstate.probe.associations import AssociationsState


class Associations(ProbedFact[AssociationsState]):
    """Accounts, users, QOS and associations of a controller's slurmdbd, and what of them is ours. Needs root
    (``_sudo=True``).

    >>> host.get_fact(Associations, **wanted.question)["things"]["association ml"]["GrpTRES cpu"]
    '4'
    """

    command = staticmethod(associations.command)
    parse = staticmethod(associations.parse)
