"""The scratch folder of a job: made by its user, removed when slurmctld has the job no more."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate import paths, programs, schema
from hpcstate.model import Mount
from hpcstate.node import homes, scratch, timers
from hpcstate.slurm.conf import TASK_PROLOG, slurm_conf

GPU = schema.load(paths.ROOT / "inventories" / "gpu.yaml").clusters[0]
SERVED = replace(GPU, scratch="/scratch")
NAS = Mount("nfs", "nas:/x", "/data", "")
ON_MOUNT = replace(GPU, scratch="/data/jobs", nodes=tuple(replace(node, mounts=(NAS,)) for node in GPU.nodes))
HEAD, WORKER = GPU.controller, GPU.workers[0]
PROLOG = paths.ROOT / "hpcstate" / "node" / "task_prolog.sh"
SWEEP = paths.ROOT / "hpcstate" / "node" / "scratch_sweep.sh"


def test_without_it_there_is_nothing() -> None:
    assert all(not scratch.files(GPU, node) and not scratch.mounts(GPU, node) for node in GPU.nodes)
    assert timers.timers(GPU, HEAD) == () and "TaskProlog" not in slurm_conf(GPU)
    assert homes.served(GPU) == ("/home",)


def test_on_the_data_volume() -> None:
    (mount,) = scratch.mounts(SERVED, WORKER)
    assert (mount.source, mount.mount_point) == (f"{HEAD.address}:/srv/hpcstate/scratch", "/scratch")
    assert not scratch.mounts(SERVED, HEAD) and not scratch.files(SERVED, HEAD)
    assert f"TaskProlog={TASK_PROLOG}\n" in slurm_conf(SERVED)
    assert "\nscratch=/scratch prefix=''\n" in scratch.files(SERVED, WORKER)[TASK_PROLOG]
    exports = homes.server_files(SERVED)[homes.EXPORTS]
    assert "/srv/hpcstate/scratch -rw" in exports and "mountpoint=/srv/hpcstate," in exports
    assert exports.count(str(WORKER.address)) == 2 and exports.count("fsid=") == 2
    assert homes.FSID != homes.SCRATCH_FSID
    assert "\nscratch=/srv/hpcstate/scratch prefix='' mount=/srv/hpcstate\n" in scratch.sweep(SERVED)


def test_on_a_mount_a_folder_bears_the_clusters_name() -> None:
    assert not scratch.mounts(ON_MOUNT, WORKER) and homes.served(ON_MOUNT) == ("/home",)
    assert f"\nscratch=/data/jobs prefix={GPU.name}-\n" in scratch.files(ON_MOUNT, WORKER)[TASK_PROLOG]
    assert f"\nscratch=/data/jobs prefix={GPU.name}- mount=/data\n" in scratch.sweep(ON_MOUNT)


def test_the_timer_is_the_controllers() -> None:
    (timer,) = timers.timers(SERVED, HEAD)
    assert timers.timers(SERVED, WORKER) == ()
    assert f"# {timers.MARK}\n" in timer.timer and "ExecStart=/usr/local/lib/hpcstate/" in timer.service


def prolog(place: Path, job: str = "12", **more: str) -> list[str]:
    """What the program says to Slurm for a task of ``job``."""
    text = programs.command(PROLOG, scratch=place, prefix="lab-")
    done = subprocess.run(
        ["sh", "-c", text],
        env={"PATH": os.defpath, "SLURM_JOB_ID": job, "SLURM_PROCID": "0", **more},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_each_task_is_told_of_the_folder_that_the_first_one_makes(tmp_path: Path) -> None:
    for _ in range(2):
        assert prolog(tmp_path) == [f"export SCRATCH={tmp_path}/lab-12"]
    assert (tmp_path / "lab-12").stat().st_mode & 0o7777 == 0o700


def test_what_the_user_did_to_it_stays(tmp_path: Path) -> None:
    prolog(tmp_path)
    (tmp_path / "lab-12").chmod(0o750)
    prolog(tmp_path)
    assert (tmp_path / "lab-12").stat().st_mode & 0o777 == 0o750


def test_without_a_place_the_task_runs_and_the_first_one_says_so(tmp_path: Path) -> None:
    unset, said = prolog(tmp_path / "away")
    assert unset == "unset SCRATCH" and said.startswith("print ") and "lab-12 cannot be made" in said
    assert prolog(tmp_path / "away", SLURM_PROCID="1") == ["unset SCRATCH"]


def test_a_folder_that_is_none_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "lab-12").symlink_to(tmp_path / "there")
    assert prolog(tmp_path)[0] == "unset SCRATCH"
    assert prolog(tmp_path, job="") == prolog(tmp_path, job="../x") == []


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A scratch folder with those of three jobs, with others beside them, and what the sweep asks."""
    folder = tmp_path / "jobs"
    for name in ("lab-1", "lab-2", "lab-30", "lab-1x", "other-1", "lab-"):
        (folder / name / "deep").mkdir(parents=True)
        (folder / name / "deep" / "file").write_text("x")
    (folder / "lab-4").write_text("no folder")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (("squeue", 'cat "${0%/*}/../queue" 2>/dev/null'), ("setpriv", 'shift 3; exec "$@"')):
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    (tmp_path / "mountinfo").write_text(f"22 1 0:1 / {tmp_path} rw - ext4 /dev/vdc rw\n")
    return folder


