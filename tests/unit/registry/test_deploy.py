"""Deploying containers to nodes whose registries are folders here: everything but the network is real."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpcstate import paths
from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster, ContainerSettings
from hpcstate.node.apptainer_files import PUBLIC_KEY
from hpcstate.registry import catalog
from hpcstate.registry import deploy as container_deploy
from hpcstate.registry import layout as registry
from hpcstate.registry import prune as container_prune
from hpcstate.registry import source as container_source
from hpcstate.registry.deploy import DeployResult, deploy
from hpcstate.registry.look import look_at, only_one
from hpcstate.registry.source import LocalFile, of_file
from hpcstate.registry.transfer import Way
from tests.unit.fake_live import TWO, a_cluster, a_node
from tests.unit.registry_nodes import LocalNodes, nodes, sif_file

__all__ = ["nodes"]

UNSIGNED = replace(TWO, containers=ContainerSettings(require_signature=False))
MANY = a_cluster(*(a_node(f"compute-{number:02}", 10 + number) for number in range(1, 9)))
NAMES = ("controller", "compute-01", "compute-02")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build folder of its own, and a project's key that accepts what has the word SIGNED in it."""
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(container_deploy, "demand_whole", lambda *_: None)


def a_source(
    tmp_path: Path, name: str = "tool", content: bytes = b"x" * 5000, signed: bool = True
) -> LocalFile:
    return of_file(sif_file(tmp_path / f"{name}-{len(content)}.sif", content, signed=signed), name=name)


def run(at: type[LocalNodes], *sources: LocalFile, cluster: Cluster = TWO, **options: Any) -> DeployResult:
    return deploy(cluster, sources, lambda *_: None, open_live=at, **options)


def outcomes(result: DeployResult) -> dict[str, str]:
    return {node.node: node.outcome for node in result.nodes}


def test_a_container_comes_to_all_nodes_under_both_names(nodes: type[LocalNodes], tmp_path: Path) -> None:
    source = a_source(tmp_path)
    result = run(nodes, source)
    assert result.complete
    assert outcomes(result) == dict.fromkeys(NAMES, "changed")
    for name in NAMES:
        root = nodes(TWO).registry_of(name)
        file, link = root / source.stored.file, root / "custom-images/tool.sif"
        assert file.read_bytes() == source.path.read_bytes()
        assert (link.readlink(), link.resolve()) == (Path(file.name), file.resolve())
        assert (oct(file.stat().st_mode & 0o7777), oct(root.stat().st_mode & 0o7777)) == ("0o644", "0o755")
        found = catalog.parse((root / ".registry/catalog.yaml").read_text())
        assert [(version.file, version.signed) for version in found.stored] == [(source.stored.file, True)]
        assert not list((root / ".registry/incoming").iterdir())


