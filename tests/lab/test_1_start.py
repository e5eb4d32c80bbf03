"""From a file to nodes that answer."""

from __future__ import annotations

import json
from pathlib import Path

from hpcstate.model import Cluster
from hpcstate.paths import ClusterPaths
from tests.lab.conftest import hpcstate, run_shown


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


def test_a_person_gets_onto_a_node(
    started: str, cluster_file: Path, cluster: Cluster, tmp_path: Path
) -> None:
    done = hpcstate("ssh", str(cluster_file), "compute-01", "--", "hostname; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "compute-01\n", "err\n")
    blocks = tmp_path / "config"
    blocks.write_text(hpcstate("ssh-config", str(cluster_file)).stdout)
    done = run_shown(["ssh", "-F", str(blocks), cluster.domain_name(cluster.controller), "hostname"])
    assert (done.returncode, done.stdout) == (0, "controller\n")


def test_another_host_key_keeps_a_person_out(started: str, cluster_file: Path, cluster: Cluster) -> None:
    # known_hosts is made of these files, also for each connection.
    at = ClusterPaths.of(cluster.name)
    public, other = (at.secrets / f"host_key.{name}.pub" for name in ("compute-01", "controller"))
    text = public.read_text()
    public.write_text(other.read_text())
    try:
        done = hpcstate("ssh", str(cluster_file), "compute-01", "--", "true")
    finally:
        public.write_text(text)
    assert done.returncode == 2
    (line, *_) = done.stderr.splitlines()
    assert "answers with another host key than compute-01 was given" in line, "not OpenSSH's banner"
    assert hpcstate("ssh", str(cluster_file), "compute-01", "--", "true").returncode == 0


def test_a_refused_start_shuts_nobody_out(
    started: str, cluster_file: Path, cluster: Cluster, tmp_path: Path
) -> None:
    """A file with another subnet and the same name."""
    other = tmp_path / "other.yaml"
    subnet = str(cluster.network.subnet.network_address).rpartition(".")[0]
    other.write_text(cluster_file.read_text().replace(f"{subnet}.", "192.168.253."))
    known = ClusterPaths.of(cluster.name).known_hosts
    before = known.read_text()
    assert hpcstate("start", str(other)).returncode != 0
    assert known.read_text() == before
    assert hpcstate("ssh", str(cluster_file), "--", "true").returncode == 0


def test_secrets_are_closed(started: str, cluster: Cluster) -> None:
    secrets = ClusterPaths.of(cluster.name).secrets
    assert secrets.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in secrets.iterdir() if path.suffix != ".pub"} == {0}
