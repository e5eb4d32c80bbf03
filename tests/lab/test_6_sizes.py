"""The cluster file changes and the machines follow: a node with more memory and a larger disk, a new node,
and back.

One after the other, as a person would: `plan`, `./hpc up` without its checks, `status`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcstate import schema
from hpcstate.hypervisor.connection import connect
from hpcstate.hypervisor.daemon import SYSTEM_URI
from hpcstate.model import Cluster
from hpcstate.node.ssh import Live
from hpcstate.slurm.conf import real_memory_mb
from tests.lab.conftest import hpcstate, pyinfra, run_shown
from tests.lab.test_6_stop_under_jobs import state, wait_for

TWO_ALIKE = """\
      - count: 2
        cpu_cores: 2
        memory_gb: 2
        simulated_gpus:
          count: 2
"""
SECOND_ALONE = TWO_ALIKE.replace("count: 2", "name: compute-02", 1)
_UP = """
import pathlib, sys
from hpcstate.cluster import up
file = pathlib.Path(sys.argv[1])
up.start(file)
up.deploy(file)
"""
CHANGED = """\
      - cpu_cores: 2
        memory_gb: 3
        disk_gb: 22
        simulated_gpus:
          count: 2
      - cpu_cores: 2
        memory_gb: 2
        simulated_gpus:
          count: 2
      - cpu_cores: 1
        memory_gb: 1
"""


@pytest.fixture(scope="module")
def file(deployed: None, cluster_file: Path) -> Iterator[Path]:
    """The lab's file, which is as it was at the end; so are the nodes: a disk does not shrink, the node that
    had it is made anew."""
    before = cluster_file.read_text()
    assert TWO_ALIKE in before
    yield cluster_file
    cluster_file.write_text(before.replace(TWO_ALIKE, SECOND_ALONE))
    assert hpcstate("start", str(cluster_file), "--remove", "--force").returncode == 0
    cluster_file.write_text(before)
    assert up(cluster_file).returncode == 0


def up(file: Path) -> subprocess.CompletedProcess[str]:
    """What `./hpc up` does after the images, as far as the deploy."""
    return run_shown([sys.executable, "-c", _UP, str(file)])


def announced(file: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What `./hpc up` says and asks before it begins."""
    return run_shown([sys.executable, "-m", "doit", "announce", f"cluster={file}", *words])


def slurm_nodes(live: Live) -> dict[str, tuple[int, str]]:
    """Memory (MiB) and state of each node, as sinfo has them."""
    script = "sinfo --noheader --Node --format='%N %m %T' | sort -u"
    rows = (row.split() for row in live.run(live.cluster.controller.name, script).stdout.splitlines())
    return {name: (int(memory), state) for name, memory, state in rows}


