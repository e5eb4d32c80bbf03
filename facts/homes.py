"""Facts about the homes of a host. hpcstate.probe.homes describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import homes
from hpcstate.probe.homes import HomesState


class Homes(ProbedFact[HomesState]):
    """Where the homes come from, and whether they are served. Needs root (``_sudo=True``).

    >>> host.get_fact(Homes, user="admin", home="/home", units=("home.automount",))["mounts"][0]["type"]
    'autofs'
    """

    command = staticmethod(homes.command)
    parse = staticmethod(homes.parse)
