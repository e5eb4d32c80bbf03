"""A node's GPUs, asked on the node itself: what ``hpcstate inventory gpus`` calls an error is one here.

The rules are imported where there is an NVIDIA GPU: a node without one starts faster.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

LIMIT = 8
"""Seconds for each call of nvidia-smi: more means that a GPU or the driver hangs, an error itself."""

_MARKER = Path("/etc/hpcstate/simulated-gpus.json")
_NO_VALUE = ("N/A", "Not Supported", "Not Available", "Insufficient Permissions")
_FIELDS = (
    "index",
    "uuid",
    "name",
    "pstate",
    "temperature.gpu",
    "utilization.gpu",
    "memory.used",
    "memory.total",
    "ecc.errors.uncorrected.volatile.total",
)


def on_the_bus(root: str = "") -> int:
    """How many NVIDIA GPUs are on PCI: display controllers of the vendor."""
    count = 0
    for device in Path(f"{root}/sys/bus/pci/devices").glob("*:*:*.*"):
        vendor, kind = (device / "vendor").read_text().strip(), (device / "class").read_text()
        count += vendor == "0x10de" and kind.startswith("0x03")
    return count


def errors(node: str, ask: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """The findings of the severity ``error``: what is wrong, and the address of the GPU, empty for the node.

    ``ask`` runs a shell command on the node as root, and returns what it prints. What a newer driver says in
    words that are not understood hides no error that another source tells. Raises HpcstateError for it where
    nothing else is wrong.
    """
    if not on_the_bus() and not Path("/proc/driver/nvidia/version").exists():
        return
    from hpcstate.errors import HpcstateError
    from hpcstate.gpu.findings import GpuHost, findings
    from hpcstate.probe import gpu, nvidia_smi, nvidia_topology, xid

    strange: list[HpcstateError] = []

    def read(parse: Callable[[str], T], command: str) -> T:
        try:
            return parse(ask(command))
        except HpcstateError as error:
            strange.append(error)
            return parse("")

    host = GpuHost(
        gpus=gpu.parse(ask(gpu.command())),
        smi=read(nvidia_smi.parse, nvidia_smi.command(limit=LIMIT)),
        topology=read(nvidia_topology.parse, nvidia_topology.command(limit=LIMIT)),
        log=read(xid.parse, xid.command()),
    )
    wrong = [finding for finding in findings(node, host) if finding.severity == "error"]
    yield from ((finding.what, finding.address) for finding in wrong)
    if strange and not wrong:
        raise strange[0]


def state() -> list[dict[str, Any]]:
    """Each GPU as nvidia-smi has it, by its own names of the fields; simulated ones are marked so. Empty
    where there is none, or nvidia-smi does not answer in time: a prolog does not wait."""
    if _MARKER.exists():
        return _simulated(_MARKER.read_text(encoding="utf-8"))
    if not Path("/proc/driver/nvidia/version").exists():
        return []
    words = ("nvidia-smi", f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits")
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return [{"error": f"nvidia-smi: {type(error).__name__}"}]
    return csv(done.stdout)


def csv(text: str) -> list[dict[str, Any]]:
    """What nvidia-smi printed, a line for each GPU; numbers as numbers, what a GPU does not have as None, and
    why a value cannot be read (``GPU requires reset``) in its place.
    """
    found = []
    for line in text.splitlines():
        values = [_value(word.strip()) for word in line.split(",")]
        if len(values) == len(_FIELDS):
            found.append(dict(zip(_FIELDS, values, strict=True)))
    return found


def _value(word: str) -> int | str | None:
    word = word.removeprefix("[").removesuffix("]")  # [N/A], [Unknown Error]; drivers differ in the brackets
    if word in _NO_VALUE:
        return None
    return int(word) if word.isdecimal() else word


def _simulated(text: str) -> list[dict[str, Any]]:
    try:
        count = int(json.loads(text)["count"])
    except (ValueError, KeyError, TypeError):
        return []
    return [{"index": index, "simulated": True} for index in range(count)]
