"""Facts about PCI. hpcstate.probe.pci and hpcstate.probe.pci_use describe the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import pci, pci_use
from hpcstate.probe.pci import PciDevice


class PciDevices(ProbedFact[dict[str, PciDevice]]):
    """The PCI devices by address; ``sysfs`` is where sysfs is mounted."""

    command = staticmethod(pci.command)
    parse = staticmethod(pci.parse)


class PciUses(ProbedFact[pci_use.PciUses]):
    """What the host itself uses its PCI devices for; ``sysfs`` is where sysfs is mounted."""

    command = staticmethod(pci_use.command)
    parse = staticmethod(pci_use.parse)
