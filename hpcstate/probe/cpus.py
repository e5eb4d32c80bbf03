"""The cores of a host by NUMA node, from sysfs (Linux, admin-guide/cputopology.rst)."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from hpcstate.errors import HpcstateError
from hpcstate.hostlist import numbers

_SIBLINGS = re.compile(r"/cpu/cpu(?P<cpu>\d+)/topology/thread_siblings_list:(?P<list>[0-9,-]+)$")
_CELL = re.compile(r"/node/node(?P<cell>\d+)/cpulist:(?P<list>[0-9,-]*)$")
_MEMORY = re.compile(r"^Node (?P<cell>\d+) MemTotal:\s*(?P<kib>\d+) kB$")

Core = tuple[int, ...]
"""The CPUs (threads) of one core of the host, by number."""


@dataclass(frozen=True)
class HostCell:
    """A NUMA node of the host with its cores. ``memory_mb`` is MiB, 0 when it is not known."""

    id: int
    cores: tuple[Core, ...]
    memory_mb: int = 0


def command(sysfs: str = "/sys") -> str:
    """A line for each CPU that is on (its core) and each NUMA node (its CPUs and memory)."""
    root = shlex.quote(sysfs)
    files = f"{root}/devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list"
    files += f" {root}/devices/system/node/node[0-9]*/cpulist"
    return f"grep -sH '' {files}; grep -sh MemTotal: {root}/devices/system/node/node[0-9]*/meminfo; :"


def parse(text: str) -> tuple[HostCell, ...]:
    """The NUMA nodes with cores, in order; one node 0 of all cores where the kernel has no NUMA.

    Raises HpcstateError for a line that is none of sysfs's.
    """
    cores: dict[int, tuple[int, ...]] = {}
    cells: dict[int, list[int]] = {}
    memory_mb: dict[int, int] = {}
    for line in text.splitlines():
        if match := _SIBLINGS.search(line):
            cores[int(match["cpu"])] = tuple(numbers(match["list"]))
        elif match := _CELL.search(line):
            cells[int(match["cell"])] = numbers(match["list"])
        elif match := _MEMORY.search(line):
            memory_mb[int(match["cell"])] = int(match["kib"]) // 1024
        else:
            raise HpcstateError(f"this is nothing about processors: {line!r}", where="sysfs")
    found = []
    for cell, cpus in sorted((cells or {0: list(cores)}).items()):
        of_cell = sorted({cores[cpu] for cpu in cpus if cpu in cores})
        if of_cell:
            found.append(HostCell(cell, tuple(of_cell), memory_mb.get(cell, 0)))
    return tuple(found)
