"""Facts about what records the jobs of a cluster. hpcstate.probe.accounting describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import accounting, tables
from hpcstate.probe.accounting import AccountingState
from hpcstate.probe.tables import TablesState


class Accounting(ProbedFact[AccountingState]):
    """MariaDB and slurmdbd of a controller: files, units, database, user, answers. Needs root
    (``_sudo=True``).

    >>> host.get_fact(Accounting, **question("lab"))["answers"]
    True
    """

    command = staticmethod(accounting.command)
    parse = staticmethod(accounting.parse)


class Tables(ProbedFact[TablesState]):
    """The tables of accounting on a controller, and whether its slurmdbd takes them. Needs root
    (``_sudo=True``).

    >>> host.get_fact(Tables, database="slurm_acct_db", user="slurm")["version"]
    16
    """

    command = staticmethod(tables.command)
    parse = staticmethod(tables.parse)
