"""Mounts of a cluster file: whose they are, and which cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcstate import schema
from hpcstate.errors import ProblemsError
from hpcstate.model import Cluster, Mount
from hpcstate.model.mount import tag_of
from hpcstate.node.data_volume import TOP
from hpcstate.schema.mounts import _WITHIN

NAS = "{type: nfs, server: nas.example.org, path: /export/data, mount_point: /data%s}"
FOLDER = "{type: virtio_fs, host_path: /data/shared, mount_point: /shared%s}"


def hpc(mounts: str, more: str = "", controller: str = "{}", storage: str = "") -> Cluster:
    text = (
        "clusters:\n  hpc:\n    name: lab\n    network: {subnet: 10.1.2.0/24}\n"
        f"    controller: {controller}\n    compute_nodes: [{{}}, {{name: fat, count: 2}}]\n"
        f"    storage: {{mounts: [{mounts}]{storage}}}\n{more}"
    )
    (cluster,) = schema.parse(text, Path("lab.yaml")).clusters
    return cluster


def having(cluster: Cluster) -> list[str]:
    return [node.name for node in cluster.nodes if node.mounts]


def test_a_server_of_the_site() -> None:
    cluster = hpc(NAS % ", options: 'vers=4.1,noatime,rw'")
    (mount,) = cluster.controller.mounts
    wanted = Mount("nfs", "nas.example.org:/export/data", "/data", "", ("vers=4.1", "noatime"))
    assert (mount, mount.place) == (wanted, ".clusters.hpc.storage.mounts[0]")
    assert len(having(cluster)) == 4


def test_a_folder_of_the_host() -> None:
    cluster = hpc(FOLDER % ", read_only: true")
    wanted = Mount("virtio_fs", "/data/shared", "/shared", tag_of("/shared"), (), True)
    assert all(node.mounts == (wanted,) for node in cluster.nodes)
    assert len(tag_of("/shared")) <= 36 and tag_of("/a") != tag_of("/b")


def test_an_option_says_read_only_too() -> None:
    (mount,) = hpc(NAS % ", options: ro").controller.mounts
    assert (mount.read_only, mount.options) == (True, ())


@pytest.mark.parametrize(
    ("nodes", "names"),
    [
        ("[controller]", ["controller"]),
        ("['compute-01', fat]", ["compute-01", "fat-01", "fat-02"]),
        ("['fat-[01-02]']", ["fat-01", "fat-02"]),
        ("[compute]", ["compute-01", "fat-01", "fat-02"]),
        ("[]", []),
    ],
)
def test_whose_a_mount_is(nodes: str, names: list[str]) -> None:
    assert having(hpc(NAS % f", nodes: {nodes}")) == names


def test_the_mounts_of_a_node_and_of_all() -> None:
    own = "{virtio_fs_mounts: [{tag: own, host_path: /data/own, mount_point: /own, readonly: true}]}"
    cluster = hpc(NAS % "", controller=own)
    assert [mount.mount_point for mount in cluster.controller.mounts] == ["/own", "/data"]
    assert (cluster.controller.mounts[0].read_only, cluster.workers[0].mounts[0].mount_point) == (
        True,
        "/data",
    )


@pytest.mark.parametrize(
    ("mounts", "words"),
    [
        ("{type: nfs, mount_point: /data}", r"mounts\[0\]\.server: is missing"),
        ("{type: virtio_fs, mount_point: /data}", r"mounts\[0\]\.host_path: is missing"),
        ("{mount_point: /data}", r"mounts\[0\]\.type: is missing"),
        (NAS % ", host_path: /data/x", r"host_path: a mount of type nfs has none"),
        (FOLDER % ", server: nas", r"server: a mount of type virtio_fs has none"),
        (NAS % ", options: 'x-systemd.automount'", r"options: expected mount options"),
        (NAS % ", options: noauto", r"noauto is for /etc/fstab"),
        (NAS % ", options: suid", r"nosuid holds"),
        (NAS % ", options: 'ro,rw'", r"either ro or rw"),
        (NAS % ", options: vers=3", r"nolock beside vers=3"),
        (NAS % ", options: rw, read_only: true", r"rw, and read_only says the opposite"),
        (NAS % ", nodes: [compute-09]", r"there is no node compute-09"),
        ((NAS % "").replace("/data}", "/etc/data}"), r"would cover /etc"),
        ((NAS % "").replace("/data}", "/srv}"), r"would cover /srv/hpcstate"),
        ((NAS % "").replace("/data}", "/home}"), r"would cover /home"),
        ((NAS % "").replace("/data}", "/home/x}"), r"lies in the homes"),
        ((NAS % "").replace("/data}", "/data/../etc}"), r"a path without '\.\.'"),
        ((NAS % "").replace("/data}", "/data/}"), r"write /data"),
        ((NAS % "").replace("/data}", "'/a b'}"), r"a path of letters"),
        (f"{NAS % ''}, {NAS % ''}", r"mounts\[1\]\.mount_point: /data and /data .* over each other"),
        (f"{NAS % ''}, {(NAS % '').replace('/data}', '/data/in}')}", r"over each other"),
        ((FOLDER % "").replace("/data/shared", "/"), r"root of a node would be root in"),
        ((FOLDER % "").replace("/data/shared", "/etc/x"), r"root in /etc of the host"),
        ((FOLDER % "").replace("/data/shared", "/var"), r"root in /var/cache of the host"),
        ((FOLDER % "").replace("/data/shared", "/home"), r"root in /home of the host"),
        ((NAS % "").replace("/export/data", "/export/"), r"path: expected the absolute path"),
        ((NAS % "").replace("nas.example.org", "'na s'"), r"server: expected a host name"),
    ],
)
def test_mounts_that_cannot_be(mounts: str, words: str) -> None:
    with pytest.raises(ProblemsError, match=words):
        hpc(mounts)


def test_two_folders_of_a_node_with_one_tag() -> None:
    one = "{tag: a, host_path: /data/x, mount_point: /%s}"
    with pytest.raises(ProblemsError, match=r"virtio_fs_mounts\[1\]\.tag: the tag a is used"):
        hpc("", controller=f"{{virtio_fs_mounts: [{one % 'x'}, {one % 'y'}]}}")


def test_a_tag_of_our_own_is_refused() -> None:
    own = "{virtio_fs_mounts: [{tag: hpcstate-home, host_path: /data/x, mount_point: /x}]}"
    with pytest.raises(ProblemsError, match=r"tag: tags that begin with hpcstate- are"):
        hpc("", controller=own)


def test_homes_of_its_own_may_hold_a_mount() -> None:
    assert hpc((NAS % "").replace("/data}", "/home/x}"), storage=", home: local").workers[0].mounts


def test_the_data_volume_is_one_of_the_systems_folders() -> None:
    assert TOP in _WITHIN
