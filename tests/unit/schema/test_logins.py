"""``login_nodes``: who is one, where they are, and that nobody else moves for them."""

from __future__ import annotations

import pytest

from hpcstate.errors import ProblemsError
from hpcstate.model import Cluster
from tests.unit.schema.test_schema import addresses, hpc


def with_logins(
    logins: str, workers: str = "[{}, {}]", subnet: str = "10.1.2.0/24", more: str = ""
) -> Cluster:
    return hpc(workers, subnet=subnet, more=f"    login_nodes: {logins}\n{more}")


@pytest.mark.parametrize(
    ("logins", "names", "expected"),
    [
        ("[{}]", ["login-01"], [".9"]),
        ("[{count: 2}, {}]", ["login-01", "login-02", "login-03"], [".9", ".8", ".7"]),
        ("[{name: front}, {}]", ["front", "login-02"], [".9", ".8"]),
        ("[{name: front, count: 2}]", ["front-01", "front-02"], [".9", ".8"]),
        # What was the first of two is out: the second keeps name and address.
        ("[{name: login-02}]", ["login-02"], [".8"]),
        ("[{ip: 10.1.2.200}, {}]", ["login-01", "login-02"], [".200", ".9"]),
        ("[{name: login-30}]", ["login-30"], [".9"]),
        (
            "[{count: 9}]",
            [f"login-{n:02}" for n in range(1, 10)],
            [f".{n}" for n in range(9, 1, -1)] + [".254"],
        ),
    ],
)
def test_names_and_addresses(logins: str, names: list[str], expected: list[str]) -> None:
    cluster = with_logins(logins)
    assert [node.name for node in cluster.login_nodes] == names
    assert [str(node.address) for node in cluster.login_nodes] == [f"10.1.2{end}" for end in expected]
    assert {node.role for node in cluster.login_nodes} == {"login"}


@pytest.mark.parametrize("subnet", ["10.1.2.0/24", "10.1.2.0/28", "10.1.2.0/29", "10.0.0.0/8"])
@pytest.mark.parametrize("workers", ["[{}]", "[{count: 2}]", "[{name: compute-02}]"])
def test_nobody_moves_for_them_and_they_move_for_nobody(workers: str, subnet: str) -> None:
    alone, together = hpc(workers, subnet=subnet), with_logins("[{}]", workers, subnet)
    assert addresses(alone) == addresses(together)[: len(alone.nodes)]
    assert together.nodes[: len(alone.nodes)] == alone.nodes
    if subnet != "10.1.2.0/29":
        more = with_logins("[{}]", workers[:-1] + ", {name: new}]", subnet)
        assert more.login_nodes == together.login_nodes


def test_where_there_is_none_the_controller_is_one() -> None:
    alone, cluster = hpc(), with_logins("[{}]")
    assert alone.login_nodes == (alone.controller,)
    assert not alone.is_closed(alone.controller)
    assert cluster.is_closed(cluster.controller)
    assert not any(cluster.is_closed(node) for node in cluster.others)
    assert [node.name for node in cluster.workers] == ["compute-01", "compute-02"]
    assert [node.name for node in cluster.others] == ["compute-01", "compute-02", "login-01"]


def test_they_are_in_no_partition_and_no_gpu_is_theirs() -> None:
    cluster = with_logins("[{}]")
    assert cluster.slurm
    assert [partition.nodes for partition in cluster.slurm.partitions] == [("compute-01", "compute-02")]
    with pytest.raises(ProblemsError, match=r"login_nodes\[0\]\.simulated_gpus"):
        with_logins("[{simulated_gpus: {count: 1}}]")
    with pytest.raises(ProblemsError, match="unknown node 'login-01'"):
        with_logins("[{}]", more="    slurm_config: {partitions: [{name: a, nodes: [login-01]}, b]}\n")


def test_what_they_have_of_their_own() -> None:
    cluster = with_logins(
        "[{cpu_cores: 4, memory_gb: 3, disk_gb: 30, packages: [emacs-nox], auto_start: false}]"
    )
    (node,) = cluster.login_nodes
    assert (node.cpu_cores, node.memory_mb, node.disk_gb, node.auto_start) == (4, 3072, 30, False)
    assert cluster.packages_of(node) == ("emacs-nox",)
    assert (node.gres_types, node.data_gb) == ((), 0)


def test_a_mount_may_be_for_them_alone() -> None:
    mount = "{type: nfs, server: nfs, path: /data, mount_point: /data, nodes: [login]}"
    cluster = with_logins("[{}]", more=f"    storage: {{mounts: [{mount}]}}\n")
    assert [node.name for node in cluster.nodes if node.mounts] == ["login-01"]


def test_a_port_leads_to_them_unless_it_says_where() -> None:
    text = "10.1.2.0/24, ports: [{host: 2222}, {host: 2223, node: controller}]"
    assert [port.node for port in with_logins("[{}]", subnet=text).network.ports] == [
        "login-01",
        "controller",
    ]
    assert [port.node for port in hpc(subnet=text).network.ports] == ["controller", "controller"]


@pytest.mark.parametrize(
    ("logins", "place", "said"),
    [
        ("[{name: compute-01}]", "login_nodes[0].name", "compute_nodes[0] is compute-01 too"),
        ("[{name: controller}]", "login_nodes[0].name", "another node name"),
        ("[{ip: 10.1.3.1}]", "login_nodes[0].ip", "outside the subnet"),
        ("[{features: [a]}]", "login_nodes[0].features", "unknown key"),
        ("[{count: 300}]", "login_nodes[0]", "do not fit"),
    ],
)
def test_what_cannot_be(logins: str, place: str, said: str) -> None:
    with pytest.raises(ProblemsError) as caught:
        with_logins(logins)
    (found,) = caught.value.problems
    assert (found.place, said in found.message) == (f".clusters.hpc.{place}", True), found
