"""What jobs leave on a node: told from what runs there by right."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpcstate.health import processes
from hpcstate.health.processes import Process, remains, running_jobs, strays

STEPD = "0::/system.slice/slurmstepd.scope/job_{}/step_0/user/task_0\n"
ME = os.getuid()


def process(root: Path, pid: int, name: str, cgroup: str, cmdline: str = "", gpu: str = "") -> None:
    folder = root / "proc" / str(pid)
    (folder / "fd").mkdir(parents=True)
    (folder / "comm").write_text(f"{name}\n")
    (folder / "cgroup").write_text(cgroup)
    (folder / "cmdline").write_bytes((cmdline or name).encode() + b"\0")
    if gpu:
        (folder / "fd" / "3").symlink_to(gpu)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node on which job 7 runs, job 8 has ended, and this user is a person."""
    monkeypatch.setattr(processes, "PEOPLE", range(ME, ME + 1))
    process(tmp_path, 10, "slurmstepd", "0::/system.slice/slurmstepd.scope/job_7", "slurmstepd: [7.extern]")
    process(tmp_path, 11, "python", STEPD.format(7), gpu="/dev/nvidia0")
    process(tmp_path, 12, "python", STEPD.format(8), gpu="/dev/nvidia1")
    process(tmp_path, 13, "bash", "0::/user.slice/user-1500.slice/session-3.scope\n")
    process(tmp_path, 14, "nohup", "0::/system.slice/slurmd.service\n")
    (tmp_path / "proc" / "self").mkdir()
    tmp = tmp_path / "tmp/8"
    (tmp_path / "proc/self/mountinfo").write_text(f"1 2 3 / {tmp}/.ns rw - nsfs nsfs rw\n")
    for folder in ("tmp/7", "tmp/8", "tmp/other", "dev/shm"):
        (tmp_path / folder).mkdir(parents=True)
    for job in (7, 8):
        (tmp_path / f"sys/fs/cgroup/system.slice/slurmstepd.scope/job_{job}").mkdir(parents=True)
    return tmp_path


def test_a_job_is_known_by_its_stepd(root: Path) -> None:
    assert running_jobs(root / "proc") == {7}
    assert running_jobs() == running_jobs(Path("/proc"))


def test_what_is_left(root: Path) -> None:
    (root / "dev/shm/left").write_text("x" * 4096)
    (root / "proc/11/comm").unlink()  # it ends while it is looked at
    (root / "proc/13/cgroup").write_text("0::/system.slice/cron.service\n")
    found = remains({"job_tmp": "/tmp"}, jobs={7}, root=root)
    slice_ = "slurmstepd.scope"
    assert found == [
        f"process 12 python of user {ME} in the control group of job 8, which has ended, "
        "has /dev/nvidia1 open",
        f"process 13 bash of user {ME}",
        f"process 14 nohup of user {ME}",
        f"cgroup {slice_}/job_8",
        f"mount {root}/tmp/8",
        f"scratch {root}/tmp/8",
        *([f"shm {root}/dev/shm/left of user {ME}, 4 KiB"] if not _busy(root) else []),
    ]


def _busy(root: Path) -> bool:
    return any(each.job == 7 for each in processes.of_people(root / "proc") if each.uid == ME)


def test_an_epilog_tells_of_its_own_job_alone(root: Path) -> None:
    found = remains({"job_tmp": "/tmp"}, jobs={7}, ended=8, uid=ME, root=root)
    assert [line.split(" ")[0] for line in found] == ["process", "process", "cgroup"]
    assert remains({"job_tmp": "/tmp"}, jobs={7}, ended=9, uid=ME + 1, root=root) == []


def test_the_memory_of_who_still_works_is_not_left(root: Path) -> None:
    (root / "dev/shm/mine").write_text("x")
    assert not [line for line in remains({"job_tmp": "/tmp"}, jobs={7}, root=root) if line.startswith("shm")]


def test_nothing_is_left_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PEOPLE", range(ME, ME + 1))
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text("")
    assert remains({"job_tmp": "/none"}, jobs=set(), root=tmp_path) == []


def test_what_a_login_started_is_its_own_and_an_adopted_process_is_the_jobs() -> None:
    login = Process(1, "bash", 1000, 0, True, ())
    adopted = Process(2, "bash", 1000, 8, True, ())
    assert strays([login, adopted], {8}) == [] and strays([login], set()) == []
    assert strays([adopted], {7})[0].startswith("process 2 bash of user 1000 in the control group of job 8")
