"""The queue outlives all machines of the cluster: it lies on the controller's data volume. The long lab."""

from __future__ import annotations

from pathlib import Path

from hpcstate.model import Cluster
from hpcstate.node.data_volume import binds
from hpcstate.node.ssh import Live
from tests.lab.conftest import hpcstate, pyinfra
from tests.lab.test_6_stop_under_jobs import state

HELD = "sbatch --parsable --output=/dev/null --hold --mem=50M --wrap=true"


def held(live: Live) -> int:
    """The number of a new job, which waits until it is released."""
    return int(live.run(live.cluster.controller.name, HELD, user="hpc").stdout)


def mounted(live: Live) -> list[str]:
    words = "findmnt --noheadings --output SOURCE --mountpoint"
    places = "; ".join(f"{words} {bind.place}" for bind in binds(live.cluster))
    return live.run(live.cluster.controller.name, places).stdout.split()


def test_the_queue_outlives_the_machines(live: Live, cluster: Cluster, cluster_file: Path) -> None:
    assert mounted(live) == [f"/dev/vdc[/{bind.name}]" for bind in binds(cluster)]
    first = held(live)
    done = hpcstate("destroy", str(cluster_file), "--force")
    assert done.returncode == 0
    assert "leaves storage pool hpcstate-lab with controller_data.qcow2" in done.stdout
    assert hpcstate("start", str(cluster_file)).returncode == 0
    assert pyinfra(cluster_file, "-y").returncode == 0
    with Live(cluster) as anew:
        assert mounted(anew) == [f"/dev/vdc[/{bind.name}]" for bind in binds(cluster)]
        assert state(anew, str(first)) == "PENDING"
        second = held(anew)
        assert second > first
        anew.run(cluster.controller.name, f"scancel {first} {second}", user="root")


def test_a_larger_data_volume(live: Live, cluster: Cluster, cluster_file: Path) -> None:
    """Its file system follows with the next deploy; slurmctld was away for a moment only."""
    before = cluster_file.read_text()
    cluster_file.write_text(before.replace("controller:\n", "controller:\n      data_gb: 22\n", 1))
    try:
        assert hpcstate("stop", str(cluster_file), "--node", "controller").returncode == 0
        assert hpcstate("start", str(cluster_file)).returncode == 0
        assert pyinfra(cluster_file, "-y").returncode == 0
        size = live.run(cluster.controller.name, "df --output=size -BG /srv/hpcstate | tail -n 1").stdout
        assert int(size.strip().removesuffix("G")) > 20
    finally:
        # It cannot shrink again: the tests behind this one have the size of this one.
        cluster_file.write_text(before.replace("controller:\n", "controller:\n      data_gb: 22\n", 1))
