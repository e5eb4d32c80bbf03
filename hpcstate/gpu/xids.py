"""The Xids that matter, and what each means: xids.toml as types, and what a message's text adds. Pure."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

TABLE = Path(__file__).with_name("xids.toml")
CATALOG = "https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html"

Severity = Literal["error", "warning", "note"]
"""error: the GPU must get no jobs. warning: it works, somebody should look. note: a job's own fault."""


@dataclass(frozen=True)
class KnownXid:
    """What an Xid means, and the ``step`` that ends it."""

    severity: Severity
    meaning: str
    step: str


UNKNOWN = KnownXid("warning", "not in hpcstate's table", f"look it up: {CATALOG}")


@cache
def known_xids() -> Mapping[int, KnownXid]:
    """The table by Xid number."""
    data = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return {
        number: KnownXid(row["severity"], row["meaning"], row["step"])
        for row in data["xid"]
        for number in row["numbers"]
    }


def judged(number: int, text: str) -> KnownXid:
    """What the Xid ``number`` means whose message goes on with ``text``, behind process and MIG instance."""
    known = known_xids().get(number, UNKNOWN)
    if number in _NVLINK5:
        return _nvlink5(number, text, known)
    if number == 74:
        return _nvlink(text, known)
    if number == 154:
        step = RECOVERY.get(recovery(_wished(text)), "").format(one="")
        return replace(known, step=step) if step else known
    return known


Recovery = Literal[
    "None", "Reset", "Reboot", "Drain P2P", "Drain and Reset", "Recover IMEX Domain", "unknown"
]

RECOVERY: Mapping[str, str] = {
    "Reset": "end all its programs and reset it (nvidia-smi -r{one})",
    "Reboot": "drain the node, wait for its jobs and reboot it",
    "Drain P2P": "end the jobs that use several GPUs, then look again: it will ask for a reset",
    "Drain and Reset": "no new jobs; running ones may finish, then reset it (nvidia-smi -r{one})",
    "Recover IMEX Domain": (
        "end the jobs that share memory with GPUs of other nodes, and start nvidia-imex again on all of them"
    ),
}
"""What ends each wish of a driver (NVIDIA GPU Memory Error Management, Error Recovery and Response Flags);
``{one}`` stands for nvidia-smi's option that names the GPU."""

_WORDS: tuple[tuple[str, Recovery], ...] = (
    ("none", "None"),
    ("reboot", "Reboot"),
    ("drain and reset", "Drain and Reset"),
    ("p2p", "Drain P2P"),
    ("imex", "Recover IMEX Domain"),
    ("reset", "Reset"),
    ("flr", "Reset"),
)


def recovery(words: str) -> Recovery:
    """The wish that ``words`` mean. The kernel module, nvidia-smi and NVML name it differently, and so do
    drivers: ``GPU Reset Required``, ``PF FLR`` (reset of the PCI function), ``Reset``, ``GPU_RESET``.
    """
    plain = words.lower().replace("_", " ")
    return next((wish for word, wish in _WORDS if word in plain), "unknown")


def _wished(text: str) -> str:
    """The words for the new wish in the text of an Xid 154 (open-gpu-kernel-modules 595, gpu.c)."""
    said = re.search(r" to 0x[0-9a-f]+ \(([^()]*)\)", text, re.I)
    return said[1] if said else ""


def took_back(text: str) -> bool:
    """Whether an Xid 154 says that the driver asks for nothing any more."""
    return recovery(_wished(text)) == "None"


LINKED = frozenset(
    {48, 62, 63, 64, 74, 79, 94, 95, 109, 110, 120, 136, 143, *range(144, 151), 154, 155, 156, 158}
)
"""Xids that set the GPU's recovery action, which is None again when they are mended ("Xid 154 linkage"), and
the one that tells of it: a GPU that was reset starts without a wish, and no Xid says so."""

TELLS_RECOVERY = 575
"""The driver from which all of them do."""

_NVLINK5 = range(144, 151)
_MESSAGE5 = re.compile(
    r"(?P<unit>\S+(?: \w+)??)\s+(?P<severity>Fatal|Non-?fatal|Link[ -]?Fatal)\b"
    r"(?:[^(]*\((?P<info>0x[0-9a-f]+)(?: (?P<status>0x[0-9a-f]+))?)?",
    re.I,
)
_NOTHING = "nothing on the node; where more is needed, Xid 154 of this GPU says so"
_LINK_QUALITY = "watch it: the quality of a link or its cables; nvidia-smi nvlink -e counts"


def _nvlink5(number: int, text: str, known: KnownXid) -> KnownXid:
    """``RLW_RXPIPE Nonfatal XC0 i0 Link 13 (<intrInfo> <errorStatus> …)``: the catalog's XID 144-150 Decode.

    What is not fatal needs no action; with two exceptions, as what is fatal has one.
    """
    said = _MESSAGE5.match(text)
    if said is None:
        return known
    unit, info, status = said["unit"].upper(), int(said["info"] or "0", 16), int(said["status"] or "0", 16)
    if not said["severity"].lower().startswith("non"):
        # A link that was taken down on purpose, or by the host.
        down_for = (info >> 20) & 0x3F
        if number == 149 and unit.startswith("NETIR_LINK") and down_for in (0b100110, 0b101000):
            return KnownXid("warning", "an NVLink went down by software or the host", _LINK_QUALITY)
        return known
    if unit == "RLW_RXPIPE" and status in (1, 2, 4):
        # Drivers before 575 have the subcode in the bits 5 to 9, later ones in 0 to 6: "Decode for action 2".
        newer = info & 0x7F == 0b0000110
        if info >> (7 if newer else 10) & 1:
            return known
    if unit == "NETIR_BER_EVENT":
        return KnownXid("warning", "an NVLink has many bit errors, corrected", _LINK_QUALITY)
    return KnownXid("note", "NVLink error that is not fatal", _NOTHING)


_HARMLESS = {0: (0, 23, 30), 4: (20, 23, 26, 29)}
"""Bits of the first and the fifth register that ask for nothing (the catalog's WORKFLOW_NVLINK_ERR)."""


def _nvlink(text: str, known: KnownXid) -> KnownXid:
    """``NVLink: fatal error detected on link 6(0x10000, 0x0, …)``: harmless if no other bit is set."""
    said = re.search(r"\((0x[0-9a-f]+(?:, ?0x[0-9a-f]+)*)\)", text, re.I)
    registers = [int(word, 16) for word in said[1].split(",")] if said else []
    harmless = [sum(1 << bit for bit in _HARMLESS.get(place, ())) for place in range(len(registers))]
    if any(registers) and not any(value & ~mask for value, mask in zip(registers, harmless, strict=True)):
        return KnownXid("warning", "NVLink error that its registers call harmless", _LINK_QUALITY)
    return known
