"""What is wrong with one GPU by what nvidia-smi tells of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from hpcstate.gpu.xids import Severity
from hpcstate.probe.nvidia_smi_xml import NvidiaGpu

DRAINED_REBOOT = "drain the node, wait for its jobs and reboot it"
DRAINED_RESET = "drain the node, wait for its jobs and reset the GPU (nvidia-smi -r -i {index}), or reboot"

_RECOVERY: dict[str, tuple[Severity, str]] = {
    "Reset": ("error", "end all its programs and reset it (nvidia-smi -r -i {index})"),
    "Reboot": ("error", DRAINED_REBOOT),
    "Drain P2P": ("error", "end the jobs that use several GPUs, then look again: it will ask for a reset"),
    "Drain and Reset": (
        "error",
        "no new jobs; running ones may finish, then reset it (nvidia-smi -r -i {index})",
    ),
}
"""NVIDIA GPU Memory Error Management, Error Recovery and Response Flags."""


_Said = Iterator[tuple[Severity, str, str]]


def of_gpu(one: NvidiaGpu) -> _Said:
    """Severity, what is wrong, and the next step; ``{index}`` in a step stands for nvidia-smi's index."""
    yield from _broken(one)
    yield from _memory(one)
    yield from _modes(one)


def _broken(one: NvidiaGpu) -> _Said:
    reasons = set(one["unreadable"].values())
    for reason in sorted(reasons):
        dead = reason.startswith(("GPU is lost", "GPU requires reset", "ERR!"))
        where = ", ".join(sorted(name for name, text in one["unreadable"].items() if text == reason))
        step = "drain and power-cycle the node" if reason.startswith("GPU is lost") else DRAINED_RESET
        yield "error" if dead else "warning", f"it cannot be read: {reason} (in {where})", step
    if one["recovery_action"] in _RECOVERY:
        severity, step = _RECOVERY[one["recovery_action"]]
        yield severity, f"the driver asks for: {one['recovery_action']}", step


def _memory(one: NvidiaGpu) -> _Said:
    if one["remapped_rows_failed"]:
        yield (
            "error",
            "a bad row of its memory could not be remapped",
            "replace the GPU (NVIDIA's RMA policy)",
        )
    if one["sram_threshold_exceeded"]:
        yield (
            "error",
            "too many uncorrectable errors of its SRAM",
            "run NVIDIA's field diagnostic; replace the GPU",
        )
    if one["retired_pages_pending"]:
        # nvidia-smi(1): such pages "can still be allocated, and may cause further reliability issues".
        yield "error", "retired pages of its memory are still in use", DRAINED_RESET
    if one["remapped_rows_pending"]:
        # NVIDIA, Error Recovery and Response Flags: new workloads can be launched even with the flag set.
        yield "warning", "bad rows of its memory wait to be remapped by a reset", DRAINED_RESET
    if one["ecc_uncorrected_volatile"]:
        yield (
            "warning",
            f"{one['ecc_uncorrected_volatile']} uncorrectable memory errors since the driver was loaded",
            "jobs of that time may have died of them; the Xids and the pending rows say what is to be done",
        )


def _modes(one: NvidiaGpu) -> _Said:
    for name, current, pending in (
        ("MIG mode", one["mig_mode"], one["mig_mode_pending"]),
        ("ECC mode", one["ecc_mode"], one["ecc_mode_pending"]),
    ):
        if current != pending and current and pending:
            yield "warning", f"{name} is {current}, and {pending} after the next reset", DRAINED_RESET
    if one["mig_mode"] == "Enabled" and not one["mig_devices"]:
        # NVIDIA MIG user guide, Creating GPU Instances: without them no CUDA program can run on the GPU.
        yield (
            "error",
            "MIG is on without a MIG device: no program can use it",
            "create them, or nvidia-smi -i {index} -mig 0",
        )
    if one["compute_mode"] == "Prohibited":
        yield (
            "error",
            "its compute mode is Prohibited: no program can use it",
            "nvidia-smi -i {index} -c DEFAULT",
        )
    if one["persistence_mode"] == "Disabled":
        yield (
            "warning",
            "persistence mode is off: between jobs the driver forgets settings and ECC counts, and each job "
            "waits for it to start",
            "systemctl enable --now nvidia-persistenced",
        )
