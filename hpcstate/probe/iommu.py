"""The IOMMU groups of a host: the smallest sets of PCI devices that can be given to a guest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypedDict

from hpcstate import programs
from hpcstate.errors import HpcstateError

_DEVICE = re.compile(r"/kernel/iommu_groups/(?P<group>\d+)/devices/(?P<address>[^/]+)$")
_KERNEL_ARGUMENTS = ("intel_iommu", "amd_iommu", "iommu", "hugepagesz", "hugepages")


class Iommu(TypedDict):
    """``groups`` are addresses by group number, both in order; there are none while the IOMMU is off.

    ``kernel_arguments`` are the IOMMU's arguments on the kernel command line (the last of each counts) with
    those of huge pages, and ``requested`` whether they turn it on.
    """

    groups: dict[int, list[str]]
    kernel_arguments: dict[str, str]
    requested: bool


def command(sysfs: str = "/sys", cmdline: str = "/proc/cmdline") -> str:
    """The program iommu.sh, with the places of sysfs and of the kernel command line."""
    return programs.command(Path(__file__).with_name("iommu.sh"), sysfs=sysfs, cmdline=cmdline)


def parse(text: str) -> Iommu:
    """What ``command`` printed. Raises HpcstateError for a line that is none of sysfs's."""
    groups: dict[int, list[str]] = {}
    arguments: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("cmdline "):
            arguments = _kernel_arguments(line)
            continue
        match = _DEVICE.search(line)
        if match is None:
            raise HpcstateError(f"this is no device of an IOMMU group: {line!r}", where="sysfs")
        groups.setdefault(int(match["group"]), []).append(match["address"])
    return Iommu(
        groups={group: sorted(groups[group]) for group in sorted(groups)},
        kernel_arguments=arguments,
        requested=_requested(arguments),
    )


def _kernel_arguments(line: str) -> dict[str, str]:
    pairs = (word.partition("=") for word in line.split())
    return {key: value for key, separator, value in pairs if separator and key in _KERNEL_ARGUMENTS}


def _requested(arguments: dict[str, str]) -> bool:
    """Linux, kernel-parameters.txt: ``iommu=off`` and ``<vendor>_iommu=off`` win over everything else.

    Intel's needs ``intel_iommu=on`` (unless the kernel was built with it on); AMD's is on without asking, and
    ``amd_iommu=on``, no value the kernel knows, is what people write all the same.
    """
    options = {key: value.split(",") for key, value in arguments.items()}
    if any("off" in values for values in options.values()):
        return False
    return "on" in options.get("intel_iommu", []) or "on" in options.get("amd_iommu", [])
