"""Nodes are switched off under jobs, or rather not: `hpcstate stop` on the living cluster."""

from __future__ import annotations

import json
import time
from pathlib import Path

from hpcstate.node.ssh import Live
from tests.lab.conftest import hpcstate

NODE = "compute-02"


def sbatch(live: Live, seconds: int) -> str:
    """The id of a job that sleeps on NODE, once it runs."""
    controller = live.cluster.controller.name
    command = f"sbatch --parsable --output=/dev/null -w {NODE} --mem=50M --wrap='sleep {seconds}'"
    job = live.run(controller, command, user="hpc").stdout.strip()
    assert wait_for(live, job, "RUNNING")
    return job


def state(live: Live, job: str) -> str:
    """The state of ``job`` as squeue has it; empty when it is gone."""
    command = f"squeue --noheader --states=all --jobs={job} --format=%T 2>/dev/null || :"
    return live.run(live.cluster.controller.name, command).stdout.strip()


def wait_for(live: Live, job: str, wanted: str, seconds: float = 90) -> bool:
    deadline = time.monotonic() + seconds
    while state(live, job) != wanted and time.monotonic() < deadline:
        time.sleep(1)
    return state(live, job) == wanted


def slurm_state(live: Live) -> str:
    command = f"sinfo --noheader --nodes={NODE} --format=%T | head -1"
    return live.run(live.cluster.controller.name, command).stdout.strip()


def test_a_node_is_not_stopped_under_a_job(live: Live, cluster_file: Path) -> None:
    job = sbatch(live, 600)
    done = hpcstate("stop", str(cluster_file), "--node", NODE)
    assert done.returncode == 2
    assert f"jobs {job} run on {NODE}" in done.stderr
    assert "--drain" in done.stderr and "--force" in done.stderr
    assert state(live, job) == "RUNNING"
    assert "drain" not in slurm_state(live)
    live.run(live.cluster.controller.name, f"scancel {job}", user="root")


def test_force_leaves_no_ghost_and_the_job_runs_again(live: Live, cluster_file: Path) -> None:
    job = sbatch(live, 5)
    done = hpcstate("stop", str(cluster_file), "--node", NODE, "--force")
    assert done.returncode == 0, done.stderr
    assert f"requeuing or ending jobs {job}" in done.stdout
    assert state(live, job) == "PENDING"
    assert slurm_state(live).startswith("down")
    report = json.loads(hpcstate("status", str(cluster_file), "--json").stdout)[0]
    assert [node["domain"] for node in report["nodes"] if node["name"] == NODE] == ["stopped"]
    assert hpcstate("start", str(cluster_file), "--node", NODE).returncode == 0
    assert wait_for(live, job, "COMPLETED", 240)
    assert "drain" not in slurm_state(live) and "down" not in slurm_state(live)


def test_drain_waits_for_the_jobs(live: Live, cluster_file: Path) -> None:
    job = sbatch(live, 20)
    done = hpcstate("stop", str(cluster_file), "--node", NODE, "--drain")
    assert done.returncode == 0, done.stderr
    assert f"waiting for the jobs on {NODE}" in done.stdout
    assert state(live, job) == "COMPLETED"
    assert hpcstate("start", str(cluster_file), "--node", NODE).returncode == 0
