"""The state of the nodes: made once, then left alone; a change touches what it concerns; jobs are safe."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcstate.model import Description
from hpcstate.node.ssh import Live
from tests.lab.conftest import hpcstate, pyinfra, results

SLURM = "tests/lab/slurm.py"
"""The deploy of what these tests change."""

DAEMONS = {"controller": "slurmctld", "compute-01": "slurmd", "compute-02": "slurmd"}


def started(live: Live) -> dict[str, str]:
    """The invocation of each Slurm daemon's unit: a restart makes another, a reconfigure does not."""
    scripts = {node: f"systemctl show -p InvocationID {unit}" for node, unit in DAEMONS.items()}
    return {node: answer.stdout for node, answer in live.run_each(scripts).items()}


def start_job(live: Live, node: str, command: str) -> str:
    """The number of a job of the ordinary user that runs ``command`` on ``node``."""
    job = live.run(
        "controller",
        f"sbatch --parsable --chdir=/tmp -w {node} -n1 --mem=100 -o /dev/null --wrap '{command}'",
        user="hpc",
    ).stdout.strip()
    live.run("controller", f"until squeue -h -j {job} -t R | grep -q .; do sleep 0.3; done", timeout=30)
    return job


def demand_idle(live: Live, node: str) -> None:
    """``node`` takes jobs; a node that was resumed this moment is ``idle*`` until slurmctld has asked it."""
    state = f"$(sinfo -h -N -n {node} -o %T | head -n 1)"
    live.run("controller", f'until [ "{state}" = idle ]; do sleep 0.5; done', timeout=60)


@pytest.fixture
def own_file(description: Description) -> Iterator[Path]:
    """The cluster file, put back after a test that changed it: the next deploy undoes the change."""
    text = description.path.read_text()
    yield description.path
    description.path.write_text(text)


@pytest.fixture
def restored_file(description: Description) -> Iterator[Path]:
    """The cluster file, put back and deployed after a test that changed it."""
    text = description.path.read_text()
    yield description.path
    if description.path.read_text() != text:
        description.path.write_text(text)
        assert pyinfra(description.path, "-y", deploy=SLURM).returncode == 0


def test_slurm_uses_every_node(live: Live, cluster_file: Path) -> None:
    done = hpcstate("status", str(cluster_file), "--json")
    report = json.loads(done.stdout)[0]
    assert done.returncode == 0, report
    computing = [node for node in report["nodes"] if node["role"] == "compute"]
    assert [node["slurm"] for node in computing] == ["IDLE", "IDLE"]
    assert {node["simulated_gpus"] for node in computing} == {2}


def test_the_second_deploy_changes_nothing(live: Live, cluster_file: Path) -> None:
    before = started(live)
    done = pyinfra(cluster_file, "--json", "-y")
    assert done.returncode == 0
    assert results(done.stdout) == {}
    assert started(live) == before


def test_the_plan_of_a_deployed_cluster_is_empty(live: Live, cluster_file: Path) -> None:
    done = hpcstate("plan", str(cluster_file), "--json")
    plan = json.loads(done.stdout)
    assert (done.returncode, plan["empty"], plan["nodes_asked"]) == (0, True, True), plan


def test_one_parameter_changes_its_file_and_its_daemon_only(live: Live, own_file: Path) -> None:
    """SchedulerParameters needs a reconfigure: no unit restarts, no other operation changes."""
    before = started(live)
    changed = own_file.read_text().replace(
        'max_job_time: "1:00:00"',
        'max_job_time: "1:00:00"\n      parameters:\n        SchedulerParameters: bf_interval=45',
    )
    own_file.write_text(changed)
    done = pyinfra(own_file, "--json", "-y")
    assert done.returncode == 0
    names = set(results(done.stdout))
    assert names
    note = {name for name in names if "note of what the node runs" in name}
    assert note, "the configuration of a node is part of it"
    assert all("configuration" in name for name in names - note), names
    shown = live.run("controller", "scontrol show config").stdout
    assert "bf_interval=45" in shown
    assert started(live) == before


def test_who_asks_for_mail_is_told_that_there_is_none(live: Live) -> None:
    script = "sbatch --chdir=/tmp --mem=50 -o /dev/null --mail-type=END --wrap true"
    answer = live.run("controller", script, user="hpc")
    assert "this cluster sends no mail" in answer.stderr
    assert "Submitted batch job" in answer.stdout


def test_a_running_job_is_waited_for_and_a_foreign_drain_stays(live: Live, restored_file: Path) -> None:
    """AuthInfo needs a restart of slurmd: the node is drained first, and its job ends by itself. The other
    node restarts as well and stays drained, as somebody wanted it.
    """
    job = start_job(live, "compute-01", "sleep 50; exit 7")
    live.run(
        "controller", "scontrol update nodename=compute-02 state=drain reason='disk looks odd'", user="root"
    )
    try:
        restored_file.write_text(
            restored_file.read_text().replace(
                'max_job_time: "1:00:00"',
                'max_job_time: "1:00:00"\n      parameters:\n        AuthInfo: cred_expire=130',
            )
        )
        before = started(live)
        done = pyinfra(restored_file, "--json", "-y", deploy=SLURM)
        assert done.returncode == 0
        shown = live.run("controller", f"scontrol show job {job}").stdout
        assert "JobState=FAILED" in shown and "ExitCode=7:0" in shown, shown
        assert "Restarts=0" in shown
        assert all(now != before[node] for node, now in started(live).items())
        demand_idle(live, "compute-01")
        shown = live.run("controller", "scontrol show node compute-02").stdout
        assert "DRAIN" in shown and "disk looks odd" in shown
    finally:
        live.run("controller", "scontrol update nodename=compute-02 state=resume", user="root")
