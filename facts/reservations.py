"""Facts about the reservations of a cluster. hpcstate.probe.reservations describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import reservations
from hpcstate.probe.reservations import ReservationsState


class Reservations(ProbedFact[ReservationsState]):
    """The reservations that a controller's slurmctld has, and what of them is ours. Needs root
    (``_sudo=True``).

    >>> host.get_fact(Reservations)["found"]["maintenance"]["nodes"]
    'compute-[01-02]'
    """

    command = staticmethod(reservations.command)
    parse = staticmethod(reservations.parse)
