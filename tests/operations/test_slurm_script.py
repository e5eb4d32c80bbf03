"""The script of a change of Slurm, run for real against programs that stand in for Slurm and systemd."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hpcstate.slurm.conf import CONF_DIRECTORY
from operations import slurm_script

NODE = "compute-01"

STAND_INS = {
    "scontrol": """case "$*" in
  *"show hostnames"*) ;;
  ping) echo "Slurmctld(primary) at controller is UP" ;;
  *"show node"*)
    if [ -e "$WORLD/again" ] && grep --quiet Reason=hpcstate "$WORLD/node"; then
      rm "$WORLD/again"; sed -i "s/Reason=.*/Reason=gres count too low/" "$WORLD/node"
    fi
    cat "$WORLD/node" ;;
  *)
    printf "%s\\n" "scontrol $*" >> "$WORLD/calls"
    for word; do case "$word" in reason=*)
      [ ! -e "$WORLD/node" ] || sed -i "s%Reason=.*%Reason=${word#reason=}%" "$WORLD/node" ;;
    esac; done ;;
esac""",
    "systemctl": """printf "%s\\n" "systemctl $*" >> "$WORLD/calls"
case "$*" in
  "start slurmd" | "restart slurmd")
    ! grep --quiet refused "$WORLD/etc/gres.conf" || exit 1
    gpus=$(grep --count Name=gpu "$WORLD/etc/gres.conf") || :
    printf "NodeName=compute-01 State=%s Gres=gpu:simulated:%s(S:0) SlurmdStartTime=%s Reason=x\\n" \\
      "$(cat "$WORLD/state")" "$gpus" "$(date +%Y-%m-%dT%H:%M:%S)" > "$WORLD/node" ;;
esac""",
    "journalctl": "echo the journal",
    "sleep": ":",
}


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A node whose slurmd was started with two GPUs, and a new gres.conf with four that is staged."""
    for folder in ("etc", "applied", "staged", "bin"):
        (tmp_path / folder).mkdir()
    for name, script in STAND_INS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    for folder in ("etc", "applied"):
        (tmp_path / folder / "gres.conf").write_text("Name=gpu\n" * 2)
    (tmp_path / "staged" / "gres.conf").write_text("Name=gpu\n" * 4)
    (tmp_path / "state").write_text("IDLE+DRAIN")
    return tmp_path


def change(world: Path, begin: list[str], gpus: int) -> subprocess.CompletedProcess[str]:
    """Run the change of gres.conf to ``gpus`` GPUs in ``world``; registration is waited for no second."""
    wait = slurm_script.wait_for_registration(NODE, gpus, 0)
    text = slurm_script.change("slurmd", ["gres.conf"], ["gres.conf"], begin, wait, NODE)
    for path, folder in (
        (slurm_script.STAGED, "staged"),
        (slurm_script.APPLIED, "applied"),
        (CONF_DIRECTORY, "etc"),
    ):
        text = text.replace(path, str(world / folder))
    environment = {"PATH": f"{world / 'bin'}:{os.environ['PATH']}", "WORLD": str(world)}
    return subprocess.run(["sh", "-c", text], env=environment, capture_output=True, text=True, check=False)


def calls(world: Path) -> list[str]:
    return (world / "calls").read_text().splitlines()


@pytest.mark.parametrize("begin", [slurm_script.start("slurmd"), slurm_script.restart("slurmd")])
def test_new_gpus_that_slurm_counts_are_recorded(world: Path, begin: list[str]) -> None:
    done = change(world, begin, 4)
    assert (done.returncode, done.stderr) == (0, "")
    assert (world / "applied/gres.conf").read_text() == "Name=gpu\n" * 4
    assert not (world / "staged").exists()
    assert not [call for call in calls(world) if "scontrol update" in call]


