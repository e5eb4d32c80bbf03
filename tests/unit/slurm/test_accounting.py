"""The files of slurmdbd and MariaDB: what depends on the model. The whole texts are in tests/render."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hpcstate.model import AccountingSettings, Cluster
from hpcstate.slurm.accounting import (
    CLIENT_CONF,
    MARIADB_CONF,
    SLURMDBD_CONF,
    buffer_pool_mb,
    files,
    question,
)
from hpcstate.slurm.lint.conf import lint
from tests.unit.slurm_clusters import cluster, node

LAB = cluster(node(1, gpus=2))


@pytest.mark.parametrize(
    ("memory_mb", "pool_mb"),
    [(512, 128), (1024, 256), (2048, 512), (8192, 2048), (16384, 4096), (65536, 4096)],
)
def test_the_cache_of_the_database_is_a_quarter_of_the_controller(memory_mb: int, pool_mb: int) -> None:
    assert buffer_pool_mb(memory_mb) == pool_mb
    other = replace(LAB, nodes=(replace(LAB.nodes[0], memory_mb=memory_mb), *LAB.nodes[1:]))
    assert f"\ninnodb_buffer_pool_size = {pool_mb}M\n" in files(other)[MARIADB_CONF]


def test_slurmdbd_is_found_by_its_address_and_has_no_password() -> None:
    text = files(LAB)[SLURMDBD_CONF]
    assert "\nDbdHost=controller\nDbdAddr=10.0.0.10\n" in text
    assert "\nStorageHost=localhost\nStorageUser=slurm\n" in text
    assert "StoragePass" not in text
    assert lint(text, "slurmdbd") == ()


def test_the_database_is_not_on_the_network() -> None:
    assert "\nskip-networking\n" in files(LAB)[MARIADB_CONF]


def test_sacctmgr_knows_the_cluster_before_slurm_conf_does() -> None:
    text = files(LAB)[CLIENT_CONF]
    assert "\nClusterName=lab\n" in text and "\nAccountingStorageHost=10.0.0.10\n" in text
    assert lint(text, "slurm") == ()


@pytest.mark.parametrize(
    "other", [replace(LAB, accounting=AccountingSettings(on=False)), replace(LAB, kind="cloud")]
)
def test_without_accounting_there_are_no_files(other: Cluster) -> None:
    assert files(other) == {}


def test_the_question_has_all_that_the_program_asks_for() -> None:
    asked = question("lab", ["/a"])
    assert (asked["cluster"], asked["files"]) == ("lab", ("/a",))