def test_nodes_from_before_the_first_container_get_its_key_before_it(
    nodes: type[LocalNodes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class WithoutKey(nodes):  # type: ignore[valid-type, misc]
        def __init__(self, cluster: Cluster) -> None:
            super().__init__(cluster)
            for name in NAMES:
                (self.at / name / PUBLIC_KEY[1:]).unlink()

    result = run(WithoutKey, a_source(tmp_path))
    assert outcomes(result) == dict.fromkeys(NAMES, "changed")
    assert all("the key that verifies containers" in node.changes for node in result.nodes)
    for name in NAMES:
        key = nodes.at / name / PUBLIC_KEY[1:]
        assert (key.read_text(), oct(key.stat().st_mode & 0o777)) == ("key", "0o644")


def test_a_node_with_another_key_is_sent_nothing(nodes: type[LocalNodes], tmp_path: Path) -> None:
    paths.PUBLIC_KEY.write_text("a new key")
    with pytest.raises(HpcstateError, match="is another key than") as error:
        run(nodes, a_source(tmp_path))
    assert "deploys/containers.py" in error.value.hint
    assert not (nodes.at / "rsync").exists()


def test_without_signatures_nobody_asks_for_the_key(nodes: type[LocalNodes], tmp_path: Path) -> None:
    paths.PUBLIC_KEY.write_text("a new key")
    assert run(nodes, a_source(tmp_path, signed=False), cluster=UNSIGNED).complete


def test_the_second_time_nothing_is_sent_and_nothing_is_hashed(
    nodes: type[LocalNodes], tmp_path: Path
) -> None:
    source = a_source(tmp_path)
    run(nodes, source)
    sent = (nodes.at / "rsync").read_text()
    catalogs = [(nodes(TWO).registry_of(name) / ".registry/catalog.yaml").stat().st_ino for name in NAMES]
    assert outcomes(run(nodes, source)) == dict.fromkeys(NAMES, "unchanged")
    assert (nodes.at / "rsync").read_text() == sent
    assert catalogs == [
        (nodes(TWO).registry_of(name) / ".registry/catalog.yaml").stat().st_ino for name in NAMES
    ]
    for answer in look_at(nodes(TWO), NAMES).values():
        assert not isinstance(answer, HpcstateError)
        assert not answer[0]["files"][source.stored.file]["hashed"]


def test_a_new_version_becomes_current_and_the_old_one_stays(nodes: type[LocalNodes], tmp_path: Path) -> None:
    old, new = a_source(tmp_path), a_source(tmp_path, content=b"y" * 6000)
    run(nodes, old)
    result = run(nodes, new)
    assert {node.received for node in result.nodes} == {(new.stored.file,)}
    root = nodes(TWO).registry_of("compute-02")
    assert (root / old.stored.file).exists()
    assert (root / "custom-images/tool.sif").resolve() == (root / new.stored.file).resolve()
    again = run(nodes, old)
    assert {node.received for node in again.nodes} == {()}
    assert (root / "custom-images/tool.sif").resolve() == (root / old.stored.file).resolve()


def test_a_dead_node_is_reported_and_finished_later(
    nodes: type[LocalNodes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = a_source(tmp_path)
    monkeypatch.setattr(nodes, "dead", ("compute-01",))
    result = run(nodes, source)
    assert not result.complete
    assert outcomes(result) == {"controller": "changed", "compute-01": "failed", "compute-02": "changed"}
    monkeypatch.setattr(nodes, "dead", ())
    source.path.unlink()
    resumed = run(nodes)
    assert resumed.complete
    assert outcomes(resumed) == {
        "controller": "unchanged",
        "compute-01": "changed",
        "compute-02": "unchanged",
    }
    monkeypatch.setattr(nodes, "dead", ("controller",))
    with pytest.raises(HpcstateError, match="does not answer"):
        run(nodes)


@pytest.mark.parametrize("damage", ["truncated", "changed", "gone"])
def test_what_is_damaged_on_a_node_is_sent_again(
    nodes: type[LocalNodes], tmp_path: Path, damage: str
) -> None:
    source = a_source(tmp_path)
    run(nodes, source)
    file = nodes(TWO).registry_of("compute-02") / source.stored.file
    if damage == "gone":
        file.unlink()
    else:
        content = file.read_bytes()
        file.write_bytes(content[:-1] if damage == "truncated" else content[:-1] + b"?")
    result = run(nodes)
    assert outcomes(result)["compute-02"] == "changed"
    assert outcomes(result)["controller"] == "unchanged"
    assert file.read_bytes() == source.path.read_bytes()


def test_damage_that_kept_its_record_is_seen_with_verify(nodes: type[LocalNodes], tmp_path: Path) -> None:
    source = a_source(tmp_path)
    run(nodes, source)
    file = nodes(TWO).registry_of("compute-02") / source.stored.file
    before = file.stat()
    with file.open("r+b") as stream:
        stream.seek(before.st_size - 2000)
        stream.write(b"?")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert outcomes(run(nodes))["compute-02"] == "unchanged"
    assert outcomes(run(nodes, verify=True))["compute-02"] == "changed"
    assert file.read_bytes() == source.path.read_bytes()


def test_an_interrupted_transfer_goes_on_where_it_stopped(nodes: type[LocalNodes], tmp_path: Path) -> None:
    source = a_source(tmp_path)
    (nodes.at / "cut").touch()
    with pytest.raises(HpcstateError, match="unexpectedly closed"):
        run(nodes, source)
    part = nodes(TWO).registry_of("controller") / ".registry/incoming" / f"{source.stored.digest}.sif"
    assert part.stat().st_size == 1000
    assert run(nodes, source).complete
    assert (nodes.at / "rsync").read_text().startswith("1000 ")


def test_a_damaged_part_is_thrown_away(nodes: type[LocalNodes], tmp_path: Path) -> None:
    source = a_source(tmp_path)
    run(nodes)
    for name in ("controller", "compute-01"):
        part = nodes(TWO).registry_of(name) / ".registry/incoming" / f"{source.stored.digest}.sif"
        part.write_bytes(b"z" * 700)
    assert run(nodes, source).complete


def test_a_full_disk_is_said_and_leaves_nothing_half(
    nodes: type[LocalNodes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = a_source(tmp_path)
    run(nodes)
    (nodes.at / "full").touch()
    with pytest.raises(HpcstateError, match="no space for custom-images/tool"):
        run(nodes, source)
    incoming = nodes(TWO).registry_of("controller") / ".registry/incoming"
    assert not list(incoming.iterdir())
    (nodes.at / "full").unlink()
    real = nodes.run

    def small(self: LocalNodes, node: str, script: str, **options: object) -> object:
        if node == "compute-02":
            script = script.replace("df --output=avail", "echo 100; : df")
        return real(self, node, script, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(nodes, "run", small)
    result = run(nodes, source)
    assert outcomes(result)["compute-02"] == "failed"
    assert "has room for 0.0 MB" in result.nodes[2].message
    assert outcomes(result)["compute-01"] == "changed"


def test_an_unsigned_file_is_refused_on_the_node(nodes: type[LocalNodes], tmp_path: Path) -> None:
    source = a_source(tmp_path, signed=False)
    with pytest.raises(HpcstateError, match=r"its signature does not hold: FATAL: signature not found"):
        run(nodes, source)
    root = nodes(TWO).registry_of("controller")
    assert not list((root / "custom-images").iterdir())
    assert not list((root / ".registry/incoming").iterdir())
    assert run(nodes, source, cluster=UNSIGNED).complete
    found = catalog.parse((root / ".registry/catalog.yaml").read_text())
    assert [version.signed for version in found.stored] == [False]


def test_some_nodes_only(nodes: type[LocalNodes], tmp_path: Path) -> None:
    source = a_source(tmp_path)
    assert run(nodes, source, nodes=("compute-02",)).complete
    live = nodes(TWO)
    assert not (live.registry_of("compute-01") / source.stored.file).exists()
    assert (live.registry_of("compute-02") / source.stored.file).exists()
    assert (live.registry_of("controller") / source.stored.file).exists()
    assert outcomes(run(nodes)) == dict.fromkeys(NAMES, "unchanged")
    with pytest.raises(HpcstateError, match="no node 'compute-09'"):
        run(nodes, source, nodes=("compute-09",))


def test_nodes_that_have_it_serve_the_others(nodes: type[LocalNodes], tmp_path: Path) -> None:
    result = run(nodes, a_source(tmp_path), cluster=MANY)
    assert result.complete
    sources = (nodes.at / "sources").read_text().split()
    assert len(sources) == 8
    assert set(sources) - {"controller"}


def test_a_node_that_cannot_serve_is_left_for_the_first(nodes: type[LocalNodes], tmp_path: Path) -> None:
    for node in MANY.nodes[1:]:
        (nodes.at / "silent" / node.name).touch()
    assert run(nodes, a_source(tmp_path), cluster=MANY).complete


@pytest.mark.parametrize("busy", [False, True])
def test_sbcast_serves_free_nodes_and_rsync_the_others(
    nodes: type[LocalNodes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    monkeypatch.setattr("hpcstate.registry.spread.free_nodes", lambda _: ["compute-01"])
    if busy:
        (nodes.at / "busy").touch()
    assert run(nodes, a_source(tmp_path), way=Way("sbcast")).complete
    served = (nodes.at / "sbcast").read_text().split() if not busy else []
    assert served == ([] if busy else ["compute-01"])
    assert len((nodes.at / "sources").read_text().split()) == (2 if busy else 1)


def test_an_oci_registry_serves_all(nodes: type[LocalNodes], tmp_path: Path) -> None:
    way = Way("oras", oras_url="oras://registry:5000/hpc", plain_http=True)
    assert run(nodes, a_source(tmp_path), way=way).complete
    assert not (nodes.at / "sources").exists()


def test_what_no_node_has_any_more_is_said(nodes: type[LocalNodes], tmp_path: Path) -> None:
    source = a_source(tmp_path)
    run(nodes, source)
    for name in NAMES:
        (nodes(TWO).registry_of(name) / source.stored.file).unlink()
    result = run(nodes)
    assert not result.complete
    assert "no node that answers has" in result.nodes[0].message


def test_what_is_lost_holds_nothing_else_up_and_a_prune_forgets_it(
    nodes: type[LocalNodes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, lost, other = (
        a_source(tmp_path),
        a_source(tmp_path, content=b"y" * 6000),
        a_source(tmp_path, "other"),
    )
    run(nodes, old)
    run(nodes, lost)
    for name in NAMES:
        (nodes(TWO).registry_of(name) / lost.stored.file).unlink()
    assert outcomes(run(nodes, other)) == dict.fromkeys(NAMES, "failed")
    root = nodes(TWO).registry_of("compute-01")
    assert (root / "custom-images/other.sif").resolve().is_file()
    assert len(catalog.parse((root / ".registry/catalog.yaml").read_text()).stored) == 3
    monkeypatch.setattr(container_prune, "uses", lambda _: {})
    pruned = container_prune.prune(TWO, lambda *_: None, keep=9, open_live=nodes)
    assert [version.file for version in pruned.lost] == [lost.stored.file]
    assert (pruned.removed, pruned.freed) == ((), 0)
    assert run(nodes).complete
    assert (root / "custom-images/tool.sif").resolve() == (root / old.stored.file).resolve()


def test_a_version_for_one_node_leaves_the_name_of_the_others(
    nodes: type[LocalNodes], tmp_path: Path
) -> None:
    old, new = a_source(tmp_path), a_source(tmp_path, content=b"y" * 6000)
    run(nodes, old)
    assert run(nodes, new, nodes=("compute-01",)).complete
    for name, wanted in (("compute-01", new), ("compute-02", old)):
        root = nodes(TWO).registry_of(name)
        assert (root / "custom-images/tool.sif").resolve() == (root / wanted.stored.file).resolve()
    assert outcomes(run(nodes)) == dict.fromkeys(NAMES, "unchanged")


def test_what_came_unsigned_is_judged_when_the_policy_changes(
    nodes: type[LocalNodes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, judged = a_source(tmp_path), list[LocalFile]()
    run(nodes, source, cluster=UNSIGNED)
    text = nodes(TWO).registry_of("compute-01") / ".registry/catalog.yaml"

    def refuse(file: LocalFile, _: object) -> None:
        judged.append(file)
        raise HpcstateError("the file is not signed")

    monkeypatch.setattr(container_deploy, "demand_whole", refuse)
    with pytest.raises(HpcstateError, match="not signed"):
        run(nodes, source)
    assert [version.signed for version in catalog.parse(text.read_text()).stored] == [False]
    monkeypatch.setattr(container_deploy, "demand_whole", lambda file, _: judged.append(file))
    for cluster in (TWO, UNSIGNED):
        assert run(nodes, source, cluster=cluster).complete
        assert [version.signed for version in catalog.parse(text.read_text()).stored] == [True]
    assert judged == [source, source]


def test_a_node_that_was_named_is_told_of_though_the_file_does_not_start_it(
    nodes: type[LocalNodes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "dead", ("compute-02",))
    cluster = a_cluster(a_node("compute-01", 11), a_node("compute-02", 12, auto_start=False))
    result = run(nodes, a_source(tmp_path), cluster=cluster, nodes=("compute-02",))
    assert outcomes(result)["compute-02"] == "failed"
    assert not result.complete


def test_a_source_that_cannot_serve_is_not_the_only_one(
    nodes: type[LocalNodes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the first of several, nor the only one there is: then that is said of those that need it."""
    source, real, closed = a_source(tmp_path), nodes.run, {"controller"}
    run(nodes, source)
    file = nodes(TWO).registry_of("compute-02") / source.stored.file
    file.unlink()

    def closing(self: LocalNodes, node: str, script: str, **options: object) -> object:
        if node in closed and "hosts allow" in script:
            raise HpcstateError("port 8730 is taken", where=node)
        return real(self, node, script, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(nodes, "run", closing)
    assert run(nodes).complete
    assert file.is_file()
    file.unlink()
    closed.add("compute-01")
    result = run(nodes)
    assert outcomes(result) == {**dict.fromkeys(NAMES, "unchanged"), "compute-02": "failed"}
    assert "port 8730 is taken" in result.nodes[2].message


def test_a_lost_catalog_is_taken_from_another_node(nodes: type[LocalNodes], tmp_path: Path) -> None:
    run(nodes, a_source(tmp_path))
    file = nodes(TWO).registry_of("controller") / ".registry/catalog.yaml"
    text = file.read_text()
    file.write_text("schema: [\n")
    assert run(nodes).complete
    assert file.read_text() == text


def test_strangers_are_named_and_left(nodes: type[LocalNodes], tmp_path: Path) -> None:
    run(nodes, a_source(tmp_path))
    extra = nodes(TWO).registry_of("compute-01") / "base-images/extra.sif"
    extra.write_text("x")
    result = run(nodes)
    assert [node.unknown for node in result.nodes if node.node == "compute-01"] == [
        ("base-images/extra.sif",)
    ]
    assert result.complete
    assert extra.exists()


def test_only_one_at_a_time(nodes: type[LocalNodes]) -> None:
    with only_one(TWO), pytest.raises(HpcstateError, match="another deploy"):
        run(nodes)


@pytest.mark.parametrize(
    "way",
    [
        Way("oras"),
        Way("oras", oras_url="http://x"),
        Way("rsync", oras_url="oras://x"),
        Way("sbcast", 100),
        Way("rsync", -1),
    ],
)
def test_choices_that_do_not_go_together_are_refused(nodes: type[LocalNodes], way: Way) -> None:
    with pytest.raises(HpcstateError, match="--"):
        run(nodes, way=way)


# what is refused here, before anything is sent


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "no SIF file"), (b"\x7fELF" * 100, "no SIF file"), (None, "ends after"), ("text", "no name")],
)
def test_a_wrong_file_is_refused(tmp_path: Path, content: bytes | str | None, message: str) -> None:
    file = sif_file(tmp_path / ("A B.sif" if content == "text" else "a.sif"))
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is None:
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(HpcstateError, match=message):
        container_source.chosen(str(file))


def test_an_unsigned_or_other_file_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    unsigned = a_source(tmp_path, signed=False)
    with pytest.raises(HpcstateError, match="not signed"):
        container_source.demand_whole(unsigned, ContainerSettings())
    container_source.demand_whole(unsigned, ContainerSettings(require_signature=False))
    other = replace(unsigned, stored=replace(unsigned.stored, digest="0" * 64))
    with pytest.raises(HpcstateError, match="another than in its sidecar"):
        container_source.demand_whole(other, ContainerSettings(require_signature=False))


def test_a_container_that_was_not_built_is_refused() -> None:
    with pytest.raises(HpcstateError, match="has not been built"):
        container_source.chosen("mpi-minimal")
    with pytest.raises(HpcstateError, match="for files"):
        container_source.chosen("mpi-minimal", version="2")
    assert registry.is_container_file("base-images/mpi-minimal-1.0-0123456789ab.sif")
