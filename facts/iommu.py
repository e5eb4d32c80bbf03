"""Facts about the IOMMU. hpcstate.probe.iommu describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import iommu
from hpcstate.probe.iommu import Iommu


class IommuGroups(ProbedFact[Iommu]):
    """IOMMU groups and what the kernel command line asks; ``sysfs`` is where sysfs is mounted."""

    command = staticmethod(iommu.command)
    parse = staticmethod(iommu.parse)
