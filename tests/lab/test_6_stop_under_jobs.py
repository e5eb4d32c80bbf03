"""Nodes are switched off under jobs, or rather not: `hpcstate stop` on the living cluster."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from hpcstate.hypervisor.connection import connect
from hpcstate.hypervisor.daemon import SYSTEM_URI
from hpcstate.node.ssh import Live
from hpcstate.paths import ROOT
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
    assert f"job {job} runs on {NODE}" in done.stderr
    assert "--drain" in done.stderr and "--force" in done.stderr
    assert state(live, job) == "RUNNING"
    assert "drain" not in slurm_state(live)
    live.run(live.cluster.controller.name, f"scancel {job}", user="root")


def test_a_stop_that_is_killed_leaves_no_drain(live: Live, cluster_file: Path) -> None:
    job = sbatch(live, 600)
    words = [sys.executable, "-m", "hpcstate", "stop", str(cluster_file), "--node", NODE, "--drain"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as stop:
        assert stop.stdout is not None
        for line in stop.stdout:
            if "waiting for jobs" in line:
                break
        assert "drain" in slurm_state(live)
        stop.terminate()
        said = stop.stdout.read()
    assert stop.returncode == 128 + signal.SIGTERM
    assert f"jobs start on {NODE} again" in said
    assert "drain" not in slurm_state(live)
    reasons = live.run(live.cluster.controller.name, f"sinfo --noheader -n {NODE} --format=%E").stdout.split()
    assert set(reasons) == {"none"}
    live.run(live.cluster.controller.name, f"scancel {job}", user="root")


def test_a_job_on_a_paused_node_is_seen(live: Live, cluster_file: Path) -> None:
    job = sbatch(live, 600)
    with connect(SYSTEM_URI) as host:
        node = next(node for node in live.cluster.nodes if node.name == NODE)
        domain = host.domain(live.cluster, node)
        assert domain is not None
        domain.suspend()
        done = hpcstate("stop", str(cluster_file), "--node", NODE)
        assert done.returncode == 2
        assert f"job {job} runs on {NODE}" in done.stderr
        assert host.state(live.cluster, node) == "paused"
        domain.resume()
    live.run(live.cluster.controller.name, f"scancel {job}", user="root")


def test_drain_waits_for_the_jobs(live: Live, cluster_file: Path) -> None:
    job = sbatch(live, 20)
    done = hpcstate("stop", str(cluster_file), "--node", NODE, "--drain")
    assert done.returncode == 0, done.stderr
    assert re.search(rf"waiting for jobs \d+ \(\w+, .* left\) on {NODE}", done.stdout)
    assert state(live, job) == "COMPLETED"
    assert hpcstate("start", str(cluster_file), "--node", NODE).returncode == 0
