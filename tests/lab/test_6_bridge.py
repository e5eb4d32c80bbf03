"""A cluster in a network of the site: the lab has a bridge with a router, as a site has. The long lab.

Its machine is a controller alone: it starts beside the lab's own cluster and boots once.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcstate import schema
from hpcstate.hypervisor.connection import connect
from hpcstate.hypervisor.daemon import SYSTEM_URI
from hpcstate.model import Cluster
from hpcstate.node.ssh import Live
from tests.lab.conftest import hpcstate

BRIDGE, ROUTER = "br-site", "10.77.0.1"
FILE = f"""\
version: "1.0"
clusters:
  hpc:
    name: bridged
    network:
      subnet: 10.77.0.0/24
      forward: bridge
      bridge: {BRIDGE}
      gateway: {ROUTER}
      dns_servers: [{ROUTER}]
    controller: {{ip: 10.77.0.11, cpu_cores: 1, memory_gb: 1}}
    compute_nodes: [{{ip: 10.77.0.21, cpu_cores: 1, memory_gb: 1, auto_start: false}}]
"""


def ip(*words: str, check: bool = True) -> str:
    return subprocess.run(["ip", *words], check=check, capture_output=True, text=True).stdout


def ok(*words: str) -> str:
    done = hpcstate(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def file(deployed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    found = tmp_path_factory.mktemp("bridge") / "bridged.yaml"
    found.write_text(FILE)
    ip("link", "add", BRIDGE, "type", "bridge")
    ip("address", "add", f"{ROUTER}/24", "dev", BRIDGE)
    ip("link", "set", BRIDGE, "up")
    try:
        yield found
    finally:
        hpcstate("destroy", str(found), "--data", "--force")
        ip("link", "delete", BRIDGE, check=False)


@pytest.fixture(scope="module")
def bridged(file: Path) -> Cluster:
    ok("start", str(file))
    return schema.load(file).clusters[0]


def test_a_bridge_that_is_down_is_said_before_anything_is_made(file: Path) -> None:
    ip("link", "set", BRIDGE, "down")
    try:
        assert f"the bridge {BRIDGE} is down" in hpcstate("validate", str(file)).stdout
    finally:
        ip("link", "set", BRIDGE, "up")


def test_the_node_has_its_address_its_router_and_its_dns(bridged: Cluster) -> None:
    with Live(bridged) as live:
        said = live.run("controller", "ip -4 -o address show dev eth0; ip route; resolvectl dns eth0").stdout
    assert "inet 10.77.0.11/24" in said and f"default via {ROUTER}" in said
    assert said.splitlines()[-1].endswith(f": {ROUTER}")


def test_nothing_differs_when_it_runs(bridged: Cluster, file: Path) -> None:
    plan = hpcstate("plan", str(file)).stdout
    assert "network bridged" not in plan and "recreate" not in plan and "address" not in plan, plan


def test_another_kind_of_network_is_said_by_the_plan(bridged: Cluster, file: Path) -> None:
    try:
        nat = FILE.replace("forward: bridge", "forward: nat").replace(f"bridge: {BRIDGE}", "bridge: virbr77")
        file.write_text(nat.replace("subnet: 10.77.0.0/24", "subnet: 10.78.0.0/24").replace("10.77", "10.78"))
        assert "recreate the network" in hpcstate("plan", str(file)).stdout
    finally:
        file.write_text(FILE)


def test_another_address_comes_with_the_next_boot(bridged: Cluster, file: Path) -> None:
    file.write_text(FILE.replace("10.77.0.11", "10.77.0.12"))
    refused = hpcstate("start", str(file))
    assert refused.returncode != 0 and "would get other addresses: controller" in refused.stderr
    file.write_text(FILE)
    ok("stop", str(file), "--force")
    file.write_text(FILE.replace("10.77.0.11", "10.77.0.12"))
    ok("start", str(file))
    with Live(schema.load(file).clusters[0]) as live:
        assert "10.77.0.12/24" in live.run("controller", "ip -4 -o address show dev eth0").stdout


def test_destroy_leaves_the_bridge_alone(bridged: Cluster, file: Path) -> None:
    ok("destroy", str(file), "--data", "--force")
    assert f"{ROUTER}/24" in ip("-4", "-o", "address", "show", "dev", BRIDGE)
    with connect(SYSTEM_URI) as host:
        assert "bridged" not in [network.name() for network in host.connection.listAllNetworks()]
