"""``hpcstate inventory pcie``: the verdicts as a table for people and as data for programs."""

from __future__ import annotations

from typing import Any

from hpcstate.passthrough import kinds
from hpcstate.passthrough import verdict as pcie
from hpcstate.passthrough.verdict import PciHost, Verdict
from hpcstate.terminal import fitted, table

_HEADER = ("address", "device", "IOMMU group", "driver", "goes with", "verdict")


def as_data(host: PciHost, *, everything: bool) -> list[dict[str, Any]]:
    """One entry for each device; its keys stay as they are."""
    return [_data(host, verdict) for verdict in pcie.verdicts(host, everything=everything)]


def as_text(host: PciHost, *, everything: bool) -> str:
    """The table, why a device is not ready, and what to do about it."""
    found = pcie.verdicts(host, everything=everything)
    if not found:
        return (
            "This host has no GPU on a PCI bus (--all: other devices). inventories/gpu.yaml simulates some."
        )
    parts = [table(_HEADER, [_row(host, verdict) for verdict in found], indent="")]
    alike: dict[tuple[Any, ...], list[str]] = {}
    for verdict in found:
        if verdict.reasons:
            alike.setdefault((verdict.state, verdict.reasons, verdict.steps), []).append(verdict.address)
    for note in dict.fromkeys(note for verdict in found for note in verdict.notes):
        parts.append(fitted(f"\n{note}"))
    for (state, reasons, steps), addresses in alike.items():
        parts.append(fitted(f"\n{', '.join(addresses)} {state.value}:"))
        parts += [fitted(f"  {reason}") for reason in reasons]
        parts += [fitted(f"  -> {step}") for step in steps]
    return "\n".join(parts)


def _data(host: PciHost, verdict: Verdict) -> dict[str, Any]:
    device = host.devices[verdict.address]
    return {
        **device,
        "device_type": kinds.kind_of(device),
        "iommu_group": verdict.group,
        "companions": list(verdict.companions),
        "verdict": verdict.state.value,
        "reasons": list(verdict.reasons),
        "steps": list(verdict.steps),
        "notes": list(verdict.notes),
    }


def _row(host: PciHost, verdict: Verdict) -> tuple[str, ...]:
    device = host.devices[verdict.address]
    return (
        verdict.address,
        kinds.described(device).removeprefix(f"{verdict.address} ").strip("()"),
        "-" if verdict.group is None else str(verdict.group),
        device["driver"] or "-",
        ", ".join(verdict.companions) or "-",
        verdict.state.value,
    )
