"""What else changes in a file, on a cluster where jobs run and somebody drained a node. The long lab."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from hpcstate.hypervisor.connection import connect
from hpcstate.hypervisor.daemon import SYSTEM_URI
from hpcstate.hypervisor.mark import Mark
from hpcstate.model import Cluster
from hpcstate.node.ssh import Live
from tests.lab.conftest import hpcstate
from tests.lab.test_6_roll import boot, submit
from tests.lab.test_6_sizes import TWO_ALIKE, announced, slurm_nodes, up
from tests.lab.test_6_stop_under_jobs import state

GPUS_AND_CPUS = """\
      - cpu_cores: 2
        memory_gb: 2
        simulated_gpus:
          count: 3
      - cpu_cores: 1
        memory_gb: 2
        simulated_gpus:
          count: 2
"""
BRIDGE = "      bridge: virbr170\n"
FIRST_OUT = """\
      - cpu_cores: 1
        memory_gb: 2
        simulated_gpus:
          count: 2
"""


@pytest.fixture(scope="module")
def file(deployed: None, cluster_file: Path) -> Iterator[Path]:
    """The lab's file; the two nodes of it are there again at the end."""
    before = cluster_file.read_text()
    yield cluster_file
    cluster_file.write_text(before)
    assert up(cluster_file).returncode == 0


def root(live: Live, script: str) -> str:
    return live.run(live.cluster.controller.name, script, user="root").stdout


@contextmanager
def edited(file: Path, old: str, new: str) -> Iterator[None]:
    """``new`` stands for ``old`` in the file for as long."""
    before = file.read_text()
    assert old in before
    file.write_text(before.replace(old, new))
    try:
        yield
    finally:
        file.write_text(before)


def gres(live: Live) -> dict[str, str]:
    """The GRES and the CPUs of each node, as sinfo has them."""
    rows = root(live, "sinfo --noheader --Node --format='%N %G/%c' | sort -u").splitlines()
    return {name: re.sub(r"\(.*?\)", "", words) for name, words in (row.split() for row in rows)}


def booted(live: Live, name: str) -> str:
    """When slurmd says that the node booted: "BootTime=..."."""
    found = re.search(r"BootTime=\S+", root(live, f"scontrol show node {name}"))
    return found.group() if found else ""


def test_more_gpus_fewer_cpus_and_a_drain_of_somebody_else(live: Live, file: Path) -> None:
    root(live, "scontrol update nodename=compute-01 state=drain reason='fan broken'")
    job = submit(live, "compute-02", 60)
    first, controller = boot(live, "compute-01"), boot(live, live.cluster.controller.name)
    file.write_text(file.read_text().replace(TWO_ALIKE, GPUS_AND_CPUS))
    planned = hpcstate("plan", str(file)).stdout
    assert "compute-02: CPUs 2 -> 1" in planned
    assert up(file).returncode == 0
    assert state(live, job) == "COMPLETED"
    assert gres(live) == {"compute-01": "gpu:simulated:3/2", "compute-02": "gpu:simulated:2/1"}
    assert (boot(live, "compute-01"), boot(live, live.cluster.controller.name)) == (first, controller)
    nodes = slurm_nodes(live)
    assert (nodes["compute-01"][1], nodes["compute-02"][1]) == ("drained", "idle")
    assert "fan broken" in root(live, "scontrol show node compute-01")
    root(live, "scontrol update nodename=compute-01 state=resume")
    assert hpcstate("plan", str(file)).returncode == 0


def test_the_first_node_is_taken_out_under_a_job_of_the_second(live: Live, file: Path) -> None:
    """By its place compute-02 would become compute-01, on the other's disk."""
    job = submit(live, "compute-02", 200)
    file.write_text(file.read_text().replace(GPUS_AND_CPUS, FIRST_OUT))
    assert f"jobs run there: {job}" in hpcstate("plan", str(file)).stdout
    for words in ((), ("--remove", "--force")):
        refused = hpcstate("start", str(file), *words)
        assert refused.returncode == 2
        assert "`name: compute-02` at .clusters.hpc.compute_nodes[0]" in refused.stderr
        assert "removed" not in refused.stdout
    named = FIRST_OUT.replace("- cpu_cores", "- name: compute-02\n        cpu_cores")
    file.write_text(file.read_text().replace(FIRST_OUT, named))
    removed = hpcstate("start", str(file), "--remove", "--force")
    assert removed.returncode == 0
    assert "removed domain lab-compute-01" in removed.stdout
    assert gres(live) == {"compute-02": "gpu:simulated:2/1"}, "out of Slurm, then gone"
    assert up(file).returncode == 0
    assert gres(live) == {"compute-02": "gpu:simulated:2/1"}
    assert state(live, job) == "RUNNING"
    root(live, f"scancel {job}")


