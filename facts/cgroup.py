"""Facts about control groups. hpcstate.probe.cgroup describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import cgroup
from hpcstate.probe.cgroup import Cgroup


class CgroupControllers(ProbedFact[Cgroup]):
    """The version of the cgroup hierarchy and the controllers of its root."""

    command = staticmethod(cgroup.command)
    parse = staticmethod(cgroup.parse)
