"""Facts about NVIDIA's driver. hpcstate.probe.nvidia_driver describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import nvidia_driver


class NvidiaDriver(ProbedFact[nvidia_driver.NvidiaDriver]):
    """NVIDIA's driver: loaded, on disk, its libraries and packages; ``root`` is put before each path."""

    command = staticmethod(nvidia_driver.command)
    parse = staticmethod(nvidia_driver.parse)
