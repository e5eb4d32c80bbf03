"""What makes a host's initramfs and its kernel command line."""

from __future__ import annotations

from pathlib import Path

from hpcstate import programs
from hpcstate.errors import HpcstateError

PROGRAMS = ("update-initramfs", "dracut", "update-grub", "grub-mkconfig", "kernel-install", "bootctl")


def command(entries: str = "/boot/efi/loader/entries /boot/loader/entries /efi/loader/entries") -> str:
    """The program boot_tools.sh; ``entries`` are the folders where systemd-boot has what it boots."""
    return programs.command(
        Path(__file__).with_name("boot_tools.sh"), arguments=entries.split(), programs=" ".join(PROGRAMS)
    )


def parse(text: str) -> list[str]:
    """The names that ``command`` printed. Raises HpcstateError for a line that it does not print."""
    names = text.splitlines()
    for name in names:
        if name not in (*PROGRAMS, "systemd-boot"):
            raise HpcstateError(f"this is no program of the boot: {name!r}", where="boot tools")
    return names
