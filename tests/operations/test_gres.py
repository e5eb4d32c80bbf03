"""One decision about gres.conf: what the judge reads and `hpcstate inventory show` prints is what a deploy
pushes to a node whose hardware is as declared.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hpcstate import cli
from hpcstate.judge.case import case_of
from hpcstate.judge.judge import configuration_of
from hpcstate.model import (
    Cluster,
    Description,
    GresSettings,
    Metadata,
    Node,
    PassthroughDevice,
    SimulatedGpus,
)
from hpcstate.probe.gpu import GpuDevice, device_of, parse
from hpcstate.probe.mig import MigInstance
from hpcstate.slurm.gres import assign_declared, declared_gres
from hpcstate.slurm.lint.conf import lint
from operations import slurm
from tests.operations.harness import run
from tests.operations.test_slurm import IDLE, daemon, facts
from tests.unit.slurm_clusters import cluster, node

A100 = PassthroughDevice("0000:01:00.0", "gpu", device_id="20b0", gres_type="a100")
MIG = replace(A100, mig=("3g.20gb", "2g.10gb"))
RTX = PassthroughDevice("0000:02:00.0", "gpu", device_id="2805", gres_type="rtx4060ti")
BY_NUMBER = replace(RTX, gres_type="2805")
ANY = PassthroughDevice("0000:03:00.0", "gpu", gres_type="gpu")
AUDIO = PassthroughDevice("0000:02:00.1", "audio")

CAPS = "/dev/nvidia-caps/nvidia-cap{}"


def real(minor: int, device: str, *instances: MigInstance) -> GpuDevice:
    """A GPU as the fact GpuDevices tells of it."""
    found = device_of(f"/dev/nvidia{minor}", 195, minor, device, address=f"0000:0{minor}:00.0", model="A100")
    return {**found, "mig": list(instances)}


def instance(number: int, profile: str, own: int) -> MigInstance:
    files = [CAPS.format(own), CAPS.format(own + 1)]
    return MigInstance(profile=profile, gpu_instance=number, compute_instance=0, files=files)


@dataclass(frozen=True)
class Row:
    """What a node declares, what its facts say, and the lines of gres.conf without NodeName."""

    name: str
    node: Node
    devices: Sequence[GpuDevice]
    lines: Sequence[str]


FIRST, SECOND = instance(1, "3g.20gb", 12), instance(2, "2g.10gb", 21)
ROWS = [
    Row(
        "a MIG GPU before a whole one",
        replace(node(1), passthrough=(MIG, RTX, AUDIO)),
        [real(0, "20b0", FIRST, SECOND), real(1, "2805")],
        [
            f"Name=gpu Type=a100_3g.20gb MultipleFiles=/dev/nvidia0,{CAPS.format(12)},{CAPS.format(13)}",
            f"Name=gpu Type=a100_2g.10gb MultipleFiles=/dev/nvidia0,{CAPS.format(21)},{CAPS.format(22)}",
            "Name=gpu Type=rtx4060ti File=/dev/nvidia1",
        ],
    ),
    Row(
        # /proc/driver/nvidia-caps/mig-minors: "gpu1/gi1/access 147"
        "a MIG GPU after a whole one",
        replace(node(1), passthrough=(RTX, MIG)),
        [real(0, "2805"), real(1, "20b0", instance(1, "3g.20gb", 147), instance(2, "2g.10gb", 156))],
        [
            "Name=gpu Type=rtx4060ti File=/dev/nvidia0",
            f"Name=gpu Type=a100_3g.20gb MultipleFiles=/dev/nvidia1,{CAPS.format(147)},{CAPS.format(148)}",
            f"Name=gpu Type=a100_2g.10gb MultipleFiles=/dev/nvidia1,{CAPS.format(156)},{CAPS.format(157)}",
        ],
    ),
    Row(
        "GPUs passed through: a name, a number, one that takes any",
        replace(node(1), passthrough=(ANY, A100, BY_NUMBER)),
        [real(0, "2204"), real(1, "20b0"), real(2, "2805")],
        [
            "Name=gpu Type=gpu File=/dev/nvidia0",
            "Name=gpu Type=a100 File=/dev/nvidia1",
            "Name=gpu Type=2805 File=/dev/nvidia2",
        ],
    ),
    Row(
        "shares of GPUs",
        replace(node(1), passthrough=(A100,), gres_settings=GresSettings(shard=4)),
        [real(0, "20b0")],
        ["Name=gpu Type=a100 File=/dev/nvidia0", "Name=shard Count=4 File=/dev/nvidia0"],
    ),
    Row(
        "slurmd looks for them itself",
        replace(node(1), passthrough=(MIG,), gres_settings=GresSettings(autodetect="nvml")),
        [real(0, "20b0", FIRST, SECOND)],
        ["AutoDetect=nvml"],
    ),
    Row(
        "simulated GPUs",
        replace(node(1), simulated_gpus=SimulatedGpus(12)),
        [device_of(f"/dev/nvidia{n}", 195, n, "simulated", simulated=True) for n in range(12)],
        [f"Name=gpu Type=simulated File=/dev/nvidia{number}" for number in range(12)],
    ),
    Row("no GPUs", node(1), [], []),
]


def deployed(row: Row) -> str:
    """The gres.conf that the operation stages on the node."""
    gpus = parse("")
    gpus["devices"] = list(row.devices)
    gpus["autodetect"], gpus["nvml_library"] = ["nvml"], True
    host = facts({}, {}, slurmd=daemon(), node=IDLE) | {"facts.gpu.GpuDevices": gpus}
    outcome = run(slurm.compute_daemon, row.node.name, {}, declared_gres(row.node), facts=host)
    staged = [command for command in outcome.commands if isinstance(command, dict) and "_stdin" in command]
    (text,) = [str(command["_stdin"]) for command in staged if "gres.conf" in str(command["command"])]
    return text


def shown(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What `hpcstate inventory show --json` says of the worker."""
    monkeypatch.setattr("hpcstate.schema.load", lambda path: Description(path, Metadata("lab"), (cluster,)))
    cli.main(["inventory", "show", "lab.yaml", "--json"])
    lines: list[str] = json.loads(capsys.readouterr().out)["clusters"][0]["nodes"][1]["gres_lines"]
    return lines


def lines_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_judge_inventory_and_deploy_have_one_gres_conf(
    row: Row, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = cluster(row.node)
    judged = configuration_of(lab).gres[row.node.name]
    pushed = deployed(row)
    assert [line.removeprefix(f"NodeName={row.node.name} ") for line in lines_of(pushed)] == list(row.lines)
    assert judged == pushed
    assert shown(lab, monkeypatch, capsys) == lines_of(pushed)
    assert lint(pushed, "gres") == ()


@pytest.mark.parametrize("row", ROWS[:2], ids=lambda row: row.name)
def test_the_judge_makes_the_files_of_mig_instances(row: Row) -> None:
    case = case_of(configuration_of(cluster(row.node)), Path("root.tar"))
    assert {device["file"] for device in row.devices} < set(case.devices)
    assert {file for device in row.devices for mig in device["mig"] for file in mig["files"]} < set(
        case.devices
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_as_many_devices_as_slurm_conf_counts(row: Row) -> None:
    devices = assign_declared(row.node.name, declared_gres(row.node)).devices
    assert sorted(device.gres_type for device in devices) == sorted(row.node.gres_types)
