"""Nodes with GPUs as facts tell of them, for tests: healthy ones, to be changed by the test."""

from __future__ import annotations

from typing import Any

from hpcstate.gpu.findings import GpuHost
from hpcstate.probe import nvidia_smi, nvidia_topology, xid
from hpcstate.probe.gpu import Gpus, device_of, parse
from hpcstate.probe.nvidia_smi import NvidiaSmi
from hpcstate.probe.nvidia_smi_xml import NvidiaGpu
from hpcstate.probe.nvidia_topology import GpuTopology, NvidiaTopology
from hpcstate.probe.xid import KernelLog, Xid
from hpcstate.slurm.gres import simulated_devices

DRIVER = "550.163.01"
FIRST, SECOND = "0000:41:00.0", "0000:81:00.0"
BOOT = 1786927380.0
"""2026-08-17T00:43Z."""


def a_gpu(index: int = 0, address: str = FIRST, **changes: Any) -> NvidiaGpu:
    """A healthy H100 with ``changes``."""
    gpu = NvidiaGpu(
        index=index,
        minor=index,
        uuid=f"GPU-{index}",
        name="NVIDIA H100 80GB HBM3",
        address=address,
        persistence_mode="Enabled",
        compute_mode="Default",
        memory_mib=81559,
        ecc_mode="Enabled",
        ecc_mode_pending="Enabled",
        ecc_uncorrected_volatile=0,
        ecc_uncorrected_aggregate=3,
        sram_threshold_exceeded=False,
        retired_pages_pending=None,
        remapped_rows_pending=False,
        remapped_rows_failed=False,
        mig_mode="Disabled",
        mig_mode_pending="Disabled",
        mig_devices=[],
        recovery_action="None",
        repair_pending=[],
        unrepairable_memory=None,
        fabric={"state": "", "status": "", "health": {}},
        licence="",
        slowed_by=[],
        link_width=16,
        unreadable={},
    )
    return {**gpu, **changes}  # type: ignore[typeddict-item]  # the keys are those of a test


def some_gpus(**changes: Any) -> Gpus:
    """What the driver says of two H100."""
    gpus = Gpus(
        driver=DRIVER,
        devices=[
            device_of(f"/dev/nvidia{number}", 195, number, "2330", address=address, model="NVIDIA H100")
            for number, address in enumerate((FIRST, SECOND))
        ],
        bus=[FIRST, SECOND],
        nodeless=[],
        excluded=[],
        autodetect=[],
        nvml_library=True,
    )
    return {**gpus, **changes}  # type: ignore[typeddict-item]  # the keys are those of a test


def an_smi(*gpus: NvidiaGpu, **changes: Any) -> NvidiaSmi:
    """An nvidia-smi that lists ``gpus``, two healthy ones without."""
    smi = NvidiaSmi(
        state="ok",
        code=0,
        message="",
        driver_version=DRIVER,
        cuda_version="12.4",
        library_version=DRIVER,
        lost=[],
        gpus=list(gpus) or [a_gpu(0, FIRST), a_gpu(1, SECOND)],
    )
    return {**smi, **changes}  # type: ignore[typeddict-item]  # the keys are those of a test


def a_log(*xids: tuple[int, str], **changes: Any) -> KernelLog:
    """A kernel log with ``xids`` (number, text) of the first GPU, a second apart."""
    found = [
        Xid(
            time=BOOT + second,
            address=FIRST,
            gpu_instance=None,
            number=number,
            process="",
            text=text,
            times=1,
        )
        for second, (number, text) in enumerate(xids)
    ]
    log = KernelLog(log="journal", xids=found, switches=[], mismatch=None, failures=[])
    return {**log, **changes}  # type: ignore[typeddict-item]  # the keys are those of a test


def a_topology() -> NvidiaTopology:
    """Two GPUs with four NVLinks, in two NUMA nodes."""
    gpus = [
        GpuTopology(index=0, links={1: "NV4"}, nics={}, cpu_affinity="0-23", numa_affinity="0"),
        GpuTopology(index=1, links={0: "NV4"}, nics={}, cpu_affinity="24-47", numa_affinity="1"),
    ]
    return NvidiaTopology(state="ok", message="", gpus=gpus)


def a_host(gpus: Gpus | None = None, smi: NvidiaSmi | None = None, log: KernelLog | None = None) -> GpuHost:
    """A node with two healthy H100, but for what is given."""
    return GpuHost(gpus or some_gpus(), smi or an_smi(), a_topology(), log or a_log())


def simulated_gpus(count: int, gres_type: str) -> Gpus:
    """What the fact GpuDevices reports once ``count`` simulated GPUs are there."""
    found = parse("")
    found["devices"] = simulated_devices(count, gres_type)
    return found


def a_simulated_host() -> GpuHost:
    """A node with two simulated GPUs and nothing of NVIDIA."""
    return GpuHost(
        gpus=simulated_gpus(2, "simulated"),
        smi=nvidia_smi.parse(""),
        topology=nvidia_topology.parse(""),
        log=xid.parse("== journal"),
    )
