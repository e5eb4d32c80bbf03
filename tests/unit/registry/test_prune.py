"""Old versions out of the registries of nodes that are folders here."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.errors import HpcstateError
from hpcstate.registry import catalog
from hpcstate.registry import deploy as container_deploy
from hpcstate.registry import prune as container_prune
from hpcstate.registry.deploy import deploy
from hpcstate.registry.prune import PruneResult, prune
from hpcstate.registry.source import LocalFile, of_file
from tests.unit.fake_live import TWO
from tests.unit.registry_nodes import LocalNodes, nodes, sif_file

__all__ = ["nodes"]
NAMES = ("controller", "compute-01", "compute-02")
USES = container_prune.uses


@pytest.fixture
def three(nodes: type[LocalNodes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[LocalFile]:
    """Three versions of a container, deployed one after the other; no job uses one."""
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(container_deploy, "demand_whole", lambda *_: None)
    monkeypatch.setattr(container_prune, "uses", lambda _: {})
    found = []
    for size in (100, 200, 300):
        found.append(of_file(sif_file(tmp_path / f"{size}.sif", b"x" * size), name="tool"))
        assert deploy(TWO, found[-1:], lambda *_: None, open_live=nodes).complete
    return found


def pruned(nodes: type[LocalNodes], keep: int = 0, dry_run: bool = False) -> PruneResult:
    return prune(TWO, lambda *_: None, keep=keep, dry_run=dry_run, open_live=nodes)


def there(nodes: type[LocalNodes], name: str) -> set[str]:
    root = nodes(TWO).registry_of(name)
    return {str(path.relative_to(root)) for path in root.rglob("*-local-*.sif")}


def test_only_the_current_version_stays(nodes: type[LocalNodes], three: list[LocalFile]) -> None:
    files = [source.stored.file for source in three]
    assert pruned(nodes, dry_run=True).removed == pruned(nodes, dry_run=True).removed
    assert there(nodes, "compute-01") == set(files)
    result = pruned(nodes)
    assert [version.file for version in result.removed] == files[:2]
    assert result.freed == sum(source.stored.size for source in three[:2])
    for name in NAMES:
        root = nodes(TWO).registry_of(name)
        assert there(nodes, name) == {files[2]}
        assert len((root / ".registry/digests").read_text().splitlines()) == 1
        assert [
            version.file for version in catalog.parse((root / ".registry/catalog.yaml").read_text()).stored
        ] == files[2:]
    after = deploy(TWO, [], lambda *_: None, open_live=nodes)
    assert {node.outcome for node in after.nodes} == {"unchanged"}


def test_what_a_job_uses_stays_and_it_is_said_why(
    nodes: type[LocalNodes], three: list[LocalFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    used = three[0].stored.file
    monkeypatch.setattr(container_prune, "uses", lambda _: {used: "job 7 on compute-01"})
    result = pruned(nodes)
    assert there(nodes, "compute-02") == {used, three[2].stored.file}
    assert (result.kept[0].stored.file, result.kept[0].why) == (used, "in use by job 7 on compute-01")


def test_what_an_interrupted_prune_left_is_removed_by_the_next(
    nodes: type[LocalNodes], three: list[LocalFile], tmp_path: Path
) -> None:
    """The catalogs were written, the files were not removed yet; a stranger's file stays."""
    kept = {name: nodes(TWO).registry_of(name) / three[0].stored.file for name in NAMES}
    pruned(nodes)
    for path in kept.values():
        path.write_bytes(three[0].path.read_bytes())
    mine = kept["compute-01"].with_name("mine-1-0123456789ab.sif")
    mine.write_text("x")
    result = pruned(nodes)
    assert [(version.file, version.nodes) for version in result.removed] == [(three[0].stored.file, NAMES)]
    assert not any(path.exists() for path in kept.values())
    assert mine.exists()
    assert pruned(nodes).removed == ()


def test_without_any_catalog_nothing_is_removed(nodes: type[LocalNodes], three: list[LocalFile]) -> None:
    """What it does not know is no proof that nobody wants it."""
    for name in NAMES:
        (nodes(TWO).registry_of(name) / ".registry/catalog.yaml").unlink()
    assert pruned(nodes).removed == ()
    assert len(there(nodes, "compute-01")) == 3


def test_a_silent_node_may_run_anything(
    nodes: type[LocalNodes], three: list[LocalFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "dead", ("compute-02",))
    with pytest.raises(HpcstateError, match="compute-02 does not answer"):
        pruned(nodes)
    assert len(there(nodes, "compute-01")) == 3


def test_a_silent_slurm_is_not_one_without_jobs(
    nodes: type[LocalNodes], three: list[LocalFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container_prune, "uses", USES)
    (tmp_path / "bin/scontrol").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin/scontrol").chmod(0o755)
    with pytest.raises(HpcstateError, match="slurmctld does not tell which jobs there are"):
        pruned(nodes)
    assert len(there(nodes, "compute-01")) == 3


def test_a_node_that_keeps_its_files_is_reported(
    nodes: type[LocalNodes], three: list[LocalFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = nodes.run

    def stubborn(self: LocalNodes, node: str, script: str, **options: object) -> object:
        return real(self, node, "exit 1" if node == "compute-01" and "rm -f" in script else script, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(nodes, "run", stubborn)
    assert [name for name, _ in pruned(nodes).failed] == ["compute-01"]
