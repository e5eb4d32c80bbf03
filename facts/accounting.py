"""Facts about what records the jobs of a cluster. hpcstate.probe.accounting describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import accounting
from hpcstate.probe.accounting import AccountingState


class Accounting(ProbedFact[AccountingState]):
    """MariaDB and slurmdbd of a controller: files, units, database, user, answers. Needs root
    (``_sudo=True``).

    >>> host.get_fact(Accounting, **question("lab"))["answers"]
    True
    """

    command = staticmethod(accounting.command)
    parse = staticmethod(accounting.parse)
