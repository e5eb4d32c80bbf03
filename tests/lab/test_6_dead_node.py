"""A node dies: the others get their container, `start` takes the cluster up, `--resume` serves the node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import libvirt

from hpcstate.model import Cluster
from hpcstate.paths import container
from tests.lab.conftest import hpcstate

FILE = container("mpi-minimal")
TOOL = ("--as", "tool", "--version", "1")
"""The same file as a container of somebody's own, which the cluster file does not know."""


def deploy_container(file: Path, *words: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """`hpcstate container deploy`: its exit code, and by node what became of it."""
    done = hpcstate("container", "deploy", str(file), *words, "--json")
    (result,) = json.loads(done.stdout)
    return done.returncode, {node["node"]: node for node in result["nodes"]}


def received(nodes: dict[str, dict[str, Any]]) -> dict[str, int]:
    """How many files each node received."""
    return {name: len(node["received"]) for name, node in nodes.items()}


def test_a_dead_node_is_reported_and_the_others_are_served(
    deployed: None, cluster: Cluster, cluster_file: Path
) -> None:
    with libvirt.open(cluster.uri) as connection:
        connection.lookupByName("lab-compute-02").destroy()
    code, nodes = deploy_container(cluster_file, str(FILE), *TOOL)
    assert code == 1
    assert received(nodes) == {"controller": 1, "compute-01": 1, "compute-02": 0}
    assert nodes["compute-02"]["outcome"] == "failed"
    assert "does not answer on SSH" in nodes["compute-02"]["message"]


def test_a_half_started_cluster_is_taken_up(deployed: None, cluster: Cluster, cluster_file: Path) -> None:
    report = json.loads(hpcstate("status", str(cluster_file), "--json").stdout)[0]
    assert [node["domain"] for node in report["nodes"]] == ["running", "running", "stopped"]
    done = hpcstate("start", str(cluster_file), "--node", "compute-02")
    assert done.returncode == 0, done.stderr
    assert "powering on compute-02 under" in done.stdout


def test_a_resumed_deploy_serves_only_the_node_that_was_dead(deployed: None, cluster_file: Path) -> None:
    code, nodes = deploy_container(cluster_file, "--resume")
    assert code == 0, nodes
    assert received(nodes) == {"controller": 0, "compute-01": 0, "compute-02": 1}
