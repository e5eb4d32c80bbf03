"""The disk that a controller has for data: what is on it, where it is mounted, and by which units."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from hpcstate import programs
from hpcstate.errors import HpcstateError


class DataVolumeState(TypedDict):
    """``device_bytes`` is 0 without the disk, ``device`` its name in the kernel (``/dev/vdc``).

    ``content`` is what lies on it, as blkid(8) calls it, and its label: ``ext4 hpcstate-data``; empty when
    it is blank, ``unknown`` when blkid knows no name for it. ``filesystem_bytes`` is that of an ext4, else 0.
    ``mounts`` is path to source (``/dev/vdc[/slurmctld]``), ``units`` the name of each mount unit of the host
    to the sha256 of its file; ``enabled`` are those of them that start at boot.
    """

    device_bytes: int
    device: str
    content: str
    filesystem_bytes: int
    mounts: dict[str, str]
    units: dict[str, str]
    enabled: list[str]


def command(places: Sequence[str] = (), device: str = "", units: str = "/etc/systemd/system") -> str:
    """The program data_volume.sh, which looks at the disk ``device`` and the mounts of ``places``; the
    host's own units are in the folder ``units``."""
    program = Path(__file__).with_name("data_volume.sh")
    return programs.command(program, arguments=places, device=device, units=units)


def parse(text: str) -> DataVolumeState:
    """What ``command`` printed. Raises HpcstateError for anything else."""
    state = DataVolumeState(
        device_bytes=0, device="", content="", filesystem_bytes=0, mounts={}, units={}, enabled=[]
    )
    tags: dict[str, str] = {}
    for line in text.splitlines():
        key, _, rest = line.partition(" ")
        tag, equals, value = line.partition("=")
        first, _, last = rest.partition(" ")
        if equals and tag.isupper():
            tags[tag] = value
        elif key == "unknown":
            tags["TYPE"] = key
        elif key == "device" and first.isdecimal() and last:
            state["device_bytes"], state["device"] = int(first), last
        elif key == "filesystem" and rest.isdecimal():
            state["filesystem_bytes"] = int(rest)
        elif key == "mount" and last:
            state["mounts"][last] = first
        elif key == "unit" and last:
            state["units"][last] = first
        elif key == "enabled" and rest:
            state["enabled"].append(rest)
        else:
            raise HpcstateError(f"this is no answer of data_volume.sh: {line!r}")
    # A partition table has a type of its own, and no file system beside it.
    kind = tags.get("TYPE") or tags.get("PTTYPE") or ("unknown" if tags.keys() - {"DEVNAME"} else "")
    state["content"] = f"{kind} {tags.get('LABEL', '')}".strip()
    return state
