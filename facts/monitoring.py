"""Facts about what watches a host. hpcstate.probe.monitoring describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import monitoring


class DatabaseGrants(ProbedFact[list[str]]):
    """The rights of ``user`` in MariaDB, as SHOW GRANTS says them. Needs root (``_sudo=True``).

    >>> host.get_fact(DatabaseGrants, user="prometheus")
    ['GRANT PROCESS, BINLOG MONITOR ON *.* TO `prometheus`@`localhost` IDENTIFIED VIA unix_socket']
    """

    command = staticmethod(monitoring.command)
    parse = staticmethod(monitoring.parse)
