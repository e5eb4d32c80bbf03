"""Which cgroup controllers a host offers. Slurm's device, memory and core limits need version 2."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from hpcstate import programs


class Cgroup(TypedDict):
    """``version`` is 2 (unified), 1 (legacy or hybrid: the controllers are in version 1) or 0 (none mounted).

    ``controllers`` are those of the root group; ``subtree_control`` those that it hands to its children,
    empty for version 1, which has no such thing.
    """

    version: int
    controllers: list[str]
    subtree_control: list[str]


def command(root: str = "/sys/fs/cgroup", cgroups: str = "/proc/cgroups") -> str:
    """The program cgroup.sh.

    ``root`` is where the cgroup file system is mounted, ``cgroups`` the kernel's table of the version 1
    controllers (cgroups(7)).
    """
    return programs.command(Path(__file__).with_name("cgroup.sh"), root=root, table=cgroups)


def parse(text: str) -> Cgroup:
    """What ``command`` printed; version 0 for no text."""
    fields: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        fields.setdefault(key, []).extend(value.split())
    if "controllers" in fields:
        return Cgroup(
            version=2,
            controllers=fields["controllers"],
            subtree_control=fields.get("subtree_control", []),
        )
    legacy = fields.get("legacy", [])
    return Cgroup(version=1 if legacy else 0, controllers=legacy, subtree_control=[])
