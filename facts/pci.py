"""Facts about PCI. hpcstate.probe.pci describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import pci
from hpcstate.probe.pci import PciDevice


class PciDevices(ProbedFact[dict[str, PciDevice]]):
    """The PCI devices by address; ``sysfs`` is where sysfs is mounted."""

    command = staticmethod(pci.command)
    parse = staticmethod(pci.parse)
