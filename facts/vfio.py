"""Facts about vfio. hpcstate.probe.vfio describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import vfio
from hpcstate.probe.vfio import Vfio


class VfioState(ProbedFact[Vfio]):
    """vfio's modules, groups and configuration; ``sysfs`` is where sysfs is mounted."""

    command = staticmethod(vfio.command)
    parse = staticmethod(vfio.parse)
