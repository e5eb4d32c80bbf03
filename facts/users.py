"""Facts about the accounts of people. hpcstate.probe.users describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import users
from hpcstate.probe.users import UsersState


class Users(ProbedFact[UsersState]):
    """Accounts that hpcstate made, and whatever has the names or numbers asked for. Needs root (``_sudo``).

    >>> host.get_fact(Users, words=("alice", "2001"), …)["users"]["alice"]["uid"]
    2001
    """

    command = staticmethod(users.command)
    parse = staticmethod(users.parse)
