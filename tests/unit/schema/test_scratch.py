"""storage.scratch and storage.home_quota_gb: where there are any, and where there cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcstate import schema
from hpcstate.errors import ProblemsError
from hpcstate.model import Cluster

NAS = "mounts: [{type: nfs, server: nas, path: /x, mount_point: /data%s}]"


def hpc(storage: str, more: str = "") -> Cluster:
    text = (
        "clusters:\n  hpc:\n    name: lab\n    network: {subnet: 10.1.2.0/24}\n    controller: {}\n"
        f"    compute_nodes: [{{}}]\n    storage: {{{storage}}}\n{more}"
    )
    (cluster,) = schema.parse(text, Path("lab.yaml")).clusters
    return cluster


@pytest.mark.parametrize(
    ("storage", "scratch"),
    [
        ("", ""),
        ("scratch: none", ""),
        ("scratch: nfs", "/scratch"),
        (f"scratch: /data/jobs, {NAS % ''}", "/data/jobs"),
        (f"scratch: /data, {NAS % ''}", "/data"),
        (f"scratch: /data/jobs, home: local, {NAS % ''}", "/data/jobs"),
    ],
)
def test_where_it_is(storage: str, scratch: str) -> None:
    assert hpc(storage).scratch == scratch


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        ("scratch: nfs, home: local", r"the controller's NFS server is there for the homes, which are local"),
        ("scratch: /data/jobs", r"/data/jobs lies on no mount of controller, compute-01"),
        (f"scratch: /database, {NAS % ''}", r"/database lies on no mount"),
        (f"scratch: /data/jobs, {NAS % ', nodes: [compute]'}", r"lies on no mount of controller"),
        (f"scratch: /data/jobs, {NAS % ', read_only: true'}", r"/data/jobs is read-only on controller"),
        ("scratch: beegfs", r"expected none, nfs or an absolute path"),
        ("scratch: /scratch", r"expected nfs, or a path on one of the mounts"),
        ("scratch: '/data/a b'", r"a path of letters"),
    ],
)
def test_where_it_cannot_be(storage: str, words: str) -> None:
    with pytest.raises(ProblemsError, match=rf"storage\.scratch: .*{words}"):
        hpc(storage)


def test_one_task_prolog_is_enough() -> None:
    with pytest.raises(ProblemsError, match=r"storage\.scratch: .*TaskProlog"):
        hpc("scratch: nfs", "    slurm_config: {parameters: {TaskProlog: /usr/local/bin/mine}}\n")


def test_a_cluster_without_slurm_has_none() -> None:
    text = (
        "clusters:\n  cloud:\n    name: c\n    network: {subnet: 10.1.2.0/24}\n    control_plane: {}\n"
        "    worker_nodes: [{}]\n    storage: {scratch: nfs}\n"
    )
    with pytest.raises(ProblemsError, match=r"storage\.scratch: only the jobs of a Slurm cluster"):
        schema.parse(text, Path("c.yaml"))


USERS = "    users: [{name: alice, uid: 2001%s}, {name: bob, uid: 2002, home_quota_gb: 0}]\n"


def test_quotas_are_the_clusters_unless_a_user_has_their_own() -> None:
    assert hpc("", USERS % "").home_quotas == {}
    assert hpc("home_quota_gb: 5", USERS % "").home_quotas == {2001: 5}
    assert hpc("", USERS % ", home_quota_gb: 7").home_quotas == {2001: 7}


@pytest.mark.parametrize(
    ("storage", "users", "place"),
    [
        ("home: local, home_quota_gb: 5", USERS % "", r"storage\.home_quota_gb"),
        ("home: local", USERS % ", home_quota_gb: 7", r"users\[0\]\.home_quota_gb"),
    ],
)
def test_quotas_are_those_of_the_data_volume(storage: str, users: str, place: str) -> None:
    with pytest.raises(ProblemsError, match=rf"{place}: quotas are those of the controller's data volume"):
        hpc(storage, users)
