"""Nodes: which are chosen, what a status means, what a node is given at first boot."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate import lifecycle, paths, schema, status
from hpcstate.cidata import CloudInit, write_cidata
from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster
from hpcstate.paths import ClusterPaths
from hpcstate.secrets import MUNGE_KEY_BYTES, ensure_secrets
from hpcstate.ssh_keys import known_hosts_line, new_key
from hpcstate.status import ClusterStatus, NodeStatus


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    return schema.load(paths.ROOT / "inventories" / "gpu.yaml").clusters[0]


def test_only_what_starts_by_itself_is_started(cluster: Cluster) -> None:
    sleeping = replace(cluster.workers[1], auto_start=False)
    one = replace(cluster, nodes=(*cluster.nodes[:2], sleeping))
    assert [node.name for node in lifecycle.select(one, ())] == ["controller", "compute-01"]
    assert [node.name for node in lifecycle.select(one, ["compute-02", "compute-02"])] == ["compute-02"]


def test_an_unknown_node_names_the_known_ones(cluster: Cluster) -> None:
    with pytest.raises(HpcstateError, match="compute-1") as caught:
        lifecycle.select(cluster, ["compute-1"])
    assert "compute-01" in caught.value.hint


def node(name: str, role: str, domain: str = "running", slurm: str = "") -> NodeStatus:
    return NodeStatus(name, role, "192.0.2.1", domain, slurm, "", "gpu:simulated:2", "", 2, 2, 2048)


@pytest.mark.parametrize(
    ("domain", "slurm", "error", "healthy"),
    [
        ("running", "IDLE", "", True),
        ("running", "MIXED+PLANNED", "", True),
        ("running", "ALLOCATED", "", True),
        ("running", "IDLE+DRAIN", "", False),
        ("running", "IDLE+NOT_RESPONDING", "", False),
        ("running", "DOWN", "", False),
        ("running", "IDLE+INVALID_REG", "", False),
        ("running", "", "", False),
        ("stopped", "IDLE", "", False),
        ("running", "IDLE", "slurmctld does not answer", False),
    ],
)
def test_what_counts_as_healthy(domain: str, slurm: str, error: str, healthy: bool) -> None:
    nodes = (node("controller", "controller"), node("compute-01", "compute", domain, slurm))
    assert ClusterStatus("gpu", "hpc", nodes, error).healthy is healthy


def test_simulated_gpus_are_marked() -> None:
    text = status.as_text(ClusterStatus("gpu", "hpc", (node("compute-01", "compute", slurm="IDLE"),), ""))
    assert "2 simulated" in text


def test_secrets_are_made_once_and_closed(cluster: Cluster) -> None:
    at = ClusterPaths.of(cluster.name)
    ensure_secrets(cluster)
    first = {path.name: path.read_bytes() for path in at.secrets.iterdir()}
    assert len(first["munge.key"]) == MUNGE_KEY_BYTES
    assert at.known_hosts.read_text().count("ssh-ed25519") == len(cluster.nodes)
    assert at.secrets.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in at.secrets.iterdir() if path.suffix != ".pub"} == {0o600}
    ensure_secrets(cluster)
    assert {path.name: path.read_bytes() for path in at.secrets.iterdir()} == first


@pytest.mark.parametrize("left", [b"", b"short"])
def test_a_munge_key_that_was_cut_off_is_made_again(cluster: Cluster, left: bytes) -> None:
    at = ClusterPaths.of(cluster.name)
    at.secrets.mkdir(parents=True)
    at.munge_key.write_bytes(left)
    ensure_secrets(cluster)
    assert at.munge_key.stat().st_size == MUNGE_KEY_BYTES


def test_another_host_key_is_another_instance(tmp_path: Path) -> None:
    keys = [new_key(tmp_path / name) for name in ("a", "b")]
    seeds = [CloudInit("compute-01", "admin", "ssh-ed25519 AAAA", key) for key in keys]
    assert seeds[0].instance_id != seeds[1].instance_id
    assert known_hosts_line("compute-01", keys[0]).split()[:2] == ["compute-01", "ssh-ed25519"]


def test_the_seed_is_closed_and_has_both_forms(tmp_path: Path) -> None:
    iso = tmp_path / "node.iso"
    key = new_key(tmp_path / "key")
    write_cidata(CloudInit("compute-01", "admin", "ssh-ed25519 AAAA x", key, "52:54:00:00:00:01"), iso)
    assert iso.stat().st_mode & 0o777 == 0o600
    listing = subprocess.run(
        ["xorriso", "-indev", str(iso), "-find", "/"], capture_output=True, text=True, check=True
    ).stdout
    for name in ("/user-data", "/meta-data", "/network-config", "/hpcstate/ssh_host_ed25519_key"):
        assert f"'{name}'" in listing
    assert not list(tmp_path.glob(".cidata.*"))
