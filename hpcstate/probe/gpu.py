"""The GPUs of a host: those of NVIDIA's driver, or simulated ones."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple, TypedDict

from hpcstate import programs
from hpcstate.errors import HpcstateError
from hpcstate.hostlist import numbers
from hpcstate.probe.mig import MigInstance, mig_instances
from hpcstate.probe.nvidia_smi import BOUNDED, LIMIT

MARKER = "/etc/hpcstate/simulated-gpus.json"
"""Says that this host's GPU device nodes are simulated: {"gres_type": "simulated", "count": 2}."""

AUTODETECT_PLUGINS = ("nvml", "nvidia")
"""Values of AutoDetect in gres.conf for NVIDIA's GPUs; Slurm has a plugin gpu_<value>.so for each."""


class GpuDevice(TypedDict):
    """One device node (``/dev/nvidia0``) with the device number it has.

    ``gres_type`` is the marker's for a simulated GPU, else the PCI device id (``2805``), the type that a
    passed-through GPU has unless the cluster file names another. ``address`` is its PCI address
    (``0000:01:00.0``) and ``model`` its name (``NVIDIA A100-SXM4-40GB``), both empty for a simulated one.
    ``cores`` are the cores near it by Slurm's abstract numbering, empty when all are. ``mig`` are the MIG
    instances that it is split into.
    """

    file: str
    major: int
    minor: int
    gres_type: str
    simulated: bool
    address: str
    model: str
    cores: list[int]
    mig: list[MigInstance]


class Nodeless(TypedDict):
    """A GPU of the driver whose device node ``file`` is missing."""

    address: str
    file: str


class Gpus(TypedDict):
    """``driver`` is the version of NVIDIA's kernel driver, empty when it is not loaded.

    ``bus`` are the PCI addresses of NVIDIA's GPUs on the host's bus, whatever their driver. ``nodeless`` are
    GPUs of the driver without a device node, ``excluded`` those that it was told to leave out
    (NVreg_ExcludedGpus) and refuses to open. ``autodetect`` are the values of gres.conf's AutoDetect that
    slurmd of this host can obey; ``nvml_library`` is whether NVML's library is there, which ``nvml`` needs.
    """

    driver: str
    devices: list[GpuDevice]
    bus: list[str]
    nodeless: list[Nodeless]
    excluded: list[str]
    autodetect: list[str]
    nvml_library: bool


class _DriverGpu(NamedTuple):
    address: str
    device: str
    minor: int
    cpus: str
    model: str
    excluded: bool


def device_of(
    file: str,
    major: int,
    minor: int,
    gres_type: str,
    *,
    simulated: bool = False,
    address: str = "",
    model: str = "",
) -> GpuDevice:
    """A device without affinity and without MIG instances."""
    return GpuDevice(
        file=file,
        major=major,
        minor=minor,
        gres_type=gres_type,
        simulated=simulated,
        address=address,
        model=model,
        cores=[],
        mig=[],
    )


def command(root: str = "") -> str:
    """The program gpu.sh; ``root`` is put before each path."""
    return programs.command(
        BOUNDED, Path(__file__).with_name("gpu.sh"), root=root, marker=MARKER, limit=LIMIT
    )


def parse(text: str) -> Gpus:
    """The GPUs that the driver, or without one the marker, accounts for; in the order of their numbers.

    A device node that nothing accounts for is no GPU: it is what a removed driver or a lowered count left.

    Raises HpcstateError when the marker is not what operations/gpu.py writes.
    """
    lines: dict[str, list[str]] = {}
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        lines.setdefault(kind, []).append(rest)
    if "driver" in lines:
        version = re.search(r"\s(\d+(?:\.\d+)+)\s", lines["driver"][0])
        driver = version[1] if version else "unknown"
        devices, nodeless, excluded = _of_driver(lines)
    else:
        types = _marker_types("\n".join(lines["marker"])) if "marker" in lines else {}
        nodes = _nodes(lines)
        driver, nodeless, excluded = "", [], []
        devices = [
            device_of(*nodes[number], kind, simulated=True)
            for number, kind in sorted(types.items())
            if number in nodes
        ]
    plugins = {name.removeprefix("gpu_").removesuffix(".so") for name in lines.get("plugin", [])}
    library = "library" in lines
    return Gpus(
        driver=driver,
        devices=devices,
        bus=lines.get("bus", []),
        nodeless=nodeless,
        excluded=excluded,
        autodetect=[name for name in AUTODETECT_PLUGINS if name in plugins and (name != "nvml" or library)],
        nvml_library=library,
    )


def _of_driver(lines: dict[str, list[str]]) -> tuple[list[GpuDevice], list[Nodeless], list[str]]:
    nodes = _nodes(lines)
    cores = _core_of_cpu(lines.get("cpu", []))
    found = sorted(filter(None, map(_driver_gpu, lines.get("gpu", []))), key=lambda gpu: gpu.minor)
    gpus = [gpu for gpu in found if not gpu.excluded]
    minors = {gpu.address: gpu.minor for gpu in gpus}
    instances = mig_instances(lines.get("cap", []), lines.get("index", []), lines.get("lgi", []), minors)
    devices, nodeless = [], []
    for gpu in gpus:
        if gpu.minor not in nodes:
            nodeless.append(Nodeless(address=gpu.address, file=f"/dev/nvidia{gpu.minor}"))
            continue
        device = device_of(*nodes[gpu.minor], gpu.device, address=gpu.address, model=gpu.model)
        near = sorted({cores[cpu] for cpu in numbers(gpu.cpus) if cpu in cores})
        device["cores"] = near if len(near) < len(set(cores.values())) else []
        device["mig"] = instances.get(gpu.minor, [])
        devices.append(device)
    return devices, nodeless, [gpu.address for gpu in found if gpu.excluded]


def _driver_gpu(line: str) -> _DriverGpu | None:
    """A GPU of /proc/driver/nvidia/gpus; None for one that the driver did not start: it has no minor."""
    fields = [field.strip() for field in line.split("|")]
    if len(fields) not in (5, 6) or not fields[2].isdigit():  # drivers before 450 do not tell the last
        return None
    address, device, minor, cpus, model = fields[:5]
    return _DriverGpu(address, device.removeprefix("0x"), int(minor), cpus, model, fields[5:] == ["Yes"])


def _core_of_cpu(lines: list[str]) -> dict[int, int]:
    """The core of each CPU by Slurm's abstract number: packages, and the cores in them, by their first CPU.

    Slurm's xcpuinfo_mac_to_abs goes by hwloc, whose objects are sorted by their lowest CPU.
    """
    places = {int(cpu): (int(package), int(core)) for cpu, package, core in (line.split() for line in lines)}
    first_of_core: dict[tuple[int, int], int] = {}
    first_of_package: dict[int, int] = {}
    for cpu, place in sorted(places.items()):
        first_of_core.setdefault(place, cpu)
        first_of_package.setdefault(place[0], cpu)
    ordered = sorted(first_of_core, key=lambda place: (first_of_package[place[0]], first_of_core[place]))
    return {cpu: ordered.index(place) for cpu, place in places.items()}


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


def _nodes(lines: dict[str, list[str]]) -> dict[int, tuple[str, int, int]]:
    """The device nodes by their number: path, major, minor."""
    found = {}
    for node in lines.get("node", []):
        major, minor, file = node.split(" ", 2)
        number = re.search(r"/nvidia(\d+)$", file)
        if number is not None:
            found[int(number[1])] = (file, int(major, 16), int(minor, 16))
    return found
