"""Facts about what is in force on a host. hpcstate.probe.in_force describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import in_force
from hpcstate.probe.in_force import HostInForce


class InForce(ProbedFact[HostInForce]):
    """Names, accounts, modes, values of the kernel, units, firewall rules and clock sources, by one command.
    Needs root (``_sudo=True``).

    >>> host.get_fact(InForce, kernel=("user.max_user_namespaces",))["kernel"]
    {'user.max_user_namespaces': '15000'}
    """

    command = staticmethod(in_force.command)
    parse = staticmethod(in_force.parse)
