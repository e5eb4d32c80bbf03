"""What pyinfra gets: through our functions, and through pyinfra's own loader."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
from pyinfra.api.inventory import Inventory
from pyinfra.api.state import State
from pyinfra.context import ctx_state
from pyinfra_cli.inventory import make_inventory  # type: ignore[import-untyped]

from hpcstate import paths, schema
from hpcstate.cluster import inventory
from hpcstate.errors import HpcstateError, ProblemsError

INVENTORIES = paths.ROOT / "inventories"


def names(groups: inventory.Groups) -> dict[str, list[str]]:
    """The host names of each group."""
    return {group: [name for name, _ in hosts] for group, hosts in groups.items()}


def pyinfra_inventory(file: Path) -> Inventory:
    """What pyinfra's command makes of an inventory file."""
    with ctx_state.use(State()):
        found: Inventory = make_inventory(str(file))
        return found


def test_pyinfra_connects_without_nagles_delay() -> None:
    _, data = inventory.groups_of(INVENTORIES / "gpu.yaml")["controller"][0]
    factory = data["ssh_paramiko_connect_kwargs"]["transport_factory"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        transport = factory(ours)
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        transport.close()
        ours.close()


def test_the_groups_of_an_hpc_cluster() -> None:
    assert names(inventory.groups(schema.load(INVENTORIES / "gpu.yaml"))) == {
        "controller": ["controller"],
        "compute": ["compute-01", "compute-02"],
        "login": [],
        "gpu": ["compute-01", "compute-02"],
        "control_plane": [],
        "worker": [],
    }


def test_the_data_of_a_host() -> None:
    groups = inventory.groups(schema.load(INVENTORIES / "full-stack.yaml"))
    files = paths.ClusterPaths.of("stack-cloud")
    assert dict(groups["worker"])["worker-02"] == {
        "ssh_hostname": "192.168.154.12",
        "ssh_user": "admin",
        "ssh_key": str(files.ssh_key),
        "ssh_known_hosts_file": str(files.known_hosts),
        "ssh_strict_host_key_checking": "yes",
        "cluster_kind": "cloud",
        "role": "worker",
        "node": "worker-02",
        "cluster_file": str(INVENTORIES / "full-stack.yaml"),
        "build_mode": False,
    }


def test_nodes_that_do_not_run_are_left_out_unless_named(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(
        (INVENTORIES / "gpu.yaml")
        .read_text()
        .replace("count: 2\n        cpu", "count: 2\n        auto_start: no\n        cpu")
    )
    description = schema.load(file)
    assert names(inventory.groups(description))["compute"] == []
    assert names(inventory.groups(description, also=["compute-02"]))["gpu"] == ["compute-02"]


@pytest.mark.parametrize("file", sorted(INVENTORIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_pyinfra_finds_the_same_groups(file: Path) -> None:
    ours = names(inventory.groups(schema.load(file)))
    theirs = pyinfra_inventory(file.with_suffix(".py"))
    for host in theirs:
        mine = [group for group, members in ours.items() if host.name in members]
        assert [group for group in host.groups if group in inventory.GROUPS] == mine
    assert {host.name for host in theirs} == {name for members in ours.values() for name in members}
    for name, data in [host for hosts in inventory.groups(schema.load(file)).values() for host in hosts]:
        host = theirs.get_host(name)
        assert {key: host.data.get(key) for key in data} == data


def test_a_file_named_gpu_does_not_make_every_node_a_gpu_node(tmp_path: Path) -> None:
    (tmp_path / "gpu.yaml").write_text((INVENTORIES / "minimal.yaml").read_text())
    (tmp_path / "gpu.py").write_text((INVENTORIES / "gpu.py").read_text())
    assert [host.groups for host in pyinfra_inventory(tmp_path / "gpu.py")] == [["controller"], ["compute"]]


def test_nodes_started_by_hand_are_named_by_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (INVENTORIES / "minimal.yaml").read_text() + "        auto_start: false\n"
    (tmp_path / "lab.yaml").write_text(text)
    assert names(inventory.groups_beside(str(tmp_path / "lab.py")))["compute"] == []
    monkeypatch.setenv(inventory.ALSO_VARIABLE, "compute-01")
    assert names(inventory.groups_beside(str(tmp_path / "lab.py")))["compute"] == ["@hpcstate/compute-01"], (
        "with the connector of ours"
    )


@pytest.mark.parametrize(("words", "demanded"), [("deploys/full_stack.py", True), ("debug-inventory", False)])
def test_a_cluster_that_was_never_started_ends_pyinfra_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, demanded: bool
) -> None:
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setattr("sys.argv", ["/usr/bin/pyinfra", "inventories/gpu.py", words])
    if not demanded:
        assert inventory.groups_of(INVENTORIES / "gpu.yaml")["controller"]
        return
    with pytest.raises(SystemExit) as caught:
        inventory.groups_of(INVENTORIES / "gpu.yaml")
    assert "it was never started here\n  hint: ./hpc up inventories/gpu.yaml makes" in str(caught.value)


@pytest.mark.parametrize(
    ("answering", "ends"), [(0, True), (1, False), (2, False)], ids=["all off", "one is on", "all are on"]
)
def test_a_cluster_that_is_off_ends_pyinfra_in_a_line(
    monkeypatch: pytest.MonkeyPatch, answering: int, ends: bool
) -> None:
    """Addresses of this machine, some with somebody who takes connections."""
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(answering)]
        port = taken[0].getsockname()[1] if taken else 1
        monkeypatch.setattr(inventory, "_SSH_PORT", port)
        monkeypatch.setattr(inventory, "demand_key", lambda cluster, path: None)
        data = [("a", "127.0.0.2" if answering == 1 else "127.0.0.1"), ("b", "127.0.0.1")]
        found = {"compute": [(name, {"ssh_hostname": address}) for name, address in data]}
        monkeypatch.setattr(inventory, "groups", lambda description, also: found)
        monkeypatch.setattr(inventory, "connected", lambda groups: groups)
        monkeypatch.setattr("sys.argv", ["/usr/bin/pyinfra", "inventories/gpu.py", "deploys/full_stack.py"])
        if not ends:
            assert inventory.groups_of(INVENTORIES / "gpu.yaml") == found
            return
        with pytest.raises(SystemExit) as caught:
            inventory.groups_of(INVENTORIES / "gpu.yaml")
    said = str(caught.value)
    assert "no node of " in said and "answers by SSH" in said and "connection refused" in said
    assert "./hpc up inventories/gpu.yaml starts them" in said


def test_a_broken_file_ends_pyinfra_with_its_problems_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text("clusters: {hcp: {}}\n")
    (tmp_path / "lab.py").write_text((INVENTORIES / "gpu.py").read_text())
    with pytest.raises(SystemExit) as caught:
        pyinfra_inventory(tmp_path / "lab.py")
    assert "lab.yaml:1: error: .clusters.hcp: unknown key 'hcp'" in str(caught.value)


def test_deploys_get_the_cluster_back_once() -> None:
    file = str(INVENTORIES / "full-stack.yaml")
    assert inventory.cluster_of(file, "cloud").name == "stack-cloud"
    assert inventory.cluster_of(file, "hpc") is inventory.cluster_of(file, "hpc")


def test_a_cluster_that_the_file_does_not_describe(tmp_path: Path) -> None:
    with pytest.raises(HpcstateError, match="no cluster 'cloud'"):
        inventory.cluster_of(str(INVENTORIES / "gpu.yaml"), "cloud")
    with pytest.raises(ProblemsError):
        inventory.cluster_of(str(tmp_path / "none.yaml"), "hpc")
