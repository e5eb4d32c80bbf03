"""The GPUs of a host: those of NVIDIA's driver, or simulated ones."""

from __future__ import annotations

import json
import re
import shlex
from typing import TypedDict

from hpcstate.errors import HpcstateError

MARKER = "/etc/hpcstate/simulated-gpus.json"
"""Says that this host's GPU device nodes are simulated: {"gres_type": "simulated", "count": 2}."""


class GpuDevice(TypedDict):
    """One device node (``/dev/nvidia0``) with the device number it has.

    ``gres_type`` is the marker's for a simulated GPU, else the PCI device id (``2805``), the type that a
    passed-through GPU has unless the cluster file names another.
    """

    file: str
    major: int
    minor: int
    gres_type: str
    simulated: bool


class Gpus(TypedDict):
    """``driver`` is the version of NVIDIA's kernel driver, empty when it is not loaded."""

    driver: str
    devices: list[GpuDevice]


def command(root: str = "") -> str:
    """The driver, its GPUs, the marker and the device nodes; ``root`` is put before each path.

    nvidia-smi is not asked: it can hang on a GPU that fell off the bus, and takes a second.
    """
    base = shlex.quote(root) if root else ""
    driver = f"{base}/proc/driver/nvidia"
    marker = f"{base}{MARKER}"
    return (
        f"if [ -r {driver}/version ]; then IFS= read -r l <{driver}/version; printf 'driver %s\\n' \"$l\"; "
        f'for g in {driver}/gpus/*/information; do [ -r "$g" ] || continue; m=; '
        'while IFS= read -r l; do case "$l" in "Device Minor:"*) m="${l#*:}" ;; esac; done <"$g"; '
        f'a="${{g%/information}}"; a="${{a##*/}}"; i=; '
        f'read -r i <{base}/sys/bus/pci/devices/"$a"/device; printf \'gpu %s %s\\n\' "$i" "$m"; done; fi; '
        f'if [ -r {marker} ]; then while IFS= read -r l || [ -n "$l" ]; do printf \'marker %s\\n\' "$l"; '
        f"done <{marker}; fi; "
        f'set --; for f in {base}/dev/nvidia[0-9]*; do [ -c "$f" ] && set -- "$@" "$f"; done; '
        "[ $# -eq 0 ] || stat -L -c 'node %t %T %n' -- \"$@\""
    )


def parse(text: str) -> Gpus:
    """The GPUs that the driver, or without one the marker, accounts for; in the order of their numbers.

    A device node that nothing accounts for is no GPU: it is what a removed driver or a lowered count left.

    Raises HpcstateError when the marker is not what operations/gpu.py writes.
    """
    lines: dict[str, list[str]] = {"driver": [], "gpu": [], "marker": [], "node": []}
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        lines.setdefault(kind, []).append(rest)
    if lines["driver"]:
        version = re.search(r"\s(\d+(?:\.\d+)+)\s", lines["driver"][0])
        types = _driver_types(lines["gpu"])
        return Gpus(
            driver=version[1] if version else "unknown",
            devices=_devices(lines["node"], types, simulated=False),
        )
    types = _marker_types("\n".join(lines["marker"])) if lines["marker"] else {}
    return Gpus(driver="", devices=_devices(lines["node"], types, simulated=True))


def _driver_types(lines: list[str]) -> dict[int, str]:
    """The PCI device id by the number N of /dev/nvidiaN, which is the driver's "Device Minor"."""
    fields = (line.split() for line in lines)
    return {int(words[1]): words[0].removeprefix("0x") for words in fields if len(words) == 2}


def _marker_types(text: str) -> dict[int, str]:
    try:
        marker = json.loads(text)
        return dict.fromkeys(range(int(marker["count"])), str(marker["gres_type"]))
    except (ValueError, KeyError, TypeError) as error:
        raise HpcstateError(
            f"the marker of simulated GPUs is not whole: {error!r}",
            where=MARKER,
            hint="deploy again, or remove it when this node has no simulated GPUs",
        ) from error


def _devices(nodes: list[str], types: dict[int, str], *, simulated: bool) -> list[GpuDevice]:
    found: dict[int, GpuDevice] = {}
    for node in nodes:
        major, minor, file = node.split(" ", 2)
        number = re.search(r"/nvidia(\d+)$", file)
        if number is None or int(number[1]) not in types:
            continue
        found[int(number[1])] = GpuDevice(
            file=file,
            major=int(major, 16),
            minor=int(minor, 16),
            gres_type=types[int(number[1])],
            simulated=simulated,
        )
    return [found[number] for number in sorted(found)]
