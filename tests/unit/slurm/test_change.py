"""The script of a change of Slurm, run for real against programs that stand in for Slurm and systemd."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hpcstate.slurm import change as slurm_change
from hpcstate.slurm.conf import CONF_DIRECTORY

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


def change(world: Path, begin: slurm_change.Act, gpus: int) -> subprocess.CompletedProcess[str]:
    """Run the change of gres.conf to ``gpus`` GPUs in ``world``; registration is waited for no second."""
    return run(
        world,
        slurm_change.change("slurmd", ["gres.conf"], ["gres.conf"], begin, wait_s=0, node=NODE, gpus=gpus),
    )


def run(world: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run a change with the folders of ``world`` in the place of the node's."""
    for path, folder in (
        (slurm_change.STAGED, "staged"),
        (slurm_change.APPLIED, "applied"),
        (CONF_DIRECTORY, "etc"),
    ):
        text = text.replace(path, str(world / folder))
    environment = {"PATH": f"{world / 'bin'}:{os.environ['PATH']}", "WORLD": str(world)}
    return subprocess.run(["sh", "-c", text], env=environment, capture_output=True, text=True, check=False)


def calls(world: Path) -> list[str]:
    return (world / "calls").read_text().splitlines()


@pytest.mark.parametrize("begin", ["start", "restart"])
def test_new_gpus_that_slurm_counts_are_recorded(world: Path, begin: slurm_change.Act) -> None:
    done = change(world, begin, 4)
    assert (done.returncode, done.stderr) == (0, "")
    assert (world / "applied/gres.conf").read_text() == "Name=gpu\n" * 4
    assert not (world / "staged").exists()
    assert not [call for call in calls(world) if "scontrol update" in call]


@pytest.mark.parametrize("begin", ["start", "restart"])
def test_a_slurmd_that_does_not_start_gets_its_old_gres_back(world: Path, begin: slurm_change.Act) -> None:
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
    assert change(world, "restart", 4).returncode == 1
    assert not (world / "again").exists()
    assert " Reason=hpcstate: slurmd does not start" in (world / "node").read_text()
    assert [call.startswith("scontrol update") for call in calls(world)][-2:] == [True, True]


def test_a_slurmd_that_starts_with_neither_file_says_so(world: Path) -> None:
    (world / "staged/gres.conf").write_text("refused\n")
    (world / "applied/gres.conf").write_text("refused as well\n")
    done = change(world, "restart", 4)
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
    done = change(world, "restart", gpus)
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
    done = change(world, "start", 4)
    assert (done.returncode, "slurmd does not start\n" in done.stderr) == (1, True)
    assert (world / "etc/gres.conf").read_text() == "refused\n"


def test_a_node_whose_files_are_refused_before_anything_changed_is_not_drained(world: Path) -> None:
    (world / "node").write_text(
        "NodeName=compute-01 State=IDLE Gres=(null) SlurmdStartTime=2026-01-01T00:00:00\n"
    )
    (world / "bin/scontrol").write_text(
        f'#!/bin/sh\n[ -z "${{SLURM_CONF-}}" ] || exit 1\n{STAND_INS["scontrol"]}\n'
    )
    (world / "staged/slurm.conf").write_text("Typo=1\n")
    names = ["slurm.conf", "gres.conf"]
    done = run(world, slurm_change.change("slurmd", names, names, "restart", wait_s=0, node=NODE, gpus=4))
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        1,
        "Slurm does not accept the new slurm.conf; nothing was changed",
    )
    assert (world / "etc/gres.conf").read_text() == "Name=gpu\n" * 2
    assert not (world / "calls").exists()


@pytest.mark.parametrize(("reason", "kept"), [("disk looks odd", True), ("hpcstate: Gres [root@now]", False)])
def test_a_drain_of_somebody_else_keeps_its_reason_when_a_change_fails(
    world: Path, reason: str, kept: bool
) -> None:
    shown = "NodeName=compute-01 State=IDLE+DRAIN Gres=(null) SlurmdStartTime=2026-01-01T00:00:00"
    (world / "node").write_text(f"{shown} Reason={reason}\n")
    (world / "staged/gres.conf").write_text("refused\n")
    assert change(world, "restart", 4).returncode == 1
    assert kept != any("scontrol update" in call for call in calls(world))


