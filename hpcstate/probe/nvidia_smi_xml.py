"""One GPU of ``nvidia-smi -q -x``, whose elements differ between drivers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypedDict
from xml.etree import ElementTree

_NO_VALUE = ("N/A", "Not Supported", "Requested functionality has been deprecated")
_NVML_ERRORS = (
    "GPU is lost",
    "GPU requires reset",
    "ERR!",
    "Unknown Error",
    "Corrupted infoROM",
    "Interrupt Request Issue",
    "GPU access blocked by the operating system",
    "Driver Not Loaded",
)
"""Texts of nvmlErrorString (libnvidia-ml 550.163.01) that nvidia-smi prints where a value should be."""

MigNames = Mapping[tuple[str, int], tuple[str, str]]
"""Profile and UUID of each MIG device by its GPU's UUID and its index there."""


class MigDevice(TypedDict):
    """A compute instance in a GPU instance. ``index`` counts them within their GPU.

    ``profile`` (``3g.20gb``, ``1c.3g.20gb``) and ``uuid`` are empty when ``nvidia-smi -L`` does not list it.
    ``memory_mib`` is None when it is not told.
    """

    index: int
    gpu_instance: int
    compute_instance: int
    profile: str
    uuid: str
    memory_mib: int | None


class Fabric(TypedDict):
    """Where a GPU stands in the NVLink fabric of NVSwitches. All is empty for one that is in none.

    ``state`` is ``Not Started``, ``In Progress`` or ``Completed``; ``status`` is NVML's word for how that
    ended (``Success``). ``health`` are the fields below, by element (``bandwidth``: ``Degraded``).
    """

    state: str
    status: str
    health: dict[str, str]


class NvidiaGpu(TypedDict):
    """One GPU. A value that the GPU does not have is empty, or None.

    ``index`` is nvidia-smi's, by PCI address; ``minor`` the N of /dev/nvidiaN. Modes are NVIDIA's words
    (``Enabled``). ``ecc_uncorrected_volatile`` counts since the driver was loaded, ``…_aggregate`` over the
    GPU's life. ``recovery_action`` is ``None``, ``Reset``, ``Reboot``, ``Drain P2P`` or ``Drain and Reset``;
    drivers up to 550 tell only the second and the last, as gpu_reset_status. ``repair_pending`` are parts
    that a reset repairs (``channel``, ``tpc``; newer than 575). ``licence`` is the status of a virtual GPU's
    (``Unlicensed (Restricted)``), empty for a real one; ``slowed_by`` is why the hardware slows it down now
    (``power_brake``, ``thermal``, or ``hardware`` where that is not told apart). ``link_width`` are the lanes
    of its PCIe link, None while it rests: nvidia-smi(1) says that they "may be reduced when the GPU is not
    in use". ``unreadable`` are the elements in whose place NVML put an error, with that error.
    """

    index: int
    minor: int | None
    uuid: str
    name: str
    address: str
    persistence_mode: str
    compute_mode: str
    memory_mib: int | None
    ecc_mode: str
    ecc_mode_pending: str
    ecc_uncorrected_volatile: int | None
    ecc_uncorrected_aggregate: int | None
    sram_threshold_exceeded: bool | None
    retired_pages_pending: bool | None
    remapped_rows_pending: bool | None
    remapped_rows_failed: bool | None
    mig_mode: str
    mig_mode_pending: str
    mig_devices: list[MigDevice]
    recovery_action: str
    repair_pending: list[str]
    unrepairable_memory: bool | None
    fabric: Fabric
    licence: str
    slowed_by: list[str]
    link_width: int | None
    unreadable: dict[str, str]


def pci_address(text: str) -> str:
    """``dddd:bb:dd.f`` in lower case of any spelling of NVIDIA's tools: ``00000000:41:00.0``, ``0000:41:00``.

    Raises ValueError when it is none.
    """
    parts = re.fullmatch(r"(?:PCI:)?([0-9a-f]{1,8}):([0-9a-f]{2}):([0-9a-f]{2})(?:\.([0-7]))?", text, re.I)
    if parts is None:
        raise ValueError(f"{text!r} is no PCI address")
    domain, bus, device, function = parts.groups()
    return f"{int(domain, 16):04x}:{bus}:{device}.{function or 0}".lower()


