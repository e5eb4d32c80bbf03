"""Which containers are in use: real processes that hold files open, or name them; jobs by their scripts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hpcstate.errors import HpcstateError
from hpcstate.registry import use as registry_use

ONE = "base-images/mpi-minimal-1.0-0123456789ab.sif"
TWO = "ml-frameworks/torch-2.1-aaaaaaaaaaaa.sif"
GIVEN = "custom-images/tool-2.0-bbbbbbbbbbbb.sif"
ROOT = "/opt/containers"


def out(script: str, **environment: str) -> str:
    return subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=True, env={**environment} or None
    ).stdout


def test_an_open_file_and_a_named_one_are_in_use(tmp_path: Path) -> None:
    root = tmp_path / "it's"
    for name in (ONE, TWO):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys; f = open(sys.argv[1]); print(flush=True); input()", root / ONE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    # Not a shell: a child of it has the same arguments until it is what it becomes.
    namer = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()", f"{root}/{TWO}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        for process in (holder, namer):
            assert process.stdout is not None
            process.stdout.readline()
        found = registry_use.parse("n1", out(registry_use.node_command(str(root))), str(root))
    finally:
        for process in (holder, namer):
            process.kill()
            process.wait()
    assert set(found) == {ONE, TWO}
    assert f"process {holder.pid} on n1" in found.values()
    assert registry_use.parse("n1", out(registry_use.node_command(str(root))), str(root)) == {}


def test_a_process_of_a_job_is_named_by_its_job_and_a_loop_device_too(tmp_path: Path) -> None:
    (tmp_path / "proc/77/fd").mkdir(parents=True)
    (tmp_path / "proc/77/fd/3").symlink_to(f"{ROOT}/{ONE}")
    (tmp_path / "proc/77/cgroup").write_text("0::/system.slice/slurmstepd.scope/job_12/step_0/user/task_0\n")
    (tmp_path / "sys/block/loop0/loop").mkdir(parents=True)
    (tmp_path / "sys/block/loop0/loop/backing_file").write_text(f"{ROOT}/{TWO}\n")
    text = out(registry_use.node_command(ROOT, f"{tmp_path}/proc", f"{tmp_path}/sys"))
    assert registry_use.parse("n1", text) == {ONE: "job 12 on n1", TWO: "a loop device of n1"}


def test_a_removed_file_that_is_still_open_is_in_use() -> None:
    line = f"process 5 0::/ {ROOT}/{ONE} (deleted)\n"
    assert registry_use.parse("n1", line) == {ONE: "process 5 on n1"}


@pytest.mark.parametrize("line", ["find: error", "process", "nothing of ours"])
def test_what_is_no_use_is_an_error(line: str) -> None:
    if line == "process":
        assert registry_use.parse("n1", line) == {}
        return
    with pytest.raises(HpcstateError, match="no use of a container"):
        registry_use.parse("n1", line)


@pytest.fixture
def slurm(tmp_path: Path) -> str:
    """PATH with a Slurm that has the jobs 7 and 9 (the array 8), and whose state folder has scripts."""
    for job, name in ((7, ONE), (8, TWO), (6, ONE.replace("1.0", "0.9"))):
        script = tmp_path / f"state/hash.{job % 10}/job.{job}/script"
        script.parent.mkdir(parents=True)
        script.write_text(f"#!/bin/sh\nsrun container-exec '{ROOT}/{name}' hostname; true\n")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (
        ("scontrol", f"echo 'StateSaveLocation       = {tmp_path}/state'"),
        (
            "squeue",
            'case "$*" in *Container*) '
            f"printf '%12s%60s\\n' 7 '' 11 {ROOT}/{GIVEN} 12 /home/hpc/own.sif;; "
            "*) echo '7 7'; echo '9 8';; esac",
        ),
    ):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    return f"{programs}:/usr/bin:/bin"


def test_scripts_of_jobs_that_wait_or_run(slurm: str) -> None:
    text = out(registry_use.jobs_command(), PATH=slurm)
    assert registry_use.parse("controller", text) == {
        ONE: "job 7, whose script names it",
        TWO: "job 8, whose script names it",
        GIVEN: "job 11, which waits for it or runs it",
    }


@pytest.mark.parametrize("silent", ["scontrol", "squeue"])
def test_a_silent_slurm_is_not_one_without_jobs(slurm: str, silent: str) -> None:
    (Path(slurm.partition(":")[0]) / silent).write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(subprocess.CalledProcessError):
        out(registry_use.jobs_command(), PATH=slurm)


def test_the_uses_of_all_nodes_are_one() -> None:
    assert registry_use.merged({"a": {ONE: "x"}, "b": {ONE: "y", TWO: "z"}}) == {ONE: "x", TWO: "z"}
