"""Where homes are, and what each node has for it."""

from __future__ import annotations

from dataclasses import replace

from hpcstate import paths, schema
from hpcstate.node import base_files, homes
from hpcstate.node.data_volume import BINDS, HOME_BIND, binds
from hpcstate.node.drift import to_be_in_force

SHARED = schema.load(paths.ROOT / "inventories" / "gpu.yaml").clusters[0]
OWN = replace(SHARED, home="local")
FOLDER = replace(SHARED, home="virtio_fs", home_path="/data/home")
CLOUD = schema.load(paths.ROOT / "inventories" / "full-stack.yaml").clusters[1]
HEAD, WORKER = SHARED.controller, SHARED.workers[0]


def test_shared_homes_are_the_controllers() -> None:
    assert (SHARED.home, CLOUD.home) == ("nfs", "local")
    assert homes.owns_homes(SHARED, HEAD) and not homes.owns_homes(SHARED, WORKER)
    assert all(homes.owns_homes(OWN, node) for node in OWN.nodes)
    assert binds(SHARED) == (*BINDS, HOME_BIND) and binds(OWN) == BINDS


def test_homes_of_a_nodes_own_need_no_file() -> None:
    assert [homes.files(OWN, node) for node in OWN.nodes] == [{}] * 3
    assert homes.files(CLOUD, CLOUD.controller) == {}


def test_a_folder_of_the_hypervisor_is_mounted_by_all_alike() -> None:
    for node in FOLDER.nodes:
        made = homes.files(FOLDER, node)
        assert set(made) == {f"/etc/systemd/system/home.{kind}" for kind in ("mount", "automount")}
        assert {"What=hpcstate-home", "Type=virtiofs", "Where=/home"} <= set(
            made["/etc/systemd/system/home.mount"].splitlines()
        )
    assert (homes.source(FOLDER), homes.file_system(FOLDER)) == ("hpcstate-home", "virtiofs")
    assert (homes.file_system(SHARED), homes.file_system(OWN)) == ("nfs4", "")
    assert binds(FOLDER) == BINDS and homes.owns_homes(FOLDER, HEAD) and not homes.owns_homes(FOLDER, WORKER)


def test_the_server_exports_to_the_nodes_and_to_nobody_else() -> None:
    files = homes.files(SHARED, HEAD)
    path, options, *clients = files[homes.EXPORTS].replace("\\\n", " ").splitlines()[-1].split()
    assert path == "/home"
    assert {"root_squash", "secure", "mountpoint", f"fsid={homes.FSID}"} <= set(options[1:].split(","))
    assert clients == [str(node.address) for node in SHARED.workers]
    assert {"vers3=n", "vers4.1=n", "vers4.2=y"} <= set(files[homes.SERVER].split())
    assert "RequiresMountsFor=/home" in files[homes.SERVER_DROP_IN]


def test_a_node_waits_for_its_homes_where_somebody_uses_them_and_nowhere_else() -> None:
    units = homes.files(SHARED, WORKER)
    mount, automount = units["/etc/systemd/system/home.mount"], units["/etc/systemd/system/home.automount"]
    assert f"What={HEAD.address}:/home\n" in mount and "WantedBy" not in mount
    options = mount.partition("Options=")[2].splitlines()[0].split(",")
    assert {"vers=4.2", "hard", "softreval", "nosuid", "nodev"} <= set(options)
    assert "TimeoutSec=60\n" in mount
    # A limit of starts would make the automount fail, and what is written to /home then is lost from sight.
    assert all("StartLimitIntervalSec=0\n" in unit for unit in (mount, automount))
    assert "DefaultDependencies=no\n" in automount and "After=basic.target" in automount


def test_nothing_looks_at_shared_homes_while_a_node_boots() -> None:
    assert "/home" not in base_files.cluster_files(SHARED, WORKER)[base_files.TMPFILES]
    assert "/home/hpc" in base_files.cluster_files(SHARED, HEAD)[base_files.TMPFILES]
    assert "/home/hpc" in base_files.cluster_files(OWN, WORKER)[base_files.TMPFILES]


def test_no_fact_looks_at_shared_homes() -> None:
    def places(cluster: object, node: object) -> list[str]:
        return [place.path for place in to_be_in_force(cluster, node).places]  # type: ignore[arg-type]

    assert "/home/hpc" not in places(SHARED, WORKER)
    assert "/home/hpc" in places(SHARED, HEAD) and "/home/hpc" in places(OWN, WORKER)


def test_the_firewall_of_the_server_lets_in_the_nodes() -> None:
    rules = base_files.cluster_files(SHARED, HEAD)[base_files.FIREWALL].splitlines()
    allowed = next(number for number, line in enumerate(rules) if "tcp dport 2049 ip saddr" in line)
    assert all(str(node.address) in rules[allowed] for node in SHARED.workers)
    assert rules[allowed + 1].strip() == "tcp dport 2049 drop"
    assert f"ip saddr {SHARED.network.subnet} accept" in rules[allowed + 2]
    for cluster, node in ((SHARED, WORKER), (OWN, HEAD)):
        assert "2049" not in base_files.cluster_files(cluster, node)[base_files.FIREWALL]