@pytest.mark.parametrize("begin", [slurm_script.start("slurmd"), slurm_script.restart("slurmd")])
def test_a_slurmd_that_does_not_start_gets_its_old_gres_back(world: Path, begin: list[str]) -> None:
    (world / "staged/gres.conf").write_text("refused\n")
    done = change(world, begin, 4)
    assert done.returncode == 1
    assert "it runs with the old one again" in done.stderr
    assert "the journal" in done.stderr
    assert (world / "etc/gres.conf").read_text() == "Name=gpu\n" * 2
    assert calls(world)[-1].startswith(
        "scontrol update nodename=compute-01 state=drain reason=hpcstate: slurmd"
    )


def test_the_reason_is_ours_also_when_the_node_registers_once_more(world: Path) -> None:
    """With each registration that has too little, Slurm may put a reason of its own in the place of ours."""
    (world / "staged/gres.conf").write_text("refused\n")
    (world / "again").touch()
    assert change(world, slurm_script.restart("slurmd"), 4).returncode == 1
    assert not (world / "again").exists()
    assert " Reason=hpcstate: slurmd does not start" in (world / "node").read_text()
    assert [call.startswith("scontrol update") for call in calls(world)][-2:] == [True, True]


def test_a_slurmd_that_starts_with_neither_file_says_so(world: Path) -> None:
    (world / "staged/gres.conf").write_text("refused\n")
    (world / "applied/gres.conf").write_text("refused as well\n")
    done = change(world, slurm_script.restart("slurmd"), 4)
    assert (done.returncode, "neither configuration" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("gpus", "state", "message"),
    [
        (
            3,
            "IDLE+DRAIN",
            "did not register with 3 GPUs within 0 s: its state is IDLE+DRAIN, its GRES gpu:simulated:4",
        ),
        (4, "IDLE+DRAIN+INVALID_REG", "its state is IDLE+DRAIN+INVALID_REG"),
        (4, "DOWN*", "its state is DOWN*"),
    ],
)
def test_a_count_that_slurm_does_not_confirm_brings_the_old_gres_back(
    world: Path, gpus: int, state: str, message: str
) -> None:
    (world / "state").write_text(state)
    done = change(world, slurm_script.restart("slurmd"), gpus)
    assert done.returncode == 1
    assert message in done.stderr
    assert (world / "etc/gres.conf").read_text() == "Name=gpu\n" * 2
    assert calls(world)[-2] == "systemctl restart slurmd"
    assert calls(world)[-1].startswith(
        "scontrol update nodename=compute-01 state=drain reason=hpcstate: compute-01"
    )


def test_a_slurmd_without_an_earlier_configuration_is_left_as_it_is(world: Path) -> None:
    (world / "applied/gres.conf").unlink()
    (world / "applied").rmdir()
    (world / "staged/gres.conf").write_text("refused\n")
    done = change(world, slurm_script.start("slurmd"), 4)
    assert (done.returncode, "slurmd does not start\n" in done.stderr) == (1, True)
    assert (world / "etc/gres.conf").read_text() == "refused\n"


def test_a_node_whose_files_are_refused_before_anything_changed_is_not_drained(world: Path) -> None:
    (world / "node").write_text(
        "NodeName=compute-01 State=IDLE Gres=(null) SlurmdStartTime=2026-01-01T00:00:00\n"
    )
    text = slurm_script.change("slurmd", ["gres.conf"], [], ["stop 'no'"], [], NODE)
    environment = {"PATH": f"{world / 'bin'}:{os.environ['PATH']}", "WORLD": str(world)}
    done = subprocess.run(["sh", "-c", text], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "no")
    assert not (world / "calls").exists()


@pytest.mark.parametrize(("reason", "kept"), [("disk looks odd", True), ("hpcstate: Gres [root@now]", False)])
def test_a_drain_of_somebody_else_keeps_its_reason_when_a_change_fails(
    world: Path, reason: str, kept: bool
) -> None:
    shown = "NodeName=compute-01 State=IDLE+DRAIN Gres=(null) SlurmdStartTime=2026-01-01T00:00:00"
    (world / "node").write_text(f"{shown} Reason={reason}\n")
    (world / "staged/gres.conf").write_text("refused\n")
    assert change(world, slurm_script.restart("slurmd"), 4).returncode == 1
    assert kept != any("scontrol update" in call for call in calls(world))