def sweep(place: Path, user: int) -> set[str]:
    """What is left when the program has run, where all of it belongs to ``user``."""
    root = place.parent
    text = programs.command(
        SWEEP, scratch=place, prefix="lab-", mount=root, mountinfo=root / "mountinfo"
    ).replace("PATH=/usr/sbin", f"PATH={root}/tools:/usr/sbin")
    # The tests may run as root, whose folders are left alone.
    text = text.replace("'%U %G %f\\n'", f"'{user} %G %f\\n'")
    done = subprocess.run(
        ["sh", "-c", text], capture_output=True, text=True, check=True, timeout=60, cwd=root
    )
    assert done.stderr == ""
    return {path.name for path in place.iterdir()}


OTHERS = {"lab-1x", "other-1", "lab-", "lab-4"}


def test_the_folders_of_jobs_that_are_gone_are_removed_and_no_others(place: Path) -> None:
    (place.parent / "queue").write_text("1 2001\n30         2001   \n")
    (place / "lab-2" / "deep").chmod(0o500)
    assert sweep(place, 2001) == OTHERS | {"lab-1", "lab-30"}


def test_a_folder_with_the_number_of_somebody_elses_job_goes(place: Path) -> None:
    (place.parent / "queue").write_text("1 2002\n2 2001\n")
    assert sweep(place, 2001) == OTHERS | {"lab-2"}


def test_where_slurmctld_is_silent_nothing_goes(place: Path) -> None:
    assert sweep(place, 2001) == OTHERS | {"lab-1", "lab-2", "lab-30"}


def test_an_empty_queue_is_an_answer(place: Path) -> None:
    (place.parent / "queue").write_text("")
    assert sweep(place, 2001) == OTHERS


def test_what_is_roots_stays(place: Path) -> None:
    (place.parent / "queue").write_text("")
    assert sweep(place, 0) == OTHERS | {"lab-1", "lab-2", "lab-30"}


def test_without_its_mount_nothing_is_looked_at(place: Path) -> None:
    (place.parent / "queue").write_text("")
    (place.parent / "mountinfo").write_text("22 1 0:1 / / rw - ext4 /dev/vda1 rw\n")
    assert sweep(place, 2001) == OTHERS | {"lab-1", "lab-2", "lab-30"}


def test_a_place_that_is_missing_is_made_for_all(place: Path) -> None:
    missing = place.parent / "new"
    assert sweep(missing, 2001) == set()
    assert missing.stat().st_mode & 0o7777 == 0o1777


def test_a_run_may_be_asked_for_at_any_time() -> None:
    (timer,) = timers.timers(SERVED, HEAD)
    assert "StartLimitIntervalSec=0\n" in timer.service and "OnUnitInactiveSec=60\n" in timer.timer
