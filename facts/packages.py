"""Facts about the packages that the cluster file adds. hpcstate.probe.packages describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import packages
from hpcstate.probe.packages import PackagesState


class AddedPackages(ProbedFact[PackagesState]):
    """What of ``names`` is installed, and what hpcstate installed by its ``record``.

    >>> host.get_fact(AddedPackages, names=("htop",), record="/etc/hpcstate/packages")["installed"]
    ['htop']
    """

    command = staticmethod(packages.command)
    parse = staticmethod(packages.parse)
