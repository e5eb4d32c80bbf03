"""Homes of a living cluster: what a job writes is at home, the server may die, and each node gets its own and
the shared ones again. The long lab."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcstate.model import Cluster
from hpcstate.node.ssh import Live, UnreachableError
from tests.lab.conftest import ON_THE_VOLUME, pyinfra, results

MARK = "/home/hpc/lab-mark"
WAIT = "timeout --kill-after=5 150"
"""A server that comes back lets those in first who had files open (nfsd(7), grace time: 30 s)."""


@pytest.fixture(scope="module")
def live(deployed: None, cluster: Cluster) -> Iterator[Live]:
    with Live(cluster) as live:
        yield live


def mounts(live: Live, node: str) -> list[str]:
    """What is mounted at /home of ``node``, by type; nothing looks at it."""
    words = 'awk \'$5 == "/home" {for (i = 7; $i != "-"; i++); print $(i + 1)}\' /proc/self/mountinfo'
    return live.run(node, words).stdout.split()


def test_what_a_job_writes_is_where_it_was_submitted(live: Live) -> None:
    job = live.run(
        "controller",
        "cd && sbatch --parsable --wait --nodelist=compute-02 --mem=50M --output=lab-%j.out --wrap=hostname",
        user="hpc",
        timeout=120,
    ).stdout.strip()
    assert live.run("controller", f"cat /home/hpc/lab-{job}.out", user="hpc").stdout == "compute-02\n"
    live.run("controller", f"rm /home/hpc/lab-{job}.out", user="hpc")


def test_a_dead_server_hangs_no_login_and_no_boot(live: Live, cluster: Cluster) -> None:
    live.run("controller", "systemctl stop nfs-server", user="root")
    try:
        assert live.run("compute-01", "cd && pwd", timeout=20).stdout == "/var/lib/hpcstate/admin\n"
        before = live.run("compute-02", "cat /proc/sys/kernel/random/boot_id").stdout
        live.run("compute-02", "systemctl reboot --no-block", user="root")
        limit, booted = time.monotonic() + 400, before
        while booted == before:
            assert time.monotonic() < limit, "it has not booted"
            time.sleep(5)
            with Live(cluster) as anew:
                try:
                    booted = anew.run("compute-02", "cat /proc/sys/kernel/random/boot_id").stdout
                except UnreachableError:
                    continue
        with Live(cluster) as anew:
            wait = "until systemctl --quiet is-active slurmd home.automount; do sleep 2; done"
            anew.run("compute-02", wait, timeout=120)
            assert mounts(anew, "compute-02") == ["autofs"]
    finally:
        live.run("controller", "systemctl start nfs-server", user="root")
    with Live(cluster) as anew:
        anew.run("compute-02", f"{WAIT} touch {MARK}", user="hpc", timeout=180)


def test_homes_of_each_nodes_own_and_shared_again(live: Live, cluster_file: Path) -> None:
    live.run("controller", f"echo shared >{MARK}", user="hpc")
    before = cluster_file.read_text()
    cluster_file.write_text(
        before.replace(ON_THE_VOLUME, "").replace("    storage:\n", "    storage:\n      home: local\n", 1)
    )
    try:
        assert pyinfra(cluster_file, "-y").returncode == 0
        assert [mounts(live, node.name) for node in live.cluster.nodes] == [[], [], []]
        assert live.run("controller", f"cat /srv/hpcstate/home/hpc/{Path(MARK).name}", user="root").stdout
        assert live.run("compute-01", f"ls {MARK}", user="root", check=False).code != 0
        assert results(pyinfra(cluster_file, "--json", "-y").stdout) == {}
    finally:
        cluster_file.write_text(before)
        assert pyinfra(cluster_file, "-y").returncode == 0
    assert live.run("compute-01", f"{WAIT} cat {MARK}", user="hpc", timeout=180).stdout == "shared\n"
    live.run("compute-01", f"rm {MARK}", user="hpc")
    assert results(pyinfra(cluster_file, "--json", "-y").stdout) == {}
