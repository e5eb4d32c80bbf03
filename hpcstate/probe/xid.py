"""What NVIDIA's kernel module wrote to the kernel log since the boot: Xids and failures to start."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Literal, TypedDict

from hpcstate import programs
from hpcstate.errors import HpcstateError
from hpcstate.probe.nvidia_smi_xml import pci_address

KEPT = 2000
"""How many kinds of message are told apart; of each the last is read, and how many there were. An application
in a loop logs thousands, and a mismatch of versions logs one each time a program starts.
"""

_HEAD = re.compile(r"(?:(\d+\.\d+) \S+ kernel: |(\d{4}-\d\d-\d\dT[\d:]+,\d+[+-]\d\d:\d\d) )(.*)")
_XID = re.compile(
    r"Xid \((?:PCI:)?([0-9a-f:.]+)(?: GPU-I:(\d+))?(?: GPU-CI:\d+)?\): (\d+)(?:, (.*))?",
    re.I,
)
_PROCESS = re.compile(r"pid=('?<unknown>'?|\d+)(?:, name=(.*?))?(?:, |$)")
_MISMATCH = re.compile(
    r"API mismatch: the client .*?has the version ([\d.]+\d),? but "
    r"this kernel module has the version ([\d.]+\d)"
)
_ADDRESS = re.compile(r"\b[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\b", re.I)

_SWITCH = re.compile(
    r"nvidia-nvswitch\d*:? SXid \((?:PCI:)?([0-9a-f:.]+)\): (\d+), (Non-fatal|Fatal)(?:, (.*))?", re.I
)
"""NVIDIA, Fabric Manager User Guide, NVSwitch SXid errors; the lines of data that follow have no severity."""

FailureKind = Literal[
    "init", "off_the_bus", "open_module", "closed_module", "other_release", "bar", "power", "nvlink"
]
"""The driver could not start the GPU; it does not answer; it needs NVIDIA's open kernel modules, or those
that are not open, or another release of the driver; a region of its memory has no address; its power cables
are not attached; NVLink did not find its other end."""

# The module names a region only where it is invalid: of no size, or at no address (nv-pci.c of 595).
_FAILURES: dict[FailureKind, str] = {
    "init": r"RmInitAdapter failed|pci_enable_device failed|Can't find an IRQ|request_mem_region failed",
    "off_the_bus": r"fallen off the bus|from D3\w+ to D0, device inaccessible",
    "open_module": r"requires use of the NVIDIA open kernel modules",
    "closed_module": r"is not supported by open nvidia\.ko",
    "other_release": r"through the NVIDIA .* Legacy drivers|not supported by the NVIDIA .* driver release",
    "bar": r"BAR[0-5] is \d+M @|Failed to re-allocate BAR",
    "power": r"does not have the necessary power cables",
    "nvlink": r"post ?RxDet(?:ect)?LinkMask",
}


class Xid(TypedDict):
    """One Xid. ``time`` is in seconds since 1970; ``address`` the GPU's PCI address, ``gpu_instance`` its MIG
    GPU instance or None. ``process`` is the name of the process it is charged to, empty when none is told.
    There were ``times`` of its kind, of which it is the last.
    """

    time: float
    address: str
    gpu_instance: int | None
    number: int
    process: str
    text: str
    times: int


class SwitchError(TypedDict):
    """The last of ``times`` errors (SXid) of a kind of the NVSwitch at ``address``."""

    time: float
    address: str
    number: int
    fatal: bool
    text: str
    times: int


class DriverMismatch(TypedDict):
    """A program came with the driver's libraries in version ``client``, the kernel module has ``module``."""

    time: float
    client: str
    module: str


class GpuFailure(TypedDict):
    """The kernel module could not use a GPU. ``address`` is empty when the module told none."""

    time: float
    kind: FailureKind
    address: str
    text: str


class KernelLog(TypedDict):
    """``log`` is where it was read: the journal, the kernel's own buffer (``dmesg``, which may have lost its
    beginning), or ``unreadable``. ``mismatch`` is the last one.
    """

    log: Literal["journal", "dmesg", "unreadable"]
    xids: list[Xid]
    switches: list[SwitchError]
    mismatch: DriverMismatch | None
    failures: list[GpuFailure]


def command() -> str:
    """The program xid.sh: the kernel module's messages of this boot."""
    return programs.command(Path(__file__).with_name("xid.sh"), kept=KEPT)


def parse(text: str) -> KernelLog:
    """The Xids, the errors of NVSwitches, the last version mismatch, and the failures of GPUs, by time.

    Raises HpcstateError when a line that begins like an Xid cannot be read.
    """
    first, *lines = text.splitlines() or [""]
    found = KernelLog(log=_LOGS.get(first, "unreadable"), xids=[], switches=[], mismatch=None, failures=[])
    for time, times, message in sorted(_messages(lines), key=lambda told: told[0]):
        if message.startswith("Xid "):
            found["xids"].append(_xid(time, times, message))
        elif switch := _SWITCH.match(message):
            found["switches"].append(
                SwitchError(
                    time=time,
                    address=pci_address(switch[1]),
                    number=int(switch[2]),
                    fatal=switch[3].lower() == "fatal",
                    text=switch[4] or "",
                    times=times,
                )
            )
        elif mismatch := _MISMATCH.search(message):
            found["mismatch"] = DriverMismatch(time=time, client=mismatch[1], module=mismatch[2])
        else:
            kinds = [kind for kind, sign in _FAILURES.items() if re.search(sign, message, re.I)]
            address = _ADDRESS.search(message)
            found["failures"] += [
                GpuFailure(
                    time=time,
                    kind=kind,
                    address=pci_address(address[0]) if address else "",
                    text=message,
                )
                for kind in kinds
            ]
    return found


_LOGS: dict[str, Literal["journal", "dmesg"]] = {"== journal": "journal", "== dmesg": "dmesg"}


def _messages(lines: Iterable[str]) -> list[tuple[float, int, str]]:
    """Time, number of times and text of each message without the module's prefix, those of several lines
    joined: only their first line has a time.
    """
    messages: list[tuple[float, int, str]] = []
    times = 1
    for line in lines:
        if line.startswith("== times "):
            times = int(line.removeprefix("== times "))
        elif head := _HEAD.match(line):
            time = float(head[1]) if head[1] else datetime.fromisoformat(head[2]).timestamp()
            messages.append((time, times, head[3].strip().removeprefix("NVRM: ")))
            times = 1
        elif messages and line.strip():
            more = line.strip().removeprefix("NVRM: ")
            messages[-1] = (*messages[-1][:2], f"{messages[-1][2]} {more}")
    return messages


def _xid(time: float, times: int, message: str) -> Xid:
    """``Xid (PCI:0000:01:00 GPU-I:05 GPU-CI:00): 94, pid=7194, name=python3, Contained: …``: the forms of
    open-gpu-kernel-modules, src/nvidia/src/kernel/gpu/rc/kernel_rc.c; some have no pid or no name.
    """
    match = _XID.fullmatch(message)
    if match is None:
        raise HpcstateError(f"an Xid in an unknown form: {message!r}", where="kernel log")
    address, instance, number, rest = match.groups()
    process = _PROCESS.match(rest or "")
    name = (process[2] or "") if process else ""
    return Xid(
        time=time,
        address=pci_address(address),
        gpu_instance=int(instance) if instance else None,
        number=int(number),
        process="" if name == "<unknown>" else name,
        text=(rest or "")[process.end() if process else 0 :].strip(),
        times=times,
    )
