"""Jobs of the checks: how long one waits, and what it says then."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpcstate.check import jobs
from hpcstate.check.suite import CheckFailed
from hpcstate.run import Result

# squeue of 24.11.5: one line each for a job whose node is down, and whose node is busy.
DOWN = "ReqNodeNotAvail, UnavailableNodes:compute-02"
SEVERAL = "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions"
BUSY = "Resources"


@dataclass
class Cluster:
    """Answers as a controller would: a job that waits for ``reason``, on nodes that ``sinfo`` names."""

    reason: str
    sinfo: str
    partitions: str = "gpu up\ndebug up\n"
    squeue: str = ""
    cluster = SimpleNamespace(
        controller=SimpleNamespace(name="controller"),
        slurm=SimpleNamespace(
            partitions=[SimpleNamespace(name="gpu", state="UP"), SimpleNamespace(name="debug", state="DOWN")]
        ),
    )

    def run(self, _node: str, script: str, **_: Any) -> Result:
        if "%R %a" in script:
            return Result((), 0, self.partitions, "")
        if "sinfo" in script:
            return Result((), 0, self.sinfo, "")
        if "--states=all" in script:
            name = script.split("--name=")[1].split(" ")[0]
            return Result((), 0, f"{name}|7|PENDING|{self.reason}\n", "")
        return Result((), 0, self.squeue if "squeue" in script else "", "")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that have gone by; asking takes none, waiting does."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(jobs, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    return now


@pytest.mark.parametrize(
    ("reason", "limit"),
    [(DOWN, jobs.AWAY_SECONDS), (SEVERAL, jobs.AWAY_SECONDS), (BUSY, jobs.START_SECONDS)],
    ids=["down", "several are down", "busy"],
)
def test_a_job_whose_nodes_are_away_is_not_waited_for(clock: list[float], reason: str, limit: int) -> None:
    live: Any = Cluster(reason, "compute-02 is down\ncompute-02 is down\n")
    with (
        pytest.raises(CheckFailed) as caught,
        jobs.Jobs(live, {"one": jobs.Job(("-wcompute-02",), ("true",))}) as started,
    ):
        started.wait(lambda states: not states["one"].waiting, "it starts")
    assert limit <= clock[0] < limit + 1
    assert reason in caught.value.observed
    assert caught.value.hint == (
        "compute-02 is down: that comes first; nodes.registered and nodes.daemons tell why"
    )


def test_where_all_nodes_take_jobs_the_queue_says_more(clock: list[float]) -> None:
    live: Any = Cluster(BUSY, "")
    with pytest.raises(CheckFailed) as caught, jobs.Jobs(live, {"one": jobs.Job((), ("true",))}) as started:
        started.wait(lambda states: not states["one"].waiting, "it starts", seconds=3)
    assert clock[0] < 4
    assert "squeue" in caught.value.hint


def test_a_partition_that_somebody_closed_is_the_fault_whoever_else_waits(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def skip(_: object) -> None:
        raise AssertionError("a skip of the check would hide this one as well")

    monkeypatch.setattr(jobs, "skip_if_busy", skip)
    live: Any = Cluster("PartitionDown", "", "gpu down\ngpu down\ndebug down\n", squeue="x|9|eva|PENDING\n")
    with pytest.raises(CheckFailed) as caught, jobs.Jobs(live, {"one": jobs.Job((), ("true",))}) as started:
        started.wait(lambda states: not states["one"].waiting, "it starts")
    assert clock[0] < jobs.AWAY_SECONDS + 1
    assert caught.value.hint == (
        "partition gpu is down: somebody closed it by scontrol; on the controller: sudo scontrol update "
        "partitionname=gpu state=up"
    )


def test_what_a_killed_run_has_left_waiting_is_cancelled_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, old = (
        (datetime.now() - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%S") for minutes in (1, 11)
    )
    queue = [
        f"7 {old} hpcstate-check-1a2b-holder",
        f"8 {now} hpcstate-check-3c4d-one",
        f"9 {old} my hpcstate-check-job",
    ]
    text = chr(10).join(queue)
    for name, program in (("squeue", f"cat <<'E'\n{text}\nE"), ("scancel", f'echo "$@" >>{tmp_path}/said')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    class Live:
        cluster = SimpleNamespace(controller=SimpleNamespace(name="controller"))

        def run(self, node: str, script: str, **_: Any) -> Result:
            assert node == "controller"
            done = subprocess.run(["dash", "-c", script], capture_output=True, text=True, check=False)
            return Result((), done.returncode, done.stdout, done.stderr)

    live: Any = Live()
    assert jobs.cancel_left(live) == ["7"]
    assert (tmp_path / "said").read_text() == "--quiet 7\n"
