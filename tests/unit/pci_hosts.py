"""Hosts with PCI devices, for tests of what is decided from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpcstate.passthrough.verdict import PciHost
from hpcstate.probe.iommu import Iommu
from hpcstate.probe.pci import PciDevice
from hpcstate.probe.vfio import Vfio


def device(address: str, ids: str, class_code: str, driver: str = "", **more: Any) -> PciDevice:
    """A function; ``ids`` is ``vendor:device``."""
    vendor, _, number = ids.partition(":")
    plain = PciDevice(
        address=address,
        class_code=class_code,
        vendor=vendor,
        device=number,
        subsystem_vendor="0000",
        subsystem_device="0000",
        vendor_name="",
        device_name="",
        driver=driver,
        header_type=1 if class_code.startswith("0604") else 0,
        physfn="",
        numa_node=-1,
        boot_vga=False,
        reset_methods=["flr", "bus"],
        sriov_vfs=0,
        bars=[],
        unassigned=[],
    )
    return {**plain, **more}  # type: ignore[typeddict-item]


def host(
    devices: Sequence[PciDevice],
    groups: Mapping[int, list[str]],
    *,
    arguments: Mapping[str, str] | None = None,
    uses: Mapping[str, list[str]] | None = None,
    held: Mapping[str, str] | None = None,
    untraced: Mapping[Any, list[str]] | None = None,
) -> PciHost:
    """A host with these devices in these IOMMU groups."""
    kernel = dict({"intel_iommu": "on"} if arguments is None else arguments)
    return PciHost(
        {pci["address"]: pci for pci in devices},
        Iommu(groups=dict(groups), kernel_arguments=kernel, requested="on" in kernel.values()),
        Vfio(modules=[], available=True, groups=[], configured=[]),
        dict(uses or {}),
        dict(held or {}),
        dict(untraced or {}),
    )


BRIDGE = device("0000:00:01.0", "8086:1901", "060400", "pcieport")
GPU = device(
    "0000:01:00.0",
    "10de:2805",
    "030000",
    "nvidia",
    vendor_name="NVIDIA Corporation",
    device_name="AD106 [GeForce RTX 4060 Ti 16GB]",
)
AUDIO = device("0000:01:00.1", "10de:22bd", "040300", "snd_hda_intel")
SECOND = device("0000:07:00.0", "10de:2504", "030000", "vfio-pci")
SECOND_AUDIO = device("0000:07:00.1", "10de:228e", "040300", "vfio-pci")
DEVICES = (BRIDGE, GPU, AUDIO, SECOND, SECOND_AUDIO)
GROUPS = {12: ["0000:00:01.0", "0000:01:00.0", "0000:01:00.1"], 14: ["0000:07:00.0", "0000:07:00.1"]}
WORKSTATION = host(DEVICES, GROUPS)
"""Two GPUs with their audio functions, the first behind a bridge in its own group."""
