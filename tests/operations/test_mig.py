"""operations.mig: made, changed, removed, left alone, refused; and its script, run for real."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hpcstate.gpu import mig as decided
from hpcstate.slurm.gres import DeclaredGpu, DeclaredGres
from operations import mig
from tests.operations.harness import Outcome, run
from tests.unit.slurm.test_gres import A100, has, instance, real

NODE = "compute-01"
ADDRESS = "0000:01:00.0"
SPLIT = DeclaredGres((DeclaredGpu("a100", "20b0", mig=("3g.20gb", "2g.10gb")),))
WHOLE = DeclaredGres((DeclaredGpu("a100", "20b0"),))
IS_WHOLE = has(real(0, "20b0", model=A100))
IS_SPLIT = has(real(0, "20b0", model=A100, mig=[instance(1, "2g.10gb"), instance(2, "3g.20gb")]))


def files(*profiles: str) -> dict[str, Any]:
    """The fact about our files when they say that the GPU is split into ``profiles``."""
    return {
        path: {"sha256": hashlib.sha256(text.encode()).hexdigest(), "mode": "644", "owner": "root:root"}
        for path, text in decided.files({ADDRESS: profiles}).items()
    }


def instances(
    declared: DeclaredGres, gpus: Any, there: dict[str, Any] | None = None, jobs: Any = ()
) -> Outcome:
    facts = {
        "facts.text_files.TextFiles": {"*": there or {}},
        "facts.gpu.GpuDevices": gpus,
        "facts.slurm.SlurmJobs": {"*": list(jobs)},
    }
    return run(mig.instances, NODE, declared, facts=facts)


def texts(outcome: Outcome) -> list[str]:
    return [
        command if isinstance(command, str) else str(command.get("command", command.get("function")))
        for command in outcome.commands
    ]


def test_instances_are_made_now_and_at_every_boot() -> None:
    outcome = instances(SPLIT, IS_WHOLE)
    assert f"{ADDRESS} 3g.20gb 2g.10gb\n" in outcome.commands[0]["_stdin"]  # type: ignore[index]
    assert texts(outcome)[1].endswith(f"\nreplace_file {decided.SCRIPT} 755")
    assert texts(outcome)[3:] == [
        decided.SCRIPT,
        "systemctl daemon-reload && systemctl enable --quiet hpcstate-mig.service",
    ]


def test_other_instances_are_made_anew() -> None:
    outcome = instances(SPLIT, has(real(0, "20b0", mig=[instance(1, "7g.40gb")])), files("7g.40gb"))
    assert decided.SCRIPT in texts(outcome)


def test_instances_that_are_no_longer_declared_go_with_all_that_made_them() -> None:
    outcome = instances(WHOLE, IS_SPLIT, files("3g.20gb", "2g.10gb"))
    assert f"{ADDRESS} whole\n" in outcome.commands[0]["_stdin"]  # type: ignore[index]
    assert texts(outcome)[3:] == [
        decided.SCRIPT,
        "systemctl disable --quiet hpcstate-mig.service",
        "rm -f " + " ".join(decided.FILES),
    ]


@pytest.mark.parametrize(
    ("declared", "gpus", "there", "said"),
    [
        (SPLIT, IS_SPLIT, files("3g.20gb", "2g.10gb"), "the GPUs of compute-01 are split as declared"),
        (WHOLE, IS_WHOLE, None, "compute-01 declares no MIG instances"),
    ],
)
def test_what_is_right_is_left_alone(declared: Any, gpus: Any, there: Any, said: str) -> None:
    outcome = instances(declared, gpus, there)
    assert (outcome.commands, outcome.noops) == ([], [said])


def test_instances_are_not_taken_from_jobs() -> None:
    (command,) = instances(SPLIT, IS_WHOLE, jobs=[7, 8]).commands
    assert isinstance(command, dict)
    assert "jobs 7, 8 hold compute-01: 0000:01:00.0 cannot be split" in command["args"][0]


SMI = r"""#!/usr/bin/env python3
# A nvidia-smi with one A100, whose state is a file; what it prints has the form of NVIDIA's MIG user guide.
import json, os, sys
path = os.path.join(os.environ["WORLD"], "gpu.json")
gpu = json.load(open(path))
words = sys.argv[1:]
with open(os.path.join(os.environ["WORLD"], "calls"), "a") as calls:
    calls.write(" ".join(words) + "\n")
if "--query-gpu=mig.mode.current" in words[-2]:
    print(gpu["mode"])
