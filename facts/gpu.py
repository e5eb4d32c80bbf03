"""Facts about GPUs. hpcstate.probe.gpu describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import gpu
from hpcstate.probe.gpu import Gpus


class GpuDevices(ProbedFact[Gpus]):
    """The GPUs of the host, real or simulated, and the version of NVIDIA's driver."""

    command = staticmethod(gpu.command)
    parse = staticmethod(gpu.parse)
