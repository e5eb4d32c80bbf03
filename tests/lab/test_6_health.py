"""Health on a running cluster: turned on, a node drained and lifted by its own check, drains of others left
alone, jobs refused, turned off without a trace. The long lab. Never run yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpcstate.health.decide import PREFIX
from hpcstate.health.files import CONFIG, FOLDER, RECORDS
from hpcstate.model import Description
from hpcstate.node.ssh import Live
from hpcstate.probe.slurm import SlurmNode, nodes_command, parse_nodes
from hpcstate.slurm.conf import EPILOG, PROLOG
from tests.lab.conftest import hpcstate, pyinfra

ON = "    health: {enabled: true, interval_s: 30}\n"
BEFORE = "    slurm_config:"
LONG = 300.0


@pytest.fixture(scope="module")
def watched(description: Description) -> Iterator[Path]:
    """The cluster file with health on, deployed; put back, deployed again, and looked at."""
    text = description.path.read_text()
    assert text.count(BEFORE) == 1
    description.path.write_text(text.replace(BEFORE, ON + BEFORE))
    try:
        assert pyinfra(description.path, "-y").returncode == 0
        yield description.path
    finally:
        description.path.write_text(text)
        assert pyinfra(description.path, "-y").returncode == 0


def node(live: Live, name: str) -> SlurmNode:
    return parse_nodes(live.run("controller", nodes_command(), user="root").stdout)[name]


def wait(live: Live, name: str, wanted: Callable[[SlurmNode], bool]) -> SlurmNode:
    limit = time.monotonic() + LONG
    while not wanted(seen := node(live, name)):
        assert time.monotonic() < limit, seen
        time.sleep(5)
    return seen


def is_drained(seen: SlurmNode) -> bool:
    return "DRAIN" in seen["states"]


def test_a_second_deploy_has_nothing_to_do(live: Live, watched: Path) -> None:
    done = pyinfra(watched, "--dry")
    assert done.returncode == 0 and "What watches the node" in done.stdout + done.stderr
    assert live.run("compute-01", f"{FOLDER}/check --look", user="root", timeout=90).code == 0


def test_a_check_drains_its_node_and_lifts_that_and_a_deploy_does_not(live: Live, watched: Path) -> None:
    live.run("compute-01", "systemctl stop chrony", user="root")
    try:
        seen = wait(live, "compute-01", is_drained)
        assert seen["reason"].startswith(f"{PREFIX}node: daemons: chrony.service is inactive"), seen
        # The next deploy mends the daemon, and leaves the drain to the check.
        assert not is_drained(node(live, "compute-02"))
    finally:
        live.run("compute-01", "systemctl start chrony", user="root")
    wait(live, "compute-01", lambda seen: not is_drained(seen))


def test_a_drain_of_somebody_stays(live: Live, watched: Path) -> None:
    drain = "scontrol update nodename=compute-02 state=drain reason='fan'"
    live.run("controller", drain, user="root")
    try:
        time.sleep(75)
        assert node(live, "compute-02")["reason"] == "fan"
    finally:
        live.run("controller", "scontrol update nodename=compute-02 state=resume", user="root")


def test_one_check_on_all_nodes_drains_one_at_most(live: Live, watched: Path) -> None:
    both = dict.fromkeys(("compute-01", "compute-02"), "systemctl stop chrony")
    live.run_each(both, user="root")
    try:
        time.sleep(150)
        assert sum(is_drained(node(live, name)) for name in both) <= 1
        comments = live.run("controller", "scontrol show nodes", user="root").stdout
        assert "draining is paused" in comments, comments
    finally:
        live.run_each(dict.fromkeys(both, "systemctl start chrony"), user="root")
    for name in both:
        wait(live, name, lambda seen: not is_drained(seen))


def test_a_prolog_refuses_a_job_on_a_node_whose_disk_is_read_only(live: Live, watched: Path) -> None:
    # Of what has to be writable, nothing else needs it.
    live.run("compute-01", "mount -t tmpfs -o ro none /var/tmp", user="root")
    try:
        live.run("controller", "sbatch -w compute-01 --mem=50 -o /dev/null --wrap true", user="hpc")
        seen = wait(live, "compute-01", lambda seen: is_drained(seen) and seen["reason"].startswith(PREFIX))
        assert "filesystems" in seen["reason"]
        waiting = live.run("controller", "squeue --noheader --format='%T %r'", user="root").stdout
        assert "PENDING" in waiting and "held" not in waiting.lower(), waiting
    finally:
        live.run("compute-01", "umount /var/tmp", user="root")
    wait(live, "compute-01", lambda seen: not is_drained(seen))


def test_nodes_without_jobs_are_measured(live: Live, watched: Path) -> None:
    wait(live, "compute-02", lambda seen: seen["states"] == ["IDLE"])
    done = hpcstate("check", str(watched), "--active")
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("compute-01 memory: ok", "compute-02 disk: ok", "compute-01,compute-02 pair: ok"):
        assert word in done.stdout, done.stdout


def test_off_leaves_no_trace(live: Live, description: Description, watched: Path) -> None:
    text = watched.read_text()
    watched.write_text(text.replace(ON, ""))
    try:
        assert pyinfra(watched, "-y").returncode == 0
        paths = " ".join((CONFIG, FOLDER, PROLOG, EPILOG, "/var/lib/hpcstate/health", *RECORDS))
        for name in ("controller", "compute-01", "compute-02"):
            found = live.run(name, f"ls -d {paths} 2>/dev/null", user="root", check=False).stdout
            assert found == "", (name, found)
        shown = live.run("controller", "scontrol show config; scontrol show nodes", user="root").stdout
        assert FOLDER not in shown and PREFIX not in shown
        live.run("controller", "srun -N2 --mem=50 true", user="hpc", timeout=60)
    finally:
        watched.write_text(text)
