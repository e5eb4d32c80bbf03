"""The MIG instances of a host's GPUs: their device files from the kernel, their profiles from nvidia-smi.

NVIDIA's MIG user guide (Device Nodes and Capabilities): each GPU instance and each compute instance has a
file ``/dev/nvidia-caps/nvidia-capN``, whose N is the DeviceFileMinor under /proc/driver/nvidia/capabilities.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypedDict

from hpcstate.probe.nvidia_smi_xml import pci_address

CAPS = "/dev/nvidia-caps/nvidia-cap"


class MigInstance(TypedDict):
    """One MIG instance: a GPU instance with one compute instance.

    ``profile`` is nvidia-smi's name for its size (``3g.20gb``), empty when nvidia-smi does not tell.
    ``files`` are the two capability files that open it.
    """

    profile: str
    gpu_instance: int
    compute_instance: int
    files: list[str]


def mig_instances(
    caps: Iterable[str], indices: Iterable[str], table: Iterable[str], minors: Mapping[str, int]
) -> dict[int, list[MigInstance]]:
    """The instances by the minor number of their GPU.

    ``caps`` are lines ``gpu0/mig/gi1/ci0/access 22`` (path below capabilities, DeviceFileMinor); ``indices``
    those of ``nvidia-smi --query-gpu=index,pci.bus_id``; ``table`` that of ``nvidia-smi mig -lgi``;
    ``minors`` has the minor number of each PCI address. nvidia-smi counts GPUs by index, the kernel by minor.
    """
    by_path = dict(line.split() for line in caps if len(line.split()) == 2)
    minor_of_index = _minor_of_index(indices, minors)
    profiles = _profiles(table, minor_of_index)
    found: dict[int, list[MigInstance]] = {}
    for path in by_path:
        place = re.fullmatch(r"gpu(\d+)/mig/gi(\d+)/ci(\d+)/access", path)
        if place is None:
            continue
        minor, gpu_instance, compute_instance = map(int, place.groups())
        whole = by_path.get(f"gpu{minor}/mig/gi{gpu_instance}/access")
        if whole is not None:
            found.setdefault(minor, []).append(
                MigInstance(
                    profile=profiles.get((minor, gpu_instance), ""),
                    gpu_instance=gpu_instance,
                    compute_instance=compute_instance,
                    files=[f"{CAPS}{whole}", f"{CAPS}{by_path[path]}"],
                )
            )
    for instances in found.values():
        instances.sort(key=lambda instance: (instance["gpu_instance"], instance["compute_instance"]))
    return found


def _minor_of_index(indices: Iterable[str], minors: Mapping[str, int]) -> dict[int, int]:
    """nvidia-smi writes the PCI domain with eight upper-case digits, sysfs with four in lower case."""
    found = {}
    for line in indices:
        index, _, bus = (part.strip() for part in line.partition(","))
        try:
            address = pci_address(bus)
        except ValueError:
            continue
        if index.isdigit() and address in minors:
            found[int(index)] = minors[address]
    return found


def _profiles(table: Iterable[str], minor_of_index: Mapping[int, int]) -> dict[tuple[int, int], str]:
    """The profile of each GPU instance, by minor and instance. A row of ``nvidia-smi mig -lgi`` is
    ``|   0  MIG 3g.20gb  9  2  0:4  |``: index, name, profile id, instance id, placement."""
    found = {}
    for line in table:
        row = re.match(r"\|\s+(\d+)\s+MIG\s+(\S+)\s+\d+\s+(\d+)\s", line)
        if row and int(row[1]) in minor_of_index:
            found[minor_of_index[int(row[1])], int(row[3])] = row[2]
    return found
