"""Huge pages, as sysfs tells of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcstate.errors import HpcstateError
from hpcstate.probe import hugepages
from hpcstate.run import local

# Linux 6.12 in a guest with vm.nr_hugepages = 256, by the command below.
SYSFS = """\
/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages:0
/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages:256
/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages:0
/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages:250
"""


def test_sizes_are_called_as_in_the_cluster_file() -> None:
    assert hugepages.parse(SYSFS) == {"2M": {"total": 256, "free": 250}, "1G": {"total": 0, "free": 0}}
    assert list(hugepages.parse(SYSFS)) == ["2M", "1G"]
    assert list(hugepages.parse(SYSFS.replace("2048kB", "64kB"))) == ["64K", "1G"]


def test_a_kernel_without_huge_pages_has_none(tmp_path: Path) -> None:
    assert hugepages.parse(local(hugepages.command(str(tmp_path)))) == {}


def test_sysfs_is_read_wherever_it_is(tmp_path: Path) -> None:
    root = tmp_path / "a 'quoted' sysfs"
    for line in SYSFS.splitlines():
        name, _, pages = line.partition(":")
        file = root / name.removeprefix("/sys/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{pages}\n")
    assert hugepages.parse(local(hugepages.command(str(root)))) == hugepages.parse(SYSFS)


def test_what_is_no_line_of_sysfs_is_an_error() -> None:
    with pytest.raises(HpcstateError, match="nothing about huge pages"):
        hugepages.parse("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages:many")


def test_the_sizes_that_are_mounted() -> None:
    """As Linux prints them: the size is always there, in MiB."""
    assert hugepages.mounted(
        "proc /proc proc rw 0 0\n"
        "hugetlbfs /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0\n"
        "none /dev/huge1G hugetlbfs rw,relatime,gid=64055,pagesize=1024M 0 0\n"
    ) == {"2M", "1G"}