def slurmctld(
    world: Path, act: slurm_change.Act, *, enable: bool = False
) -> subprocess.CompletedProcess[str]:
    names, staged = ["cgroup.conf", "gres.conf"], ["gres.conf"]
    (world / "etc/cgroup.conf").write_text("as it was\n")
    return run(world, slurm_change.change("slurmctld", names, staged, act, wait_s=0, enable=enable))


@pytest.mark.parametrize("code", [0, 1])
def test_slurmctld_reads_its_files_again_or_has_its_old_ones(world: Path, code: int) -> None:
    (world / "bin/scontrol").write_text(
        f'#!/bin/sh\ncase "$*" in ping) echo is UP ;; reconfigure) exit {code} ;; esac\n'
    )
    done = slurmctld(world, "reconfigure")
    refused = "slurmctld refuses the new configuration and goes on with the old one\n" in done.stderr
    assert (done.returncode, refused) == (code, bool(code))
    gpus = 2 if code else 4
    assert (world / "etc/gres.conf").read_text() == "Name=gpu\n" * gpus
    recorded = {path.name: path.read_text() for path in (world / "applied").iterdir()}
    others = {} if code else {"cgroup.conf": "as it was\n"}
    assert recorded == {"gres.conf": "Name=gpu\n" * gpus, **others}


def test_a_change_that_asks_for_nothing_installs_its_files_and_enables_the_daemon(world: Path) -> None:
    done = slurmctld(world, "", enable=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert calls(world) == ["systemctl enable --quiet slurmctld"]
    assert (world / "etc/gres.conf").read_text() == "Name=gpu\n" * 4
    assert not (world / "staged").exists()


def test_a_silent_slurmctld_is_told(world: Path) -> None:
    (world / "bin/scontrol").write_text("#!/bin/sh\nexit 1\n")
    done = slurmctld(world, "restart")
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "slurmctld does not answer after 0 s")


@pytest.mark.parametrize("refused", [False, True])
def test_slurmd_reads_its_files_again_and_shows_it_by_its_age(world: Path, refused: bool) -> None:
    """Its new process is younger than the files; when it stays the old one, the old files come back."""
    later = 9999 if refused else 0
    (world / "bin/ps").write_text(
        f'#!/bin/sh\nif grep --quiet reload "$WORLD/calls"; then echo {later}; else echo 9999; fi\n'
    )
    (world / "bin/ps").chmod(0o755)
    text = slurm_change.change("slurmd", ["gres.conf"], ["gres.conf"], "reload", wait_s=None, node=NODE)
    done = run(world, text)
    assert (done.returncode, "slurmd refuses the new configuration" in done.stderr) == (refused, refused)
    assert (world / "etc/gres.conf").read_text() == "Name=gpu\n" * (2 if refused else 4)
    assert calls(world).count("systemctl reload slurmd") == (5 if refused else 1)
    assert (world / "applied/gres.conf").read_text() == "Name=gpu\n" * (2 if refused else 4)


def test_a_slurmctld_that_hangs_as_it_reads_its_files_is_started_again(world: Path) -> None:
    """Seen with 24.11.5: `scontrol reconfigure` runs into its time, and slurmctld never answers again."""
    (world / "bin/scontrol").write_text(
        '#!/bin/sh\ncase "$*" in\nreconfigure) touch "$WORLD/hangs"; exit 1 ;;\n'
        'ping) [ -e "$WORLD/hangs" ] || echo is UP ;;\nesac\n'
    )
    (world / "bin/systemctl").write_text(
        '#!/bin/sh\nprintf "%s\\n" "systemctl $*" >>"$WORLD/calls"\n'
        'case $* in "restart slurmctld") rm "$WORLD/hangs" ;; esac\n'
    )
    (world / "bin/systemctl").chmod(0o755)
    done = slurmctld(world, "reconfigure")
    assert done.returncode == 0, done.stderr
    assert "slurmctld hangs as it reads its files anew" in done.stderr
    assert [call for call in calls(world) if "slurmctld" in call] == [
        "systemctl kill --signal=KILL slurmctld",
        "systemctl reset-failed slurmctld",
        "systemctl restart slurmctld",
    ]
    assert (world / "applied/gres.conf").read_text() == "Name=gpu\n" * 4
