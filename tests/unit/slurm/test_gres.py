"""The table of GRES cases: what a node declares, what it has, and what becomes of it. One row a case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from hpcstate.model import GresSettings, PassthroughDevice
from hpcstate.probe.gpu import GpuDevice, Gpus, device_of, parse
from hpcstate.probe.mig import MigInstance
from hpcstate.slurm.gres import DeclaredGpu, DeclaredGres, assign, nvml_name, simulated_devices
from hpcstate.slurm.gres_conf import gres_lines
from hpcstate.slurm.lint.conf import kind_of, lint
from tests.unit.slurm_clusters import node as model_node

NODE = "compute-01"
A100 = "NVIDIA A100-SXM4-40GB"
H100 = "NVIDIA H100 80GB HBM3"
ADDRESSES = ("0000:01:00.0", "0000:02:00.0", "0000:41:00.0", "0000:42:00.0")


def real(
    minor: int,
    device: str = "2805",
    address: str = "",
    model: str = "NVIDIA GeForce RTX 4060 Ti",
    **more: Any,
) -> GpuDevice:
    """A GPU of the driver; ``more`` are ``cores`` and ``mig``."""
    where = address or ADDRESSES[minor % len(ADDRESSES)]
    found = device_of(f"/dev/nvidia{minor}", 195, minor, device, address=where, model=model)
    found.update(more)  # type: ignore[typeddict-item]
    return found


def has(*devices: GpuDevice, **more: Any) -> Gpus:
    """What a node has; its bus has the GPUs of the driver unless ``more`` says otherwise."""
    found = parse("")
    found["devices"] = list(devices)
    found["driver"] = "550.163.01" if any(not device["simulated"] for device in devices) else ""
    found["bus"] = [device["address"] for device in devices if device["address"]]
    found.update(more)  # type: ignore[typeddict-item]
    return found


def instance(number: int, profile: str) -> MigInstance:
    caps = [f"/dev/nvidia-caps/nvidia-cap{9 * number + 12}", f"/dev/nvidia-caps/nvidia-cap{9 * number + 13}"]
    return MigInstance(profile=profile, gpu_instance=number, compute_instance=0, files=caps)


RTX = DeclaredGpu("rtx4060ti", "2805")
ANY = DeclaredGpu("any")
SIMULATED = DeclaredGpu("simulated", simulated=True)
SPLIT = DeclaredGpu("a100", "20b0", mig=("3g.20gb", "3g.20gb"))
SPLIT_DEVICE = real(0, "20b0", model=A100, mig=[instance(1, "3g.20gb"), instance(2, "3g.20gb")])
BOTH_PLUGINS = {"autodetect": ["nvml", "nvidia"], "nvml_library": True}


@dataclass(frozen=True)
class Row:
    """One case: ``lines`` of gres.conf (without NodeName), or ``problem``, parts of the message."""

    name: str
    declared: Sequence[DeclaredGpu]
    found: Gpus
    lines: Sequence[str] = ()
    problem: Sequence[str] = ()
    note: str = ""
    settings: GresSettings = field(default_factory=GresSettings)


ROWS = [
    # Explicit files, with Type and Cores.
    Row("no GPU declared, none there", [], has()),
    Row("one GPU", [RTX], has(real(0)), ["Name=gpu Type=rtx4060ti File=/dev/nvidia0"]),
    Row(
        "types are the file's, found by their PCI device",
        [DeclaredGpu("2504", "2504"), RTX],
        has(real(0), real(1, "2504")),
        ["Name=gpu Type=rtx4060ti File=/dev/nvidia0", "Name=gpu Type=2504 File=/dev/nvidia1"],
    ),
    Row(
        "minors do not follow the PCI order",
        [RTX, DeclaredGpu("2504", "2504")],
        has(real(0, "2504", "0000:41:00.0"), real(1, "2805", "0000:01:00.0")),
        ["Name=gpu Type=2504 File=/dev/nvidia0", "Name=gpu Type=rtx4060ti File=/dev/nvidia1"],
    ),
    Row(
        "ten and nine are sorted as numbers",
        [RTX, RTX],
        has(real(10), real(9)),
        ["Name=gpu Type=rtx4060ti File=/dev/nvidia9", "Name=gpu Type=rtx4060ti File=/dev/nvidia10"],
    ),
    Row(
        "one that takes any GPU leaves the named ones to the others",
        [ANY, RTX],
        has(real(0), real(1, "2504")),
        ["Name=gpu Type=rtx4060ti File=/dev/nvidia0", "Name=gpu Type=any File=/dev/nvidia1"],
    ),
    Row(
        "cores near the GPU, where not all are",
        [RTX, RTX],
        has(real(0, cores=[0, 1, 2, 3]), real(1, cores=[4, 5, 7])),
        [
            "Name=gpu Type=rtx4060ti File=/dev/nvidia0 Cores=0-3",
            "Name=gpu Type=rtx4060ti File=/dev/nvidia1 Cores=4-5,7",
        ],
    ),
    Row(
        "simulated GPUs",
        [SIMULATED, SIMULATED],
        has(*simulated_devices(2, "simulated")),
        ["Name=gpu Type=simulated File=/dev/nvidia0", "Name=gpu Type=simulated File=/dev/nvidia1"],
    ),
    # AutoDetect.
    Row(
        "autodetect nvml",
        [DeclaredGpu("a100", "20b0")],
        has(real(0, "20b0", model=A100), **BOTH_PLUGINS),
        ["AutoDetect=nvml"],
        settings=GresSettings(autodetect="nvml"),
    ),
    Row(
        "autodetect nvidia needs no library",
        [DeclaredGpu("rtx_4060", "2805")],
        has(real(0), autodetect=["nvidia"]),
        ["AutoDetect=nvidia"],
        settings=GresSettings(autodetect="nvidia"),
    ),
    Row(
        "autodetect nvml without NVML's library",
        [RTX],
        has(real(0), autodetect=["nvidia"]),
        problem=["cannot use autodetect: nvml", "libnvidia-ml.so.1 is not there", "Leave autodetect out"],
        settings=GresSettings(autodetect="nvml"),
    ),
    Row(
        "autodetect nvml without Slurm's plugin",
        [RTX],
        has(real(0), nvml_library=True),
        problem=["gpu_nvml.so is not there", "slurm-wlm-nvml-plugin"],
        settings=GresSettings(autodetect="nvml"),
    ),
    Row(
        "autodetect with a type that slurmd would not match",
        [DeclaredGpu("2805", "2805")],
        has(real(0), **BOTH_PLUGINS),
        problem=["nvidia_geforce_rtx_4060_ti, and 2805 is not a part of that", "a part of nvidia_geforce"],
        settings=GresSettings(autodetect="nvml"),
    ),
    # MIG.
    Row(
        "MIG instances, each with its three files",
        [SPLIT],
        has(SPLIT_DEVICE),
        [
            "Name=gpu Type=a100_3g.20gb "
            "MultipleFiles=/dev/nvidia0,/dev/nvidia-caps/nvidia-cap21,/dev/nvidia-caps/nvidia-cap22",
            "Name=gpu Type=a100_3g.20gb "
            "MultipleFiles=/dev/nvidia0,/dev/nvidia-caps/nvidia-cap30,/dev/nvidia-caps/nvidia-cap31",
        ],
    ),
    Row(
        "MIG instances that slurmd finds",
        [SPLIT],
        has(SPLIT_DEVICE, **BOTH_PLUGINS),
        ["AutoDetect=nvml"],
        settings=GresSettings(autodetect="nvml"),
    ),
    Row(
        "MIG instances whose type slurmd would not match",
        [DeclaredGpu("h100", "2330", mig=("1g.10gb",))],
        has(real(0, "2330", model=H100, mig=[instance(1, "1g.10gb")]), **BOTH_PLUGINS),
        problem=["nvidia_h100_80gb_hbm3_1g.10gb", "the end of nvidia_h100_80gb_hbm3."],
        settings=GresSettings(autodetect="nvml"),
    ),
    Row(
        "MIG declared, the GPU is whole",
        [SPLIT],
        has(real(0, "20b0", model=A100)),
        problem=["split into 3g.20gb, 3g.20gb", "0000:01:00.0 is not split", "deploys/gpu.py makes"],
    ),
    Row(
        "other MIG instances than declared",
        [SPLIT],
        has(real(0, "20b0", model=A100, mig=[instance(1, "4g.20gb"), instance(2, "3g.20gb")])),
        problem=["is split into the MIG instances 3g.20gb, 4g.20gb"],
    ),
    Row(
        "MIG instances on a GPU that is declared whole",
        [DeclaredGpu("a100", "20b0")],
        has(SPLIT_DEVICE),
        problem=["a100 (PCI device 20b0) as a whole GPU", "declare them as mig of the device"],
    ),
    Row(
        "MIG profiles that nvidia-smi does not tell",
        [SPLIT],
        has(real(0, "20b0", model=A100, mig=[instance(1, ""), instance(2, "")])),
        problem=["nvidia-smi does not tell their profiles"],
    ),
    # Sharing.
    Row(
        "shards of each GPU",
        [RTX, RTX],
        has(real(0), real(1)),
        [
            "Name=gpu Type=rtx4060ti File=/dev/nvidia0",
            "Name=gpu Type=rtx4060ti File=/dev/nvidia1",
            "Name=shard Count=4 File=/dev/nvidia0",
            "Name=shard Count=4 File=/dev/nvidia1",
        ],
        settings=GresSettings(shard=4),
    ),
    Row(
        "MPS percentages",
        [RTX],
        has(real(0)),
        ["Name=gpu Type=rtx4060ti File=/dev/nvidia0", "Name=mps Count=100 File=/dev/nvidia0"],
        settings=GresSettings(mps=100),
    ),
    Row(
        "shards of GPUs that slurmd finds",
        [DeclaredGpu("a100", "20b0"), DeclaredGpu("a100", "20b0")],
        has(real(0, "20b0", model=A100), real(1, "20b0", model=A100), **BOTH_PLUGINS),
        ["AutoDetect=nvml", "Name=shard Count=8"],
        settings=GresSettings(autodetect="nvml", shard=4),
    ),
    # What does not fit together.
    Row(
        "fewer than declared",
        [RTX, RTX],
        has(real(0)),
        problem=[
            "2 GPUs (2 of type rtx4060ti (PCI device 2805)) and has 1 GPU",
            "Nothing of Slurm was changed",
        ],
    ),
    Row("none at all", [RTX], has(), problem=["has no GPU", "No GPU is on its bus"]),
    Row(
        "more than declared",
        [RTX],
        has(real(0), real(1)),
        ["Name=gpu Type=rtx4060ti File=/dev/nvidia0"],
        note="they are not used: /dev/nvidia1",
    ),
    Row(
        "GPUs and none declared",
        [],
        has(real(0)),
        note="they are not used: /dev/nvidia0",
    ),
    Row(
        "another type than declared",
        [RTX],
        has(real(0, "2504")),
        problem=["has 1 GPU (1 of type 2504)", "lspci -nn -d 10de:"],
    ),
    Row(
        "real declared, simulated there",
        [RTX],
        has(*simulated_devices(1, "rtx4060ti")),
        problem=["has 1 GPU (1 of type rtx4060ti)"],
    ),
    Row("simulated declared, real there", [SIMULATED], has(real(0)), problem=["1 GPU (1 of type 2805)"]),
    Row(
        "the device file is missing",
        [RTX, RTX],
        has(
            real(0),
            bus=["0000:01:00.0", "0000:02:00.0"],
            nodeless=[{"address": "0000:02:00.0", "file": "/dev/nvidia1"}],
        ),
        problem=["0000:02:00.0", "/dev/nvidia1 is missing", "nvidia-modprobe -c 1"],
    ),
    Row(
        "the driver is dead or not there",
        [RTX],
        has(bus=["0000:01:00.0"]),
        problem=["NVIDIA's driver is not loaded", "0000:01:00.0", "deploys/nvidia.py"],
    ),
    Row(
        "the driver could not start the GPU",
        [RTX, RTX],
        has(real(0), bus=["0000:01:00.0", "0000:02:00.0"]),
        problem=["The GPU at 0000:02:00.0 is on the bus and the driver could not start it", "NVRM"],
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_becomes_of_the_gpus_of_a_node(row: Row) -> None:
    assignment = assign(NODE, DeclaredGres(tuple(row.declared), row.settings), row.found)
    lines = gres_lines(NODE, assignment.devices, row.settings)
    assert [line.removeprefix(f"NodeName={NODE} ") for line in lines] == list(row.lines)
    assert bool(assignment.problem) == bool(row.problem), assignment.problem
    for part in row.problem:
        assert part in assignment.problem
    assert assignment.note.endswith(row.note)
    assert bool(assignment.note) == bool(row.note)


@pytest.mark.parametrize("row", [row for row in ROWS if row.lines], ids=lambda row: row.name)
def test_slurm_accepts_the_lines_and_counts_them_as_slurm_conf_does(row: Row) -> None:
    devices = tuple(
        PassthroughDevice(
            pci_address=address,
            device_type="gpu",
            device_id=gpu.device_id,
            gres_type=gpu.gres_type,
            mig=gpu.mig,
        )
        for address, gpu in zip(ADDRESSES, row.declared, strict=False)
    )
    node = replace(model_node(1), passthrough=devices, gres_settings=row.settings)
    declared = DeclaredGres(tuple(row.declared), row.settings)
    assigned = assign(node.name, declared, row.found).devices
    lines = gres_lines(node.name, assigned, row.settings)
    kind = kind_of("gres.conf")
    assert kind is not None
    assert lint("\n".join([*lines, ""]), kind) == ()
    assert sorted(device.gres_type for device in assigned) == sorted(node.gres_types)
    assert declared.count == len(node.gres_types)
    if (shared := row.settings.sharing) is not None:
        assert node.gres.endswith(f",{shared[0]}:{shared[1] * len(assigned)}")


@pytest.mark.parametrize(
    ("model", "mig", "name"),
    [
        (A100, "", "nvidia_a100-sxm4-40gb"),
        (A100, "3g.20gb", "nvidia_a100_3g.20gb"),
        (H100, "1g.10gb", "nvidia_h100_80gb_hbm3_1g.10gb"),
        ("NVIDIA H200", "", "nvidia_h200"),
    ],
)
def test_the_names_that_slurmd_has_for_gpus(model: str, mig: str, name: str) -> None:
    assert nvml_name(model, mig) == name