def test_what_a_node_was_is_noted_with_its_domain(cluster: Cluster) -> None:
    """libvirt sees neither who gave the name nor simulated GPUs: edits are compared with it."""
    with connect(SYSTEM_URI) as host:
        mark = Mark.from_xml(host.domains(cluster)["compute-02"].XMLDesc())
    assert mark is not None
    assert (mark.named, mark.simulated) == ("yes", "simulated:2")


def test_another_subnet_is_refused_while_nodes_run_before_anything_is_done(file: Path) -> None:
    with edited(file, "subnet: 192.168.170.0/24", "subnet: 192.168.171.0/24"):
        planned = hpcstate("plan", str(file))
        assert planned.returncode == 2, "nobody answers at addresses that nobody has"
        refused = announced(file)
        assert refused.returncode != 0
        for said in (planned.stdout, refused.stdout + refused.stderr):
            assert "compute-02 has 192.168.170.12, the file says 192.168.171.12" in said
            assert "leases and names" not in said
        assert "nothing was touched" in refused.stdout + refused.stderr
        assert "`./hpc up` changes it" not in hpcstate("status", str(file)).stdout
        started = hpcstate("start", str(file))
        assert started.returncode == 2
        assert "put the addresses back in the file" in started.stderr
    assert hpcstate("plan", str(file)).returncode == 0


def test_another_name_server_reaches_the_network_when_nobody_is_in_it(file: Path, cluster: Cluster) -> None:
    with edited(file, BRIDGE, f"{BRIDGE}      dns_servers: [192.0.2.53]\n"):
        assert "192.0.2.53" in hpcstate("plan", str(file)).stdout
        for command in ("stop", "start"):
            assert hpcstate(command, str(file)).returncode == 0
        with connect(SYSTEM_URI) as host:
            network = host.network(cluster)
            assert network is not None
            assert "<forwarder addr='192.0.2.53'/>" in network.XMLDesc()
    for command in ("stop", "start"):
        assert hpcstate(command, str(file)).returncode == 0


def greeting(port: int) -> str:
    """What answers first at ``port`` of this host."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.settimeout(60)
        return connection.recv(7).decode()


def with_port(file: Path, port: str) -> AbstractContextManager[None]:
    return edited(file, BRIDGE, f"{BRIDGE}      ports: [{port}]\n")


def test_a_port_of_the_host_leads_to_a_node_follows_the_file_and_goes_with_it(file: Path) -> None:
    with with_port(file, "{host: 2222}"):
        assert "port 2222 none -> controller:22" in hpcstate("plan", str(file)).stdout
        assert hpcstate("start", str(file)).returncode == 0
        assert greeting(2222) == "SSH-2.0"
        assert "port 2222" not in hpcstate("plan", str(file)).stdout
    with with_port(file, "{host: 2223, node: compute-02}"):
        assert hpcstate("start", str(file)).returncode == 0
        assert greeting(2223) == "SSH-2.0"
        with pytest.raises(ConnectionRefusedError):
            greeting(2222)
    with socket.create_server(("127.0.0.1", 2224)), with_port(file, "{host: 2224}"):
        refused = hpcstate("validate", str(file))
        assert refused.returncode == 1
        assert "listens on port 127.0.0.1:2224 of the hypervisor" in refused.stdout + refused.stderr
    assert hpcstate("start", str(file)).returncode == 0
    with pytest.raises(ConnectionRefusedError):
        greeting(2223)


def test_a_reboot_by_slurm_brings_a_node_back(live: Live, file: Path) -> None:
    assert up(file).returncode == 0
    before = booted(live, "compute-02")
    root(live, "scontrol reboot ASAP nextstate=RESUME reason=kernel compute-02")
    deadline = time.monotonic() + 300
    while slurm_nodes(live)["compute-02"][1] != "idle" or booted(live, "compute-02") == before:
        assert time.monotonic() < deadline, root(live, "scontrol show node compute-02")
        time.sleep(3)
