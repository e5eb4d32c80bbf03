"""Prolog and epilog: what they record, when a job is refused, and that nothing else fails one."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hpcstate import programs
from hpcstate.health import job, node, processes, run
from hpcstate.health.checks import Wrong
from hpcstate.health.run import NodeCheck
from hpcstate.paths import ROOT

TASK_EVENT = ROOT / "hpcstate" / "node" / "task_event.sh"
ME = os.getuid()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node with a check that fails where there is a file ``bad``, and ``leftover``, the user's."""
    for module, name, path in (
        (job, "EVENTS", "events.jsonl"),
        (job, "JOBS", "jobs"),
        (job, "REFUSED", "state/refused.json"),
        (node, "REFUSED", "state/refused.json"),
        (node, "MEMORY", "state/memory.json"),
    ):
        monkeypatch.setattr(module, name, tmp_path / path)

    def disk(words: Any) -> Any:
        if (tmp_path / "bad").exists():
            yield Wrong("/ is read-only")

    checks = (
        NodeCheck("disk", ("prolog", "periodic"), "drain", 20, 2, (), False),
        NodeCheck("leftover", ("periodic", "epilog"), "note", 20, 2, ("idle",), False),
    )
    monkeypatch.setattr(job, "CHECKS", {"disk": disk})
    monkeypatch.setattr(job, "read_config", lambda: ({"node": "a", "job_tmp": "/none", "gpus": 0}, checks))
    monkeypatch.setattr(processes, "remains", lambda *_, **__: list(LEFT))
    for name, value in (
        ("JOB_ID", "12"),
        ("JOB_UID", str(ME)),
        ("JOB_GID", str(os.getgid())),
        ("JOB_USER", "alice"),
    ):
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.delenv("SLURMD_NODENAME", raising=False)
    LEFT.clear()
    return tmp_path


LEFT: list[str] = []


def events(here: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (here / "events.jsonl").read_text().splitlines()]


def test_a_job_on_a_sound_node(here: Path) -> None:
    assert job.main(["prolog"]) == 0
    tasks = here / "jobs/12/tasks"
    assert (tasks.stat().st_mode & 0o777, tasks.stat().st_uid) == (0o700, ME)
    (tasks / "0").write_text("time=2026-11-28T07:00:00Z\nNCCL_DEBUG=INFO\nSLURM_NTASKS=2\n")
    assert job.main(["epilog"]) == 0
    before, task, after = events(here)
    assert (before["event"], before["job"], before["node"], before["user"]) == ("prolog", 12, "a", "alice")
    assert before["checks"] == [{"check": "disk", "result": "ok", "detail": "", "blame": "node"}]
    assert (task["event"], task["step"], task["time"]) == ("task_prolog", "0", "2026-11-28T07:00:00Z")
    assert task["mpi"] == {"NCCL_DEBUG": "INFO", "SLURM_NTASKS": "2"}
    assert (after["event"], after["remains"], after["checks"][0]["result"]) == ("epilog", [], "ok")
    assert all(set(each) - {"step"} == set(before) for each in events(here))
    assert not (here / "jobs/12").exists() and (here / "events.jsonl").stat().st_mode & 0o777 == 0o640


def test_a_bad_node_refuses_the_job_and_remembers_why(here: Path) -> None:
    (here / "bad").touch()
    assert job.main(["prolog"]) == job.REFUSES
    memory = node.read_memory()
    assert memory.refused is not None and memory.refused.detail == "/ is read-only"
    assert events(here)[0]["checks"][0]["result"] == "failed"


def test_what_half_of_the_cluster_fails_refuses_nobody(here: Path) -> None:
    (here / "bad").touch()
    node.write(node.MEMORY, {"failed": {"disk": 3}, "paused": ["disk"], "told": True})
    assert job.main(["prolog"]) == 0 and not node.REFUSED.exists()


def test_a_prolog_that_comes_twice_is_one(here: Path) -> None:
    assert [job.main(["prolog"]), job.main(["prolog"])] == [0, 0]


def test_what_a_job_left_is_its_users(here: Path) -> None:
    LEFT.append("process 7 sleep of user 1000")
    assert job.main(["epilog"]) == 0
    (event,) = events(here)
    assert event["remains"] == LEFT and event["checks"][0]["blame"] == "user"
    assert event["checks"][0]["result"] == "failed"


def test_what_tasks_leave_is_read_with_care(here: Path) -> None:
    tasks = here / "jobs/12/tasks"
    tasks.mkdir(parents=True)
    (tasks / "1").symlink_to("/etc/passwd")
    os.mkfifo(tasks / "2")
    (tasks / "3").mkdir()
    (tasks / "4").write_text("time=yesterday\n=x\nno line\nA=" + "b" * 100_000)
    (tasks / "x").write_text("A=1\n")
    assert job.main(["epilog"]) == 0
    task, _ = events(here)
    assert (task["step"], len(task["mpi"]["A"])) == (
        "4",
        job._LARGEST - len("time=yesterday\n=x\nno line\nA="),
    )
    assert task["time"].endswith("Z") and not tasks.exists()


@pytest.mark.parametrize(
    ("code", "program", "ends"),
    [
        (0, "prolog", 0),
        (7, "prolog", 1),
        (1, "prolog", 0),
        (2, "prolog", 0),
        (139, "prolog", 0),
        (7, "epilog", 0),
        (1, "epilog", 0),
    ],
)
def test_an_accident_drains_no_node(tmp_path: Path, code: int, program: str, ends: int) -> None:
    """slurmd drains a node whose prolog or epilog fails: only the one that is meant gets through."""
    text = (ROOT / "hpcstate" / "health" / f"{program}.sh").read_text()
    fake = tmp_path / "job"
    fake.write_text(f'#!/bin/sh\necho export X=1\n[ "$1" = {program} ] || exit 7\nexit {code}\n')
    fake.chmod(0o755)
    text = text.replace("/usr/local/lib/hpcstate/health/job", str(fake))
    done = subprocess.run(["dash", "-c", text], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (ends, b"")
    gone = text.replace(str(fake), str(tmp_path / "no-such"))
    assert subprocess.run(["dash", "-c", gone], capture_output=True, timeout=60, check=False).returncode == 0


def task(place: Path, **more: str) -> str:
    text = programs.command(TASK_EVENT, events=place)
    done = subprocess.run(
        ["dash", "-c", text],
        env={"PATH": os.defpath, "SLURM_JOB_ID": "12", "SLURM_LOCALID": "0", **more},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout + done.stderr


def test_a_task_leaves_what_mpi_was_told_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "12/tasks").mkdir(parents=True)
    assert task(tmp_path, SLURM_STEP_ID="3", NCCL_DEBUG="INFO", TOKEN="secret", OMPI_MCA_btl="tcp") == ""
    time, pairs = job.step((tmp_path / "12/tasks/3").read_text())
    assert time and pairs == {"SLURM_STEP_ID": "3", "NCCL_DEBUG": "INFO", "OMPI_MCA_btl": "tcp"}
    assert task(tmp_path, SLURM_STEP_ID="4", SLURM_LOCALID="1") == ""
    assert not (tmp_path / "12/tasks/4").exists()


@pytest.mark.parametrize("number", ["13", "", "../12", "x"])
def test_a_task_without_a_place_says_nothing(tmp_path: Path, number: str) -> None:
    assert task(tmp_path, SLURM_JOB_ID=number) == "" and list(tmp_path.iterdir()) == []


_ = run
