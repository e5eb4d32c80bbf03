"""How the GPUs of a host reach each other and its CPUs: ``nvidia-smi topo -m``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypedDict

from hpcstate import programs
from hpcstate.errors import HpcstateError
from hpcstate.probe.nvidia_smi import BOUNDED, LIMIT, SmiState, split_end, state_of

_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
"""The header is underlined whether or not it goes to a terminal (seen with driver 550)."""

_LINK = re.compile(r"X|SYS|SOC|NODE|PHB|PXB|PIX|PSB|NV\d+")


class GpuTopology(TypedDict):
    """One GPU by nvidia-smi's ``index``.

    ``links`` has the connection to each other GPU, ``nics`` to each network card by its name (``mlx5_0``), in
    nvidia-smi's words: ``NV4`` (four NVLinks), ``PIX`` (one PCIe bridge), ``PXB`` (several), ``PHB`` (a host
    bridge), ``NODE`` (within a NUMA node), ``SYS`` (between NUMA nodes). ``cpu_affinity`` are logical CPUs
    (``0-23,48-71``), ``numa_affinity`` NUMA nodes; both are empty when there is none.
    """

    index: int
    links: dict[int, str]
    nics: dict[str, str]
    cpu_affinity: str
    numa_affinity: str


class NvidiaTopology(TypedDict):
    """``state`` is that of nvidia-smi; without a healthy one ``gpus`` is empty and ``message`` says why."""

    state: SmiState
    message: str
    gpus: list[GpuTopology]


def command(limit: int = LIMIT) -> str:
    """The program nvidia_topology.sh, for at most ``limit`` seconds."""
    return programs.command(BOUNDED, Path(__file__).with_name("nvidia_topology.sh"), limit=limit)


def parse(text: str) -> NvidiaTopology:
    """The rows of the matrix. The columns differ between drivers: the header names them.

    Raises HpcstateError when nvidia-smi succeeded and the matrix is not whole.
    """
    lines = _ESCAPES.sub("", text).splitlines()
    if "== topo" not in lines:
        return NvidiaTopology(state="absent", message="", gpus=[])
    code, lines = split_end(lines[lines.index("== topo") + 1 :])
    state = state_of(code)
    start = next((number for number, line in enumerate(lines) if re.match(r"\s+GPU\d+\s", line)), None)
    if state != "ok" or start is None:
        message = "\n".join(line.strip() for line in lines if line.strip())
        return NvidiaTopology(state="failed" if state == "ok" else state, message=message, gpus=[])
    header = [cell.strip() for cell in lines[start].split("\t") if cell.strip()]
    devices = [name for name in header if not name.endswith((" Affinity", " ID"))]
    names = dict(re.findall(r"^\s+(NIC\d+): (\S+)", "\n".join(lines), re.M))
    rows = [line.split("\t") for line in lines[start + 1 :] if re.match(r"GPU\d+\t", line)]
    expected = [device for device in devices if device.startswith("GPU")]
    if [row[0] for row in rows] != expected:
        raise _malformed(f"it has columns for {', '.join(expected)}, and other rows")
    gpus = [_row([cell.strip() for cell in row], devices, names) for row in rows]
    return NvidiaTopology(state="ok", message="", gpus=gpus)


def _row(row: list[str], devices: list[str], names: dict[str, str]) -> GpuTopology:
    cells, rest = row[1 : 1 + len(devices)], row[1 + len(devices) :]
    if len(cells) < len(devices) or not all(_LINK.fullmatch(cell) for cell in cells):
        raise _malformed(f"the row of {row[0]} is {' '.join(row)!r}")
    links = {name: cell for name, cell in zip(devices, cells, strict=True) if cell != "X"}
    # The first cell is the CPUs' also when it is empty (no CPU that this process may use); after it there are
    # one or two tabs before each cell.
    numa = next((cell for cell in rest[1:] if cell), "")
    return GpuTopology(
        index=_number(row[0]),
        links={_number(name): cell for name, cell in links.items() if name.startswith("GPU")},
        nics={names.get(name, name): cell for name, cell in links.items() if not name.startswith("GPU")},
        cpu_affinity=_known(rest[0]) if rest else "",
        numa_affinity=_known(numa),
    )


def _known(cell: str) -> str:
    return "" if cell == "N/A" else cell


def _number(name: str) -> int:
    return int(name.removeprefix("GPU"))


def _malformed(why: str) -> HpcstateError:
    return HpcstateError(f"the answer of nvidia-smi topo -m is not whole: {why}", hint="run it there by hand")
