"""From a file to nodes that answer."""

from __future__ import annotations

import json
from pathlib import Path

from hpcstate.model import Cluster
from hpcstate.paths import ClusterPaths
from tests.lab.conftest import hpcstate


def test_the_first_start_powers_every_node_on(started: str, cluster: Cluster) -> None:
    assert "controller, compute-01, compute-02: answering on SSH after" in started
    assert "libvirtd" in started  # none ran in this namespace, so it says that it starts one


def test_the_second_start_does_nothing(started: str, cluster_file: Path) -> None:
    done = hpcstate("start", str(cluster_file))
    assert done.returncode == 0
    assert "running already: controller, compute-01, compute-02; nothing to do" in done.stdout


def test_status_shows_nodes_before_slurm_is_there(started: str, cluster_file: Path) -> None:
    done = hpcstate("status", str(cluster_file), "--json")
    report = json.loads(done.stdout)[0]
    assert done.returncode == 1
    assert [node["domain"] for node in report["nodes"]] == ["running"] * 3
    assert report["slurm_error"]


def test_secrets_are_closed(started: str, cluster: Cluster) -> None:
    secrets = ClusterPaths.of(cluster.name).secrets
    assert secrets.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in secrets.iterdir() if path.suffix != ".pub"} == {0}