def gpu_of(index: int, gpu: ElementTree.Element, names: MigNames) -> NvidiaGpu:
    """The ``<gpu>`` element number ``index`` of the log. Raises ValueError when an address or an instance's
    number is none.
    """
    uuid = text_of(gpu, "uuid")
    return NvidiaGpu(
        index=index,
        minor=_number(gpu, "minor_number"),
        uuid=uuid,
        name=text_of(gpu, "product_name"),
        address=pci_address(gpu.get("id") or text_of(gpu, "pci/pci_bus_id")),
        persistence_mode=text_of(gpu, "persistence_mode"),
        compute_mode=text_of(gpu, "compute_mode"),
        memory_mib=_number(gpu, "fb_memory_usage/total"),
        ecc_mode=text_of(gpu, "ecc_mode/current_ecc"),
        ecc_mode_pending=text_of(gpu, "ecc_mode/pending_ecc"),
        ecc_uncorrected_volatile=_uncorrected(gpu, "volatile"),
        ecc_uncorrected_aggregate=_uncorrected(gpu, "aggregate"),
        sram_threshold_exceeded=_flag(gpu, "ecc_errors/aggregate/sram_threshold_exceeded"),
        retired_pages_pending=_flag(
            gpu, "retired_pages/pending_blacklist", "retired_pages/pending_retirement"
        ),
        remapped_rows_pending=_flag(gpu, "remapped_rows/remapped_row_pending"),
        remapped_rows_failed=_flag(gpu, "remapped_rows/remapped_row_failure"),
        mig_mode=text_of(gpu, "mig_mode/current_mig"),
        mig_mode_pending=text_of(gpu, "mig_mode/pending_mig"),
        mig_devices=[_mig_device(device, uuid, names) for device in gpu.iterfind("mig_devices/mig_device")],
        recovery_action=_recovery_action(gpu),
        repair_pending=[
            part for part in ("channel", "tpc") if _flag(gpu, f"ecc_errors/{part}_repair_pending")
        ],
        unrepairable_memory=_flag(gpu, "ecc_errors/unrepairable_memory"),
        fabric=_fabric(gpu),
        licence=_licence(gpu),
        slowed_by=_slowed_by(gpu),
        link_width=_link_width(gpu),
        unreadable={
            element.tag: text
            for element in gpu.iter()
            if (text := _bare(element.text)).startswith(_NVML_ERRORS)
        },
    )


def _mig_device(device: ElementTree.Element, gpu: str, names: MigNames) -> MigDevice:
    index = int(text_of(device, "index"))
    profile, uuid = names.get((gpu, index), ("", ""))
    return MigDevice(
        index=index,
        gpu_instance=int(text_of(device, "gpu_instance_id")),
        compute_instance=int(text_of(device, "compute_instance_id")),
        profile=profile,
        uuid=uuid,
        memory_mib=_number(device, "fb_memory_usage/total"),
    )


def _fabric(gpu: ElementTree.Element) -> Fabric:
    health = gpu.find("fabric/health")
    fields = {} if health is None else {element.tag: text_of(health, element.tag) for element in health}
    return Fabric(
        state=text_of(gpu, "fabric/state"),
        status=text_of(gpu, "fabric/status"),
        health={name: text for name, text in fields.items() if text},
    )


def _licence(gpu: ElementTree.Element) -> str:
    """A real GPU has one for graphics, if any: nothing that computes needs it."""
    if text_of(gpu, "gpu_virtualization_mode/virtualization_mode").upper() != "VGPU":
        return ""
    # Its name before vGPU software 11 was grid_licensed_product.
    return text_of(gpu, "vgpu_software_licensed_product/license_status") or text_of(
        gpu, "grid_licensed_product/license_status"
    )


def _slowed_by(gpu: ElementTree.Element) -> list[str]:
    """The hardware's reasons; those of software (power cap, idle) are how a healthy GPU works. The elements
    were called clocks_throttle_reasons up to driver 530.
    """

    def active(reason: str) -> bool:
        return "Active" in (
            text_of(gpu, f"clocks_{kind}_reasons/clocks_{kind}_reason_{reason}")
            for kind in ("event", "throttle")
        )

    told = [reason for reason in ("power_brake", "thermal") if active(f"hw_{reason}_slowdown")]
    return told or (["hardware"] if active("hw_slowdown") else [])


def _link_width(gpu: ElementTree.Element) -> int | None:
    at_work = re.fullmatch("P[0-3]", text_of(gpu, "performance_state"))
    return _number(gpu, "pci/pci_gpu_link_info/link_widths/current_link_width") if at_work else None


def _recovery_action(gpu: ElementTree.Element) -> str:
    if _flag(gpu, "gpu_reset_status/reset_required"):
        return "Reset"
    if _flag(gpu, "gpu_reset_status/drain_and_reset_recommended"):
        return "Drain and Reset"
    return text_of(gpu, "gpu_recovery_action")


def _uncorrected(gpu: ElementTree.Element, kind: str) -> int | None:
    """The uncorrectable errors of a kind; None when they are not counted.

    Which elements there are depends on the GPU (DTD of nvidia-smi 550: ecc_errors): double_bit before Turing,
    and some newer ones split SRAM into parity and SEC-DED.
    """
    paths = (
        "sram_uncorrectable",
        "sram_uncorrectable_parity",
        "sram_uncorrectable_secded",
        "dram_uncorrectable",
        "double_bit/total",
    )
    counts = [count for path in paths if (count := _number(gpu, f"ecc_errors/{kind}/{path}")) is not None]
    return sum(counts) if counts else None


def _bare(text: str | None) -> str:
    return (text or "").strip().removeprefix("[").removesuffix("]")


def text_of(element: ElementTree.Element, path: str) -> str:
    """The text at ``path``; empty when there is no value, or an error in its place."""
    text = _bare(element.findtext(path))
    return "" if text in _NO_VALUE or text.startswith(_NVML_ERRORS) else text


def _number(element: ElementTree.Element, path: str) -> int | None:
    """The number at ``path`` without its unit (``40960 MiB``)."""
    number = re.match(r"\d+", text_of(element, path))
    return int(number[0]) if number else None


def _flag(element: ElementTree.Element, *paths: str) -> bool | None:
    """Whether any of ``paths`` says Yes; None when all have no value."""
    said = [text == "Yes" for path in paths if (text := text_of(element, path)) in ("Yes", "No")]
    return any(said) if said else None
