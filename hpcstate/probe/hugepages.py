"""The huge pages that a host has set aside, from sysfs (Linux, admin-guide/mm/hugetlbpage.rst)."""

from __future__ import annotations

import re
import shlex
from typing import TypedDict

from hpcstate.errors import HpcstateError

_LINE = re.compile(r"/hugepages-(?P<kib>\d+)kB/(?P<what>nr|free)_hugepages:(?P<pages>\d+)$")


class Hugepages(TypedDict):
    """Pages of one size: ``total`` set aside, ``free`` of them not in use."""

    total: int
    free: int


def command(sysfs: str = "/sys") -> str:
    """A line for each size and number; ``sysfs`` is where sysfs is mounted."""
    pages = f"{shlex.quote(sysfs)}/kernel/mm/hugepages/hugepages-*"
    return f"grep -sH '' {pages}/nr_hugepages {pages}/free_hugepages; :"


def parse(text: str) -> dict[str, Hugepages]:
    """The pages by size as the cluster file writes it (``2M``, ``1G``), smaller sizes first.

    Raises HpcstateError for a line that is none of sysfs's.
    """
    found: dict[int, Hugepages] = {}
    for line in text.splitlines():
        match = _LINE.search(line)
        if match is None:
            raise HpcstateError(f"this is nothing about huge pages: {line!r}", where="sysfs")
        pages = found.setdefault(int(match["kib"]), Hugepages(total=0, free=0))
        pages["total" if match["what"] == "nr" else "free"] = int(match["pages"])
    return {_size(kib): found[kib] for kib in sorted(found)}


def mounted(text: str) -> frozenset[str]:
    """The sizes that a hugetlbfs is mounted for, from /proc/self/mounts. The kernel prints it always, in
    KiB or MiB (Linux, fs/hugetlbfs/inode.c: hugetlbfs_show_options).
    """
    kinds = [fields[3] for fields in map(str.split, text.splitlines()) if fields[2:3] == ["hugetlbfs"]]
    sizes = [found for options in kinds for found in re.findall(r"(?:^|,)pagesize=(\d+)([KM])", options)]
    return frozenset(_size(int(number) << (10 if unit == "M" else 0)) for number, unit in sizes)


def _size(kib: int) -> str:
    for unit, name in ((1 << 20, "G"), (1 << 10, "M")):
        if kib % unit == 0:
            return f"{kib // unit}{name}"
    return f"{kib}K"
