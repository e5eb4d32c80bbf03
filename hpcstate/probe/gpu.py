"""The GPUs of a host: those of NVIDIA's driver, or simulated ones."""

from __future__ import annotations

import json
import re
import shlex
from typing import NamedTuple, TypedDict

from hpcstate.errors import HpcstateError
from hpcstate.hostlist import numbers
from hpcstate.probe.mig import MigInstance, mig_instances
from hpcstate.probe.nvidia_smi import bounded

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
    GPUs of the driver without a device node. ``autodetect`` are the values of gres.conf's AutoDetect that
    slurmd of this host can obey; ``nvml_library`` is whether NVML's library is there, which ``nvml`` needs.
    """

    driver: str
    devices: list[GpuDevice]
    bus: list[str]
    nodeless: list[Nodeless]
    autodetect: list[str]
    nvml_library: bool


class _DriverGpu(NamedTuple):
    address: str
    device: str
    minor: int
    cpus: str
    model: str


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
    """The driver, its GPUs, the marker, the device nodes, Slurm's plugins; ``root`` is put before each path.

    nvidia-smi is not asked: it can hang on a GPU that fell off the bus, and takes a second. Only names of
    MIG profiles come from it, because the kernel does not have them: where there are instances.
    """
    base = shlex.quote(root) if root else ""
    return "\n".join((f"root={base}", *_BUS, *_PLUGINS, *_DRIVER, *_MARKER, *_NODES))


_BUS = (
    # 0x0300 is a VGA controller, 0x0302 a 3D controller (pci.ids, class 03).
    'for d in "$root"/sys/bus/pci/devices/*; do',
    '    read -r v 2> /dev/null < "$d/vendor" && [ "$v" = 0x10de ] && read -r c < "$d/class" || continue',
    '    case "$c" in 0x0300* | 0x0302*) echo "bus ${d##*/}" ;; esac',
    "done",
)
_PLUGINS = (
    'for f in "$root"/usr/lib/*/slurm*/gpu_*.so; do [ ! -e "$f" ] || echo "plugin ${f##*/}"; done',
    'for f in "$root"/usr/lib/*/libnvidia-ml.so.1; do [ ! -e "$f" ] || echo "library"; done',
)
_DRIVER = (
    'driver="$root/proc/driver/nvidia"',
    'if [ -r "$driver/version" ]; then',
    '    IFS= read -r l < "$driver/version"; printf \'driver %s\\n\' "$l"',
    '    for g in "$driver"/gpus/*/information; do',
    '        [ -r "$g" ] || continue',
    "        m=; n=; i=; c=",
    "        while IFS= read -r l; do",
    '            case "$l" in "Device Minor:"*) m="${l#*:}" ;; "Model:"*) n="${l#*:}" ;; esac',
    '        done < "$g"',
    '        a="${g%/information}"; a="${a##*/}"; d="$root/sys/bus/pci/devices/$a"',
    '        read -r i 2> /dev/null < "$d/device"; read -r c 2> /dev/null < "$d/local_cpulist"',
    '        printf \'gpu %s|%s|%s|%s|%s\\n\' "$a" "$i" "$m" "$c" "$n"',
    "    done",
    '    for c in "$root"/sys/devices/system/cpu/cpu[0-9]*/topology; do',
    '        [ -r "$c/core_id" ] || continue',
    '        read -r p < "$c/physical_package_id"; read -r o < "$c/core_id"; c="${c%/topology}"',
    '        echo "cpu ${c##*/cpu} $p $o"',
    "    done",
    "    mig=",
    '    for f in "$driver"/capabilities/gpu*/mig/gi*/access \\',
    '        "$driver"/capabilities/gpu*/mig/gi*/ci*/access; do',
    '        [ -r "$f" ] || continue',
    "        mig=yes",
    "        while IFS= read -r l; do",
    '            case "$l" in DeviceFileMinor:*) echo "cap ${f#*/capabilities/} ${l#*:}" ;; esac',
    '        done < "$f"',
    "    done",
    '    if [ -n "$mig" ]; then',
    f"        {{ {bounded('--query-gpu=index,pci.bus_id --format=csv,noheader')}; }} |",
    "            while IFS= read -r l; do printf 'index %s\\n' \"$l\"; done",
    f"        {{ {bounded('mig -lgi')}; }} |",
    "            while IFS= read -r l; do printf 'lgi %s\\n' \"$l\"; done",
    "    fi",
    "fi",
)
_MARKER = (
    f'if [ -r "$root{MARKER}" ]; then',
    f'    while IFS= read -r l || [ -n "$l" ]; do printf \'marker %s\\n\' "$l"; done < "$root{MARKER}"',
    "fi",
)
_NODES = (
    'set --; for f in "$root"/dev/nvidia[0-9]*; do [ ! -c "$f" ] || set -- "$@" "$f"; done',
    "[ $# -eq 0 ] || stat -L -c 'node %t %T %n' -- \"$@\"",
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
        devices, nodeless = _of_driver(lines)
    else:
        types = _marker_types("\n".join(lines["marker"])) if "marker" in lines else {}
        nodes = _nodes(lines)
        driver, nodeless = "", []
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
        autodetect=[name for name in AUTODETECT_PLUGINS if name in plugins and (name != "nvml" or library)],
        nvml_library=library,
    )


def _of_driver(lines: dict[str, list[str]]) -> tuple[list[GpuDevice], list[Nodeless]]:
    nodes = _nodes(lines)
    cores = _core_of_cpu(lines.get("cpu", []))
    gpus = sorted(filter(None, map(_driver_gpu, lines.get("gpu", []))), key=lambda gpu: gpu.minor)
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
    return devices, nodeless


def _driver_gpu(line: str) -> _DriverGpu | None:
    """A GPU of /proc/driver/nvidia/gpus; None for one that the driver did not start: it has no minor."""
    fields = [field.strip() for field in line.split("|")]
    if len(fields) != 5 or not fields[2].isdigit():
        return None
    address, device, minor, cpus, model = fields
    return _DriverGpu(address, device.removeprefix("0x"), int(minor), cpus, model)


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
