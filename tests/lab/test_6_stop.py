"""A node is switched off by force under a job. The long lab."""

from __future__ import annotations

import json
from pathlib import Path

from hpcstate.node.ssh import Live
from tests.lab.conftest import hpcstate
from tests.lab.test_6_stop_under_jobs import NODE, sbatch, slurm_state, state, wait_for


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
