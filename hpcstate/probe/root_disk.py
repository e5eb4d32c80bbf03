"""The size of the file system that a node's system is on, as Slurm counts it."""

from __future__ import annotations

from hpcstate.errors import HpcstateError


def command() -> str:
    """Blocks and their size. By statvfs(3), as slurmd does it (get_mach_stat.c, get_tmp_disk): df would look
    at mounts of servers that may be away."""
    return "stat --file-system --format='%b %S' /"


def parse(text: str) -> int | None:
    """MiB, by what ``command`` printed; None for no text. Raises HpcstateError for anything else."""
    if not text.strip():
        return None
    words = text.split()
    if len(words) != 2 or not all(word.isdecimal() for word in words):
        raise HpcstateError(f"this is no answer of stat: {text.strip()!r}")
    blocks, size = map(int, words)
    return blocks * size >> 20