def status(file: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(hpcstate("status", str(file), "--json").stdout)[0]
    return report


def test_a_plan_that_was_saved_holds_as_long_as_the_world_is_the_same(
    live: Live, file: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "plan.json"
    saved.write_text(hpcstate("plan", str(file), "--json").stdout)
    assert announced(file, f"plan={saved}").returncode == 0
    before = file.read_text()
    file.write_text(before + "# another file\n")
    refused = announced(file, f"plan={saved}")
    file.write_text(before)
    assert refused.returncode != 0
    assert "the cluster file is another" in refused.stdout + refused.stderr


def test_a_file_that_says_more_is_followed(live: Live, file: Path) -> None:
    controller = live.cluster.controller.name
    # It ends a while after its node is drained for the change, however long the way there takes.
    until_drained = "until scontrol show node compute-01 | grep -q DRAIN; do sleep 2; done; sleep 20"
    submit = f"sbatch --parsable --output=/dev/null -w compute-01 --mem=50M --wrap='{until_drained}'"
    job = live.run(controller, submit, user="hpc").stdout.strip()
    assert wait_for(live, job, "RUNNING")
    file.write_text(file.read_text().replace(TWO_ALIKE, CHANGED))

    planned = hpcstate("plan", str(file))
    assert planned.returncode == 1
    assert "compute-01: memory 2048 MiB -> 3072 MiB (the node goes off and on)" in planned.stdout
    assert "compute-01: disk 20 GiB -> 22 GiB" in planned.stdout
    assert "lab-compute-03: create and start" in planned.stdout
    assert "compute-03: everything of its role" in planned.stdout, "the rest is planned as well"
    assert re.search(rf"^ +{job} +hpc +compute-01 ", planned.stdout, re.MULTILINE), "the job on its way"
    seen = {node["name"]: node["memory_mb"] for node in status(file)["nodes"]}
    assert seen["compute-01"] == 2048, "what the machine has, not what the file says"

    alone = pyinfra(file, "-y")
    assert alone.returncode != 0, "pyinfra changes no machine"
    assert re.search(
        r"compute-01: slurm.conf would say RealMemory=\d+, and the machine has \d+ MiB", alone.stderr
    )
    assert slurm_nodes(live)["compute-01"] == (real_memory_mb(2048), "mixed")

    refused = announced(file)
    assert refused.returncode != 0, "there is no terminal to ask at"
    assert f"running jobs of hpc are waited for: {job}" in refused.stdout + refused.stderr
    assert announced(file, "yes=yes").returncode == 0

    done = up(file)
    assert done.returncode == 0
    assert "waiting for jobs " in done.stdout and " on compute-01" in done.stdout
    assert state(live, job) == "COMPLETED", "the job was not hurt"
    assert {name: state for name, (_, state) in slurm_nodes(live).items()} == dict.fromkeys(
        ("compute-01", "compute-02", "compute-03"), "idle"
    )
    assert slurm_nodes(live)["compute-01"][0] == real_memory_mb(3072)
    assert status(file)["differences"] == []
    (changed,) = schema.load(file).clusters
    with Live(changed) as there:
        size = there.run("compute-01", "df --output=size -BG / | tail -n 1").stdout.strip()
        assert int(size.rstrip("G")) > 20, "the file system followed its disk"
        assert there.run("compute-03", "nproc").stdout.strip() == "1"
    assert hpcstate("plan", str(file)).returncode == 0


def test_a_file_that_says_less_is_followed(live: Live, file: Path, cluster: Cluster) -> None:
    # The disk stays: it cannot shrink.
    less = TWO_ALIKE.replace("count: 2\n        cpu", "cpu", 1)
    two = f"{less.replace('memory_gb: 2', 'memory_gb: 2' + chr(10) + '        disk_gb: 22')}{less}"
    file.write_text(file.read_text().replace(CHANGED, two))

    planned = hpcstate("plan", str(file)).stdout
    assert "compute-01: memory 3072 MiB -> 2048 MiB" in planned
    assert "compute-03: node running -> none (hpcstate start --remove)" in planned
    assert "compute-03: node running -> none" in hpcstate("status", str(file)).stdout

    removed = hpcstate("start", str(file), "--remove", "--force")
    assert removed.returncode == 0
    assert "removed domain lab-compute-03" in removed.stdout
    with connect(SYSTEM_URI) as host:
        assert "lab-compute-03" not in {domain.name() for domain in host.connection.listAllDomains()}
        pool, network = host.volumes.pool(cluster), host.network(cluster)
        assert pool is not None and network is not None
        assert [name for name in pool.listVolumes() if name.startswith("compute-03")] == []
        assert "compute-03" not in network.XMLDesc()

    assert up(file).returncode == 0
    nodes = slurm_nodes(live)
    assert {name: state for name, (_, state) in nodes.items()} == {"compute-01": "idle", "compute-02": "idle"}
    assert nodes["compute-01"][0] == real_memory_mb(2048)
    assert {node["name"]: node["memory_mb"] for node in status(file)["nodes"]}["compute-01"] == 2048


def test_a_disk_that_would_shrink_is_refused(file: Path) -> None:
    file.write_text(file.read_text().replace("disk_gb: 22", "disk_gb: 21"))
    planned = hpcstate("plan", str(file)).stdout
    assert "compute-01: disk 22 GiB -> 21 GiB (a disk cannot shrink" in planned
    assert hpcstate("stop", str(file), "--node", "compute-01").returncode == 0
    refused = hpcstate("start", str(file))
    assert refused.returncode == 2
    assert "it cannot shrink to 21" in refused.stderr
    file.write_text(file.read_text().replace("disk_gb: 21", "disk_gb: 22"))
    assert hpcstate("start", str(file)).returncode == 0
