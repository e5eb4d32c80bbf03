"""Facts about GPUs. The modules of hpcstate.probe describe the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import gpu, nvidia_smi, nvidia_topology, xid
from hpcstate.probe.gpu import Gpus


class GpuDevices(ProbedFact[Gpus]):
    """The GPUs of the host, real or simulated, and the version of NVIDIA's driver."""

    command = staticmethod(gpu.command)
    parse = staticmethod(gpu.parse)


class NvidiaSmi(ProbedFact[nvidia_smi.NvidiaSmi]):
    """What nvidia-smi says of the host's GPUs, or why it fails."""

    command = staticmethod(nvidia_smi.command)
    parse = staticmethod(nvidia_smi.parse)


class NvidiaTopology(ProbedFact[nvidia_topology.NvidiaTopology]):
    """How the host's GPUs reach each other, the network cards and the CPUs."""

    command = staticmethod(nvidia_topology.command)
    parse = staticmethod(nvidia_topology.parse)


class XidMessages(ProbedFact[xid.KernelLog]):
    """What NVIDIA's kernel module has logged since the boot: Xids, a version mismatch, GPUs that failed."""

    command = staticmethod(xid.command)
    parse = staticmethod(xid.parse)
