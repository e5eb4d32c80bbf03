"""What nvidia-smi says of each GPU, and why it says nothing when it does not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, TypedDict
from xml.etree import ElementTree

from hpcstate import programs
from hpcstate.errors import HpcstateError
from hpcstate.probe.nvidia_smi_xml import MigNames, NvidiaGpu, gpu_of, pci_address, text_of

LIMIT = 20
"""Seconds that one call of nvidia-smi may take. A healthy one takes about one."""

BOUNDED = Path(__file__).with_name("nvidia_smi_bounded.sh")
"""The function that the programs which ask nvidia-smi ask it by, and that prints ``== end CODE``."""

SmiState = Literal["absent", "ok", "failed", "timeout"]
"""``failed`` is an exit code other than 0, ``timeout`` no end within the limit."""


class LostGpu(TypedDict):
    """A GPU that nvidia-smi got no handle of, and NVML's reason. It stops at the first of them."""

    address: str
    reason: str


class NvidiaSmi(TypedDict):
    """``driver_version`` is the kernel module's, ``library_version`` that of NVML's library, by its file name
    or, where that does not tell, by nvidia-smi's complaint (then without its last part).

    ``code`` is the exit code (nvidia-smi(1), RETURN VALUE), -1 where there is none; ``message`` is what it
    printed besides XML.
    """

    state: SmiState
    code: int
    message: str
    driver_version: str
    cuda_version: str
    library_version: str
    lost: list[LostGpu]
    gpus: list[NvidiaGpu]


def command(root: str = "", limit: int = LIMIT) -> str:
    """The program nvidia_smi.sh; ``root`` is put before the library's path, ``limit`` is in seconds."""
    return programs.command(BOUNDED, Path(__file__).with_name("nvidia_smi.sh"), root=root, limit=limit)


def parse(text: str) -> NvidiaSmi:
    """The state of nvidia-smi and the GPUs it lists.

    A failure of nvidia-smi is a state, not an error. Raises HpcstateError when it claims success and its
    answer is not whole.
    """
    sections = _sections(text)
    smi = NvidiaSmi(
        state="absent",
        code=-1,
        message="",
        driver_version="",
        cuda_version="",
        library_version=_library(sections.get("library", [])),
        lost=[],
        gpus=[],
    )
    if "query" not in sections:
        return smi
    smi["code"], lines = split_end(sections["query"])
    before, xml, after = _xml("\n".join(lines))
    smi["message"] = "\n".join(line.strip() for line in f"{before}\n{after}".splitlines() if line.strip())
    smi["state"] = state_of(smi["code"])
    smi["lost"] = _lost(smi["message"])
    named = re.search(r"NVML library version: *([\d.]+)", smi["message"])
    smi["library_version"] = smi["library_version"] or (named[1] if named else "")
    if not xml:
        if smi["state"] == "ok" and not smi["message"]:
            raise _malformed("it printed nothing")
        smi["state"] = "failed" if smi["state"] == "ok" else smi["state"]
        return smi
    try:
        log = ElementTree.fromstring(xml)
        smi["driver_version"] = text_of(log, "driver_version")
        smi["cuda_version"] = text_of(log, "cuda_version")
        names = _mig_names(split_end(sections.get("list", []))[1])
        smi["gpus"] = [gpu_of(index, gpu, names) for index, gpu in enumerate(log.findall("gpu"))]
    except (ElementTree.ParseError, ValueError) as error:
        if smi["state"] == "ok":
            raise _malformed(str(error)) from error
        smi["gpus"] = []
    return smi


def split_end(lines: list[str]) -> tuple[int, list[str]]:
    """The exit code that ``bounded`` noted, -1 without one, and the lines before it."""
    for number, line in enumerate(lines):
        if line.startswith("== end "):
            return int(line.removeprefix("== end ")), lines[:number]
    return -1, lines


def state_of(code: int) -> SmiState:
    """What an exit code of ``bounded`` means: 124 and 137 are those of timeout(1)."""
    if code in (-1, 124, 137):
        return "timeout"
    return "failed" if code else "ok"


def _malformed(why: str) -> HpcstateError:
    return HpcstateError(f"the answer of nvidia-smi -q -x is not whole: {why}", hint="run it there by hand")


def _sections(text: str) -> dict[str, list[str]]:
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if line in ("== query", "== list"):
            current = sections.setdefault(line.removeprefix("== "), [])
        elif line.startswith("== library "):
            sections.setdefault("library", []).append(line.removeprefix("== library "))
        else:
            current.append(line)
    return sections


def _library(names: list[str]) -> str:
    versions = (re.fullmatch(r"libnvidia-ml\.so\.(\d+\.[\d.]+)", name) for name in names)
    return next((version[1] for version in versions if version), "")


def _xml(text: str) -> tuple[str, str, str]:
    """What is printed before the log, the log without its document type, and what is printed after it."""
    before, start, rest = text.partition("<nvidia_smi_log>")
    before = "\n".join(line for line in before.splitlines() if not line.startswith(("<?xml", "<!DOCTYPE")))
    log, end, after = rest.partition("</nvidia_smi_log>")
    return before, start + log + end, after


def _lost(message: str) -> list[LostGpu]:
    """``Unable to determine the device handle for GPU0: 0000:0A:00.0: GPU is lost. …``. Drivers differ in how
    they spell the GPU.
    """
    found = re.findall(
        r"Unable to determine .* for gpu ?(?:\d{1,3}: )?([0-9a-f]{1,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]): (.+)",
        message,
        re.I,
    )
    return [LostGpu(address=pci_address(address), reason=" ".join(why.split())) for address, why in found]


def _mig_names(lines: list[str]) -> MigNames:
    """Profile and UUID by the GPU's UUID and the MIG device's index, of ``nvidia-smi -L``."""
    names: dict[tuple[str, int], tuple[str, str]] = {}
    gpu = ""
    for line in lines:
        if whole := re.match(r"GPU \d+: .*\(UUID: (GPU-[^)]+)\)\s*$", line):
            gpu = whole[1]
        elif part := re.match(r"\s*MIG (\S+)\s+Device\s+(\d+): \(UUID: ([^)]+)\)", line):
            names[gpu, int(part[2])] = (part[1], part[3])
    return names
