"""The boot sectors and the partition table of a disk."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from hpcstate.errors import HpcstateError
from hpcstate.image import disk


@pytest.fixture
def grub(tmp_path: Path) -> Path:
    """Stand-ins with the sizes and the fields of GRUB's files; their other bytes must survive."""
    (tmp_path / "boot.img").write_bytes(bytes(range(256)) * 2)
    (tmp_path / "core.img").write_bytes(b"\x5a" * 1500)
    return tmp_path


def test_boot_and_core_find_each_other(tmp_path: Path, grub: Path) -> None:
    target = tmp_path / "disk.raw"
    target.write_bytes(b"\xee" * disk.SECTOR * (disk.CORE_START + 8))
    disk.write_boot_sectors(target, grub)
    written = target.read_bytes()
    core = written[disk.CORE_START * disk.SECTOR :][:1500]
    assert struct.unpack_from("<Q", written, 0x5C) == (disk.CORE_START,)
    assert struct.unpack_from("<Q", core, 0x1F4) == (disk.CORE_START + 1,)
    assert written[:0x5C] == bytes(range(0x5C))
    assert core[:0x1F4] == b"\x5a" * 0x1F4


def test_the_partition_table_survives_the_boot_code(tmp_path: Path, grub: Path) -> None:
    target = tmp_path / "disk.raw"
    target.write_bytes(b"\xee" * disk.SECTOR * (disk.CORE_START + 8))
    disk.write_boot_sectors(target, grub)
    assert target.read_bytes()[440 : disk.SECTOR] == b"\xee" * (disk.SECTOR - 440)


def test_a_core_larger_than_its_partition_is_refused(tmp_path: Path, grub: Path) -> None:
    (grub / "core.img").write_bytes(bytes(disk.CORE_SECTORS * disk.SECTOR + 1))
    target = tmp_path / "disk.raw"
    target.write_bytes(bytes(disk.SECTOR))
    with pytest.raises(HpcstateError, match=r"core\.img"):
        disk.write_boot_sectors(target, grub)
    assert target.read_bytes() == bytes(disk.SECTOR)


def test_partitions_follow_each_other_and_leave_room_at_the_end() -> None:
    lines = disk.partition_table(1000).splitlines()
    assert f"start={disk.CORE_START}, size={disk.CORE_SECTORS}" in lines[2]
    assert f"start={disk.CORE_START + disk.CORE_SECTORS}, size=1000" in lines[3]
