"""The task `render`: writes what differs, and the second time nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcstate import paths, schema
from hpcstate.cluster import rendered
from hpcstate.model import Cluster
from hpcstate.paths import ClusterPaths


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    return schema.load(paths.ROOT / "inventories" / "gpu.yaml").clusters[0]


def test_the_second_render_writes_nothing(cluster: Cluster) -> None:
    assert "slurm/slurm.conf" in rendered.write(cluster)
    assert rendered.outdated(cluster) == []
    assert rendered.write(cluster) == []


def test_only_what_differs_is_written_and_leftovers_go(cluster: Cluster) -> None:
    rendered.write(cluster)
    folder = ClusterPaths.of(cluster.name).rendered
    (folder / "slurm/slurm.conf").write_text("edited\n")
    (folder / "slurm/old.conf").write_text("left over\n")
    assert rendered.write(cluster) == ["slurm/old.conf", "slurm/slurm.conf"]
    assert not (folder / "slurm/old.conf").exists()
    assert (folder / "slurm/slurm.conf").read_text() != "edited\n"


def test_no_secret_is_rendered(cluster: Cluster) -> None:
    text = "".join(rendered.files(cluster).values())
    assert "PRIVATE KEY" not in text
    assert "munge.key" not in text
