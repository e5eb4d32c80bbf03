"""A bootable disk from a tree of files: GPT, GRUB for BIOS, one ext4 root. No loop device, no mount.

The layout of the boot sectors is GRUB's own (grub-core/boot/i386/pc/boot.S and diskboot.S, GRUB 2.12):
boot.img holds at byte 0x5c the sector of core.img; core.img's first sector holds at byte 0x1f4 the sector
where the rest of it goes on. grub-bios-setup would write the same two numbers, but needs a block device.
"""

from __future__ import annotations

import struct
from pathlib import Path

from hpcstate.errors import HpcstateError
from hpcstate.run import run

LABEL = "hpcstate-root"
SECTOR = 512
CORE_START = 2048
CORE_SECTORS = 2048
ROOT_START = CORE_START + CORE_SECTORS
TAIL_SECTORS = 2048
"""Room for the second copy of the partition table, rounded up to a MiB."""

_BOOT_CODE = 440
_CORE_SECTOR_OFFSET = 0x5C
_CORE_REST_OFFSET = 0x1F4
_DISK_ID = "2b6f6f43-7a0c-4f7e-9a35-5d8b3a1f0001"
_BOOT_ID = "2b6f6f43-7a0c-4f7e-9a35-5d8b3a1f0002"
_ROOT_ID = "2b6f6f43-7a0c-4f7e-9a35-5d8b3a1f0003"
_FS_ID = "2b6f6f43-7a0c-4f7e-9a35-5d8b3a1f0004"
_BIOS_BOOT = "21686148-6449-6E6F-744E-656564454649"
_LINUX_ROOT = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"


def write_disk(root: Path, disk: Path, size_gb: int) -> None:
    """Make ``disk`` (sparse, raw, ``size_gb`` GiB) from the tree ``root``, which has /boot/grub/i386-pc.

    Raises HpcstateError when the tree does not fit or a tool fails.
    """
    size = size_gb << 30
    root_sectors = size // SECTOR - ROOT_START - TAIL_SECTORS
    disk.unlink(missing_ok=True)
    with disk.open("wb") as stream:
        stream.truncate(size)
    run(["sfdisk", "--quiet", disk], stdin=partition_table(root_sectors))
    options = f"offset={ROOT_START * SECTOR},lazy_itable_init=1,hash_seed={_FS_ID}"
    run(
        [
            *("mke2fs", "-q", "-t", "ext4", "-L", LABEL, "-U", _FS_ID, "-m", "1"),
            *("-d", root, "-E", options, disk, f"{root_sectors * SECTOR // 1024}k"),
        ],
        hint="if the disk of the image is too small, raise disk_gb in its image.yaml",
    )
    write_boot_sectors(disk, root / "boot/grub/i386-pc")


def partition_table(root_sectors: int) -> str:
    """The input of sfdisk(8): a BIOS boot partition for core.img and the root file system."""
    return (
        f"label: gpt\nlabel-id: {_DISK_ID}\n"
        f"start={CORE_START}, size={CORE_SECTORS}, type={_BIOS_BOOT}, uuid={_BOOT_ID}\n"
        f"start={ROOT_START}, size={root_sectors}, type={_LINUX_ROOT}, uuid={_ROOT_ID}, name=root\n"
    )


def write_boot_sectors(disk: Path, grub: Path) -> None:
    """Put boot.img and core.img of the folder ``grub`` where the BIOS and boot.img look for them."""
    core = bytearray((grub / "core.img").read_bytes())
    if len(core) > CORE_SECTORS * SECTOR:
        raise HpcstateError(
            f"GRUB's core.img has {len(core)} bytes, too many for its partition", where=str(grub)
        )
    struct.pack_into("<Q", core, _CORE_REST_OFFSET, CORE_START + 1)
    boot = bytearray((grub / "boot.img").read_bytes()[:_BOOT_CODE])
    struct.pack_into("<Q", boot, _CORE_SECTOR_OFFSET, CORE_START)
    with disk.open("r+b") as stream:
        stream.write(boot)
        stream.seek(CORE_START * SECTOR)
        stream.write(core)
