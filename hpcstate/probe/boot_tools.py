"""What makes a host's initramfs and its kernel command line."""

from __future__ import annotations

import shlex

from hpcstate.errors import HpcstateError

PROGRAMS = ("update-initramfs", "dracut", "update-grub", "grub-mkconfig", "kernel-install", "bootctl")


def command(entries: str = "/boot/efi/loader/entries /boot/loader/entries /efi/loader/entries") -> str:
    """The programs that are there, a line each, and ``systemd-boot`` where that has entries to boot."""
    programs = " ".join(PROGRAMS)
    folders = " ".join(shlex.quote(folder) for folder in entries.split())
    return (
        f"PATH=$PATH:/usr/sbin:/sbin; for p in {programs}; do "
        'if command -v "$p" >/dev/null 2>&1; then echo "$p"; fi; done; '
        f'for d in {folders}; do for f in "$d"/*.conf; do '
        'if [ -e "$f" ]; then echo systemd-boot; break 2; fi; done; done; :'
    )


def parse(text: str) -> list[str]:
    """The names that ``command`` printed. Raises HpcstateError for a line that it does not print."""
    names = text.splitlines()
    for name in names:
        if name not in (*PROGRAMS, "systemd-boot"):
            raise HpcstateError(f"this is no program of the boot: {name!r}", where="boot tools")
    return names
