"""Metrics of NVIDIA's GPUs on a compute node for Prometheus: from ``nvidia-smi -q -x`` and the kernel's log.

Names and units are those of dcgm-exporter (its etc/default-counters.csv), which published dashboards ask for;
it needs DCGM, this needs nothing that the driver does not bring. Where DCGM runs, this tells of the kernel's
log alone (``xids``): the gauge DCGM_FI_DEV_XID_ERRORS has the last number and keeps it, and a second
Xid of the same number does not change it, so ``hpcstate_gpu_xids_total`` counts them. A value that the GPU
does not have is left out; DCGM says 9223372036854775792 and more in its place.

``simulated`` tells of GPUs that are plain files (hpcstate's simulated GPUs): nothing computes on them, and
each of their series has the label ``simulated``.

nvidia-smi can wait in the kernel for a GPU that fell off the bus, and then nothing ends it: it is given up
after LIMIT seconds, and no second one is started while the first is still there.
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

from hpcstate.monitoring.exporter import Sample, serve

LIMIT = 20
"""Seconds that nvidia-smi, or journalctl, may take."""

_SMI = ("nvidia-smi", "-q", "-x")
_LOG = ("journalctl", "--dmesg", "--boot", "--quiet", "--no-pager", "--output=cat", "--show-cursor")

_NUMBERS: Mapping[str, tuple[str, ...]] = {
    "DCGM_FI_DEV_SM_CLOCK": ("clocks/sm_clock",),
    "DCGM_FI_DEV_MEM_CLOCK": ("clocks/mem_clock",),
    "DCGM_FI_DEV_GPU_TEMP": ("temperature/gpu_temp",),
    "DCGM_FI_DEV_MEMORY_TEMP": ("temperature/memory_temp",),
    # Of 530 and older; of 535; of 570 and newer, which tell of the average and of the instant.
    "DCGM_FI_DEV_POWER_USAGE": (
        "power_readings/power_draw",
        "gpu_power_readings/power_draw",
        "gpu_power_readings/average_power_draw",
        "gpu_power_readings/instant_power_draw",
    ),
    "DCGM_FI_DEV_ENFORCED_POWER_LIMIT": (
        "power_readings/enforced_power_limit",
        "gpu_power_readings/current_power_limit",
    ),
    "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": ("pci/replay_counter",),
    "DCGM_FI_DEV_GPU_UTIL": ("utilization/gpu_util",),
    "DCGM_FI_DEV_MEM_COPY_UTIL": ("utilization/memory_util",),
    "DCGM_FI_DEV_FB_USED": ("fb_memory_usage/used",),
    "DCGM_FI_DEV_FB_FREE": ("fb_memory_usage/free",),
    "DCGM_FI_DEV_FB_RESERVED": ("fb_memory_usage/reserved",),
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": ("remapped_rows/remapped_row_unc",),
    "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": ("remapped_rows/remapped_row_corr",),
}
"""The element of each; of several the first that has a value. DTDs nvsmi_device_v10 to v13."""

_FLAGS: Mapping[str, str] = {
    "DCGM_FI_DEV_ROW_REMAP_FAILURE": "remapped_rows/remapped_row_failure",
    "DCGM_FI_DEV_ROW_REMAP_PENDING": "remapped_rows/remapped_row_pending",
    "DCGM_FI_DEV_RETIRED_PENDING": "retired_pages/pending_retirement",
}

_UNCORRECTED = (
    "sram_uncorrectable",
    "sram_uncorrectable_parity",
    "sram_uncorrectable_secded",
    "dram_uncorrectable",
    "double_bit/total",
)
_CORRECTED = ("sram_correctable", "dram_correctable", "single_bit/total")
_ERRORS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL": ("volatile", _CORRECTED),
    "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": ("volatile", _UNCORRECTED),
    "DCGM_FI_DEV_ECC_SBE_AGG_TOTAL": ("aggregate", _CORRECTED),
    "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL": ("aggregate", _UNCORRECTED),
}
"""Which elements there are differs by generation (ecc_errors of the DTDs): their sum."""

REASONS: Mapping[str, int] = {
    "gpu_idle": 0x1,
    "applications_clocks_setting": 0x2,
    "sw_power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sync_boost": 0x10,
    "sw_thermal_slowdown": 0x20,
    "hw_thermal_slowdown": 0x40,
    "hw_power_brake_slowdown": 0x80,
    "display_clocks_setting": 0x100,
}
"""Bits of nvmlClocksEventReasons (nvml.h), by the names in nvidia-smi's elements."""

