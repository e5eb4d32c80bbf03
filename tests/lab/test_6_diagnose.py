"""Jobs that fail on purpose are each diagnosed, and ten that are well are not accused. The long lab."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import Any

import pytest

from hpcstate.model import Cluster
from hpcstate.node.ssh import Live
from tests.lab.conftest import hpcstate

SECONDS = 240
"""For a job of a minute, a slow machine and the way of its record."""

FAILING = {
    "memory": ("--mem=60M", "python3 -c 'x = bytearray(400 << 20); print(len(x))'", "memory"),
    "exit code": ("--mem=50M", "echo bye; exit 3", "exit-code"),
    "signal": ("--mem=50M", "kill -SEGV $$", "crash"),
    "time limit": ("--mem=50M --time=1", "sleep 300", "time-limit"),
    "one rank dies": (
        "--mem=50M --ntasks=2 --nodes=2",
        "srun --kill-on-bad-exit sh -c "
        "'if [ \"$SLURM_PROCID\" = 1 ]; then sleep 2; kill -SEGV $$; fi; sleep 60'",
        "crash",
    ),
    "no GPU": (
        "--mem=50M",
        "python3 -c 'raise RuntimeError(\"CUDA error: no CUDA-capable device is detected\")'",
        "gpu-missing",
    ),
    "full disk": ("--mem=50M", 'python3 -c \'open("/dev/full", "w").write("x" * 9999)\'', "disk-full"),
    "no container": ("--mem=50M", "apptainer exec /no/such/image.sif true", "container"),
}
WELL = [
    "echo 'errors: 0'",
    "echo 'killed_by_region.csv written'",
    "echo 'WARNING: retrying (attempt 2 of 5)'; echo ok",
    "ls /no/such/file; true",
    "python3 -c 'try: open(\"/none\")\nexcept OSError as error: print(error)'",
    "echo 'CUDA out of memory, retrying with batch size 8'",
    "sh -c 'kill -9 $$'; true",
    "srun true",
    "printf '10%%\\r50%%\\rdone\\n'",
    "echo 'simulating signal timeout, abort probability 0.1'",
]


def submit(live: Live, words: str, command: str) -> str:
    script = f'cd "$HOME" && sbatch --parsable {words} --wrap={shlex.quote(command)}'
    return live.run(live.cluster.controller.name, script, user="hpc").stdout.strip()


def told(cluster_file: Path, job: str, *, over: bool = True) -> dict[str, Any]:
    """What `hpcstate diagnose --json` says when the job has ended."""
    end = time.monotonic() + SECONDS
    while True:
        done = hpcstate("diagnose", str(cluster_file), job, "--json")
        if done.returncode in (0, 1):
            found: dict[str, Any] = json.loads(done.stdout)
            if not over or found["state"] not in ("PENDING", "RUNNING", "COMPLETING", None):
                return found
        assert time.monotonic() < end, done.stdout + done.stderr
        time.sleep(5)


@pytest.mark.parametrize("name", FAILING)
def test_a_job_that_fails_on_purpose(live: Live, cluster_file: Path, name: str) -> None:
    words, command, cause = FAILING[name]
    if "--nodes=2" in words and len(live.workers) < 2:
        pytest.skip("one compute node")
    found = told(cluster_file, submit(live, words, command))
    assert found["cause"] == cause, json.dumps(found, indent=1)
    assert found["evidence"] and found["steps"]
    if name == "one rank dies":
        assert found["rank"] == 1


def test_ten_that_are_well(live: Live, cluster_file: Path) -> None:
    jobs = [submit(live, "--mem=50M", command) for command in WELL]
    assert [told(cluster_file, job)["cause"] for job in jobs] == ["none"] * 10


def test_a_home_that_is_not_there(live: Live, cluster_file: Path) -> None:
    """As a home that is not mounted: the folder of the job is not on the node."""
    node = live.workers[0].name
    script = 'home=$(getent passwd hpc | cut -d: -f6); mv "$home" "$home.away"'
    back = 'home=$(getent passwd hpc | cut -d: -f6); mv "$home.away" "$home"'
    live.run(node, script, user="root")
    try:
        words = f"--mem=50M --nodelist={node} --chdir=/home/hpc"
        job = live.run(
            live.cluster.controller.name, f"cd / && sbatch --parsable {words} --wrap=true", user="hpc"
        ).stdout.strip()
        found = told(cluster_file, job)
    finally:
        live.run(node, back, user="root")
    assert found["cause"] in ("filesystem", "missing-file"), json.dumps(found, indent=1)


def test_a_node_that_dies_under_it(live: Live, cluster: Cluster, cluster_file: Path) -> None:
    node = live.workers[0].name
    controller = cluster.controller.name
    job = submit(live, f"--mem=50M --no-requeue --nodelist={node}", "sleep 600")
    time.sleep(10)
    try:
        down = f"scontrol update nodename={node} state=down reason='lab: dies under a job'"
        live.run(controller, down, user="root")
        found = told(cluster_file, job)
    finally:
        live.run(controller, f"scontrol update nodename={node} state=resume", user="root")
    assert (found["cause"], found["node"]) == ("node-failure", node)


def test_the_page_of_a_job(live: Live, cluster_file: Path, tmp_path: Path) -> None:
    job = submit(live, "--mem=50M", "echo '<b>bye</b>'; exit 3")
    told(cluster_file, job)
    out = tmp_path / "job.html"
    assert hpcstate("report", str(cluster_file), job, "--output", str(out)).returncode == 1
    text = out.read_text()
    assert "&lt;b&gt;bye" in text and "Timeline" in text
    assert out.stat().st_mode & 0o077 == 0


def test_the_program_of_the_nodes(live: Live) -> None:
    job = submit(live, "--mem=50M", "python3 -c 'import no_such_module'")
    time.sleep(30)
    for node in live.workers:
        done = live.run(
            node.name, f"/opt/slurm/bin/diagnose_training_failure.py {job}", user="root", check=False
        )
        assert done.code == 1, done.stdout + done.stderr