elif "-mig" in words:
    gpu["pending"] = "Enabled" if words[-1] == "1" else "Disabled"
    gpu["mode"] = gpu["mode"] if gpu["needs_reset"] else gpu["pending"]
elif "--gpu-reset" in words:
    if gpu["busy"]:
        sys.exit("In use by another client")
    gpu["mode"] = gpu["pending"]
elif "-lgi" in words:
    if not gpu["instances"]:
        sys.exit("No GPU instances found: Not Found")
    print("+----------+\n| GPU instances:                                        |")
    for number, profile in enumerate(gpu["instances"], 1):
        print(f"|   0  MIG {profile:<17}{9:>2}{number:>9}          4:4     |")
elif "-dci" in words:
    pass
elif "-dgi" in words:
    if gpu["busy"]:
        sys.exit("Unable to destroy GPU instance: In use by another client")
    gpu["instances"] = []
elif "-cgi" in words:
    asked = words[words.index("-cgi") + 1].split(",")
    if sum(int(profile[0]) for profile in asked) > 7:
        sys.exit("Insufficient resources")
    gpu["instances"] = asked
json.dump(gpu, open(path, "w"))
"""


@pytest.fixture
def world(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/nvidia-smi").write_text(SMI)
    (tmp_path / "bin/nvidia-smi").chmod(0o755)
    return tmp_path


def gpu(
    world: Path, *instances: str, mode: str = "Disabled", needs_reset: bool = False, busy: bool = False
) -> None:
    state = {
        "mode": mode,
        "pending": mode,
        "instances": instances,
        "needs_reset": needs_reset,
        "busy": busy,
    }
    (world / "gpu.json").write_text(json.dumps(state))


def split(world: Path, *profiles: str) -> subprocess.CompletedProcess[str]:
    """Run the script for a GPU that should have ``profiles``."""
    (world / "mig.conf").write_text(decided.files({ADDRESS: profiles})[decided.CONFIGURATION])
    script = decided.files({})[decided.SCRIPT]
    environment = {"PATH": f"{world / 'bin'}:{os.environ['PATH']}", "WORLD": str(world)}
    return subprocess.run(
        ["sh", "-s", str(world / "mig.conf")],
        input=script,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def calls(world: Path) -> list[str]:
    return (world / "calls").read_text().splitlines()


def test_the_script_splits_a_whole_gpu_and_then_leaves_it_alone(world: Path) -> None:
    gpu(world)
    done = split(world, "3g.20gb", "2g.10gb")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"mig -i {ADDRESS} -cgi 3g.20gb,2g.10gb -C" in calls(world)
    (world / "calls").unlink()
    assert split(world, "2g.10gb", "3g.20gb").stdout == ""
    assert not [call for call in calls(world) if "-cgi" in call or "-mig" in call]


def test_the_script_resets_a_gpu_that_needs_it(world: Path) -> None:
    gpu(world, needs_reset=True)
    assert split(world, "7g.40gb").returncode == 0
    assert f"-i {ADDRESS} --gpu-reset" in calls(world)


def test_the_script_replaces_instances_and_makes_a_gpu_whole_again(world: Path) -> None:
    gpu(world, "7g.40gb", mode="Enabled")
    assert split(world, "1g.5gb", "1g.5gb").returncode == 0
    assert split(world).returncode == 0
    assert '"mode": "Disabled"' in (world / "gpu.json").read_text()
    (world / "calls").unlink()
    assert split(world).returncode == 0
    assert not [call for call in calls(world) if "-mig" in call]


@pytest.mark.parametrize(
    ("state", "profiles", "message"),
    [
        ({"needs_reset": True, "busy": True}, ["7g.40gb"], "then reboot this node"),
        ({}, ["4g.20gb", "4g.20gb"], "do not fit on 0000:01:00.0 together"),
    ],
)
def test_the_script_says_what_to_do(world: Path, state: Any, profiles: list[str], message: str) -> None:
    gpu(world, **state)
    done = split(world, *profiles)
    assert (done.returncode, message in done.stderr) == (1, True), done.stderr


def test_the_script_takes_nothing_from_a_user(world: Path) -> None:
    gpu(world, "7g.40gb", mode="Enabled", busy=True)
    done = split(world, "3g.20gb")
    assert (done.returncode, "something uses them" in done.stderr) == (1, True), done.stderr
    assert '"7g.40gb"' in (world / "gpu.json").read_text()