_XID = re.compile(r"NVRM: Xid \((?:PCI:)?([0-9a-f:.]+)[^)]*\): ([0-9]+)", re.I)
_DRIVER = Path("/proc/driver/nvidia/gpus")
"""A folder for each GPU that the driver is bound to, by its PCI address: to read it never hangs."""


def gpus(xml: str) -> Iterator[Sample]:
    """The samples of what nvidia-smi said. Raises ValueError for what is no such answer."""
    try:
        log = ElementTree.fromstring(_without(xml))
    except ElementTree.ParseError as error:
        raise ValueError(f"no XML: {error}") from error
    found = log.findall("gpu")
    yield Sample("hpcstate_gpu_driver_info", 1, (("version", _text(log, "driver_version")),))
    for index, gpu in enumerate(found):
        minor = _number(gpu, "minor_number")
        labels = (
            ("gpu", str(index)),
            ("UUID", _text(gpu, "uuid")),
            ("pci_bus_id", bus_id(gpu.get("id") or _text(gpu, "pci/pci_bus_id"))),
            ("device", f"nvidia{minor:.0f}" if minor is not None else ""),
            ("modelName", _text(gpu, "product_name")),
        )
        yield from (Sample(name, value, labels) for name, value in _of_gpu(gpu))


def _without(xml: str) -> str:
    """``xml`` from its log on, without lists of clocks, which some drivers print as broken XML, and of
    processes, which are the users' own."""
    _, start, rest = xml.partition("<nvidia_smi_log>")
    return re.sub(r"<(supported_clocks|processes|accounted_processes)>.*?</\1>", "", start + rest, flags=re.S)


def _of_gpu(gpu: ElementTree.Element) -> Iterator[tuple[str, float]]:
    for name, paths in _NUMBERS.items():
        numbers = (_number(gpu, path) for path in paths)
        if (value := next((number for number in numbers if number is not None), None)) is not None:
            yield name, value
    for name, path in _FLAGS.items():
        if (said := _text(gpu, path)) in ("Yes", "No"):
            yield name, said == "Yes"
    for name, (kind, parts) in _ERRORS.items():
        counts = [_number(gpu, f"ecc_errors/{kind}/{part}") for part in parts]
        if any(count is not None for count in counts):
            yield name, sum(count or 0 for count in counts)
    # The elements had the older name up to driver 530.
    for word in ("event", "throttle"):
        told = {
            reason: _text(gpu, f"clocks_{word}_reasons/clocks_{word}_reason_{reason}") for reason in REASONS
        }
        if any(told.values()):
            bits = sum(REASONS[reason] for reason, said in told.items() if said == "Active")
            yield "DCGM_FI_DEV_CLOCKS_EVENT_REASONS", bits


