"""Facts about what makes a host's initramfs and kernel command line (hpcstate.probe.boot_tools)."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import boot_tools


class BootTools(ProbedFact[list[str]]):
    """The programs that are there, and ``systemd-boot`` where that boots the host."""

    command = staticmethod(boot_tools.command)
    parse = staticmethod(boot_tools.parse)
