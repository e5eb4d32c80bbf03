"""A cluster taken away without a trace of it or of anybody else."""

from __future__ import annotations

from pathlib import Path

import libvirt

from hpcstate.model import Cluster
from hpcstate.paths import ClusterPaths
from tests.lab.conftest import hpcstate


def test_destroy_removes_ours_and_nothing_else(cluster: Cluster, deployed: None, cluster_file: Path) -> None:
    foreign = (
        "<network><name>somebody</name><bridge name='virbr99'/>"
        "<ip address='10.99.0.1' netmask='255.255.255.0'/></network>"
    )
    with libvirt.open(cluster.uri) as connection:
        connection.networkDefineXML(foreign)
        done = hpcstate("destroy", str(cluster_file), "--force")
        assert done.returncode == 0, done.stderr
    assert "removed domain lab-controller" in done.stdout
    assert "ending libvirtd" in done.stdout
    assert "controller_data.qcow2 (Slurm's state and the registry of containers" in done.stdout
    again = hpcstate("start", str(cluster_file), "--node", "nobody")
    assert again.returncode == 2
    assert "nodes: controller, compute-01, compute-02" in again.stderr
    secrets = ClusterPaths.of(cluster.name).secrets
    assert (secrets / "ssh_key").is_file()
    second = hpcstate("destroy", str(cluster_file), "--force", "--secrets")
    assert "keeps the keys" in second.stdout, "the data volume is this cluster's own by them"
    third = hpcstate("destroy", str(cluster_file), "--force", "--secrets", "--data")
    assert "removed storage pool hpcstate-lab" in third.stdout
    assert "removed secrets" in third.stdout
    assert not secrets.exists()