def _text(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _number(element: ElementTree.Element, path: str) -> float | None:
    """The number at ``path`` without its unit (``40960 MiB``); None for N/A and for errors."""
    found = re.match(r"-?[0-9]+(\.[0-9]+)?", _text(element, path))
    return float(found[0]) if found else None


def bus_id(address: str) -> str:
    """A PCI address as DCGM has it (``00000000:41:00.0``) of any spelling of NVIDIA's (``0000:41:00``)."""
    domain, bus, device = (["0", *address.split(":")])[-3:]
    device, _, function = device.partition(".")
    return f"{domain:>08}:{bus}:{device}.{function or '0'}".upper()


class Asked:
    """What is asked again and again: nvidia-smi and the kernel's log. ``command`` and ``log`` are their
    words, ``driver`` the folder of the driver's GPUs, ``limit`` is in seconds. ``whole`` is without DCGM."""

    def __init__(
        self,
        *,
        whole: bool,
        command: tuple[str, ...] = _SMI,
        log: tuple[str, ...] = _LOG,
        driver: Path = _DRIVER,
        limit: float = LIMIT,
    ) -> None:
        self._whole, self._command, self._log, self._driver = whole, command, log, driver
        self._limit = limit
        self._hung: subprocess.Popen[str] | None = None
        self._cursor = ""
        self._count: Counter[str] = Counter()
        self._last: dict[str, int] = {}

    def __call__(self) -> list[Sample]:
        """All samples, and of each that is asked whether it answered."""
        answers: dict[str, Callable[[], list[Sample]]] = {"journalctl": self._xids}
        if self._whole:
            answers = {"nvidia-smi": self._smi, **answers}
        found: list[Sample] = []
        for name, ask in answers.items():
            try:
                samples, well = ask(), 1
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                print(f"{name}: {error}", file=sys.stderr, flush=True)
                samples, well = [], 0
            found += samples
            found.append(Sample("hpcstate_gpu_answers", well, (("command", name),)))
        if self._whole:
            found += self._sticky(found)
        return found

    def _smi(self) -> list[Sample]:
        if self._hung is not None and self._hung.poll() is None:
            raise ValueError("the last one has not ended yet")
        self._hung = asked = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        try:
            said, _ = asked.communicate(timeout=self._limit)
        except subprocess.TimeoutExpired:
            # Not waited for: one that waits in the kernel does not end.
            asked.kill()
            raise
        self._hung = None
        if asked.returncode:
            raise ValueError(f"exit code {asked.returncode}: {' '.join(said.split())[:300]}")
        return list(gpus(said))

    def _xids(self) -> list[Sample]:
        """Xids since the boot, by GPU. A GPU that had none is told of, so that its first one is a change."""
        after = [f"--after-cursor={self._cursor}"] if self._cursor else []
        log = subprocess.Popen(
            [*self._log, *after],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
        stop = threading.Timer(self._limit, log.kill)
        stop.start()
        try:
            assert log.stdout is not None
            self._read(log.stdout)
        finally:
            stop.cancel()
            log.stdout.close() if log.stdout else None
            log.wait()
        if not self._cursor:
            raise ValueError("the kernel's log is empty, or not to be read")
        known = {bus_id(folder.name) for folder in self._driver.glob("*:*")}
        return [
            Sample("hpcstate_gpu_xids_total", self._count[address], (("pci_bus_id", address),))
            for address in sorted(known | self._count.keys())
        ]

    def _read(self, lines: IO[str]) -> None:
        """Line by line: a job in a loop logs millions."""
        for line in lines:
            if line.startswith("-- cursor: "):
                self._cursor = line.removeprefix("-- cursor: ").strip()
            elif (xid := _XID.search(line)) is not None:
                address = bus_id(xid[1])
                self._count[address] += 1
                self._last[address] = int(xid[2])

    def _sticky(self, told: list[Sample]) -> list[Sample]:
        """The last Xid of each GPU that nvidia-smi told of, in DCGM's name."""
        of_gpus = dict.fromkeys(each.labels for each in told if each.name == "DCGM_FI_DEV_SM_CLOCK")
        return [
            Sample("DCGM_FI_DEV_XID_ERRORS", self._last.get(dict(labels)["pci_bus_id"], 0), labels)
            for labels in of_gpus
        ]


def simulated(devices: Path = Path("/dev")) -> list[Sample]:
    """GPUs that are plain files: nothing runs on them and they draw no power. They have no temperature."""
    found: list[Sample] = []
    files = (file for file in devices.glob("nvidia*") if re.fullmatch(r"nvidia[0-9]+", file.name))
    for file in sorted(files, key=lambda path: int(path.name.removeprefix("nvidia"))):
        number = file.name.removeprefix("nvidia")
        labels = (
            ("gpu", number),
            ("UUID", f"SIMULATED-{number}"),
            ("pci_bus_id", ""),
            ("device", file.name),
            ("modelName", "simulated"),
            ("simulated", "true"),
        )
        for name in ("GPU_UTIL", "MEM_COPY_UTIL", "FB_USED", "FB_FREE", "POWER_USAGE", "XID_ERRORS"):
            found.append(Sample(f"DCGM_FI_DEV_{name}", 0, labels))
    return found


def main() -> None:
    """Answer Prometheus until somebody ends it. The first word says of what: ``all``, ``xids`` (DCGM tells of
    the rest), or ``simulated``."""
    kind = sys.argv.pop(1)
    serve(simulated if kind == "simulated" else Asked(whole=kind == "all"))
