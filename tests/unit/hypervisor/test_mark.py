"""The mark of what was made for a cluster, its owner, and what is said of what belongs to somebody else."""

from __future__ import annotations

import socket
import uuid
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hpcstate import paths, schema
from hpcstate.errors import HpcstateError
from hpcstate.hypervisor.mark import (
    RECORD_BYTES,
    Mark,
    PoolRecord,
    Stranger,
    ensure_owner,
    listed,
    new_mark,
    owner_of,
    refusal,
)
from hpcstate.hypervisor.own import keeping_names, with_mark
from hpcstate.model import Cluster
from hpcstate.node.secrets import ensure_secrets
from hpcstate.paths import ClusterPaths

MARK = Mark("1111", "gpu", "", '/home/ann/"lab" & <co>/gpu.yaml', "/keys", "ws1", "2026-11-26T10:00:00+00:00")
FILE = Path("gpu.yaml")


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    return schema.load(paths.ROOT / "inventories" / "gpu.yaml").clusters[0]


def test_the_owner_is_made_once_and_closed(cluster: Cluster) -> None:
    assert owner_of(cluster) == ""
    owner = ensure_owner(cluster)
    assert uuid.UUID(owner).version == 4
    assert ensure_owner(cluster) == owner == owner_of(cluster)
    assert ClusterPaths.of(cluster.name).owner.stat().st_mode & 0o777 == 0o600


def test_an_owner_that_others_may_read_is_closed(cluster: Cluster) -> None:
    ensure_owner(cluster)
    path = ClusterPaths.of(cluster.name).owner
    path.chmod(0o644)
    ensure_owner(cluster)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_in_the_place_of_the_secrets_is_a_message(cluster: Cluster) -> None:
    secrets = ClusterPaths.of(cluster.name).secrets
    secrets.parent.mkdir(parents=True)
    secrets.write_text("")
    for act in (owner_of, ensure_owner, ensure_secrets):
        with pytest.raises(HpcstateError, match="no folder with the keys"):
            act(cluster)
    assert secrets.read_text() == ""


def test_a_file_that_is_no_owner_is_a_message(cluster: Cluster) -> None:
    path = ClusterPaths.of(cluster.name).owner
    path.parent.mkdir(parents=True)
    path.write_text("me\n")
    with pytest.raises(HpcstateError, match="this is no owner") as caught:
        owner_of(cluster)
    assert caught.value.where == str(path)
    assert path.read_text() == "me\n"


def test_a_mark_is_read_as_it_was_written() -> None:
    marked = MARK.for_node("compute-01")
    for xml in (
        marked.to_xml(),
        f"<domain><name>a</name><metadata>{marked.to_xml()}<other xmlns='urn:x'/></metadata></domain>",
        with_mark("<domain><name>a</name></domain>", marked),
        with_mark(with_mark("<domain><name>a</name></domain>", MARK), marked),
    ):
        assert Mark.from_xml(xml) == marked
    assert Mark.from_xml("<domain><name>a</name></domain>") is None
    assert Mark.from_xml("<domain><metadata><mark xmlns='urn:other' owner='x'/></metadata></domain>") is None


def test_a_mark_takes_the_place_of_another_and_of_no_metadata_of_others() -> None:
    xml = with_mark("<network><metadata><room xmlns='urn:inventory'>4</room></metadata></network>", MARK)
    xml = with_mark(xml, MARK.for_node("x"))
    assert xml.count("urn:hpcstate:mark") == 1
    assert "urn:inventory" in xml


def test_a_record_of_a_pool_is_read_as_it_was_written() -> None:
    record = PoolRecord(MARK, ("a.qcow2", "b.iso"))
    content = record.to_bytes()
    assert len(content) == RECORD_BYTES
    assert PoolRecord.from_bytes(content) == record


def test_marks_from_before_names_were_noted_are_read(cluster: Cluster) -> None:
    marked = MARK.of(replace(cluster.workers[0], named=True))
    assert (marked.named, marked.simulated) == ("yes", "simulated:2")
    assert Mark.from_xml(marked.to_xml()) == marked
    old = Mark.from_xml(MARK.for_node("compute-01").to_xml())
    assert old is not None and (old.named, old.simulated) == ("", "")
    assert "named" not in MARK.to_xml()
    assert b"named" not in PoolRecord(MARK).to_bytes(), "the record is what it was"


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"{}", b'{"mark": 1, "volumes": []}', b"\xff"])
def test_what_is_no_record_is_none(content: bytes) -> None:
    assert PoolRecord.from_bytes(content) is None


def test_strangers_are_grouped_by_their_owner() -> None:
    strangers = [
        Stranger("domain", "gpu-controller", MARK, ours_once=True),
        Stranger("network", "gpu", MARK, ours_once=True),
        Stranger("domain", "gpu-compute-01", None),
    ]
    first, second = listed(strangers)
    assert first == f"domain gpu-controller, network gpu: made from {MARK.file} on ws1, since 2026-11-26"
    assert second == "domain gpu-compute-01: not made by hpcstate"


@pytest.mark.parametrize(
    ("mark", "ours_once", "wanted", "unwanted"),
    [
        (None, False, "remove or rename", "adopt"),
        (None, True, "--keys FOLDER", "remove or rename"),
        (MARK, True, "--keys FOLDER", "/keys"),
    ],
    ids=["of somebody", "before marks", "of another host"],
)
def test_the_way_out_is_one_that_works(
    cluster: Cluster, mark: Mark | None, ours_once: bool, wanted: str, unwanted: str
) -> None:
    error = refusal(cluster, FILE, [Stranger("domain", "gpu-controller", mark, ours_once)])
    assert wanted in error.hint
    assert unwanted not in error.hint
    assert "hpcstate stop" not in str(error)


def test_keys_that_are_here_are_the_way_out(cluster: Cluster) -> None:
    """Whether the owner alone is gone, or another folder took the cluster over."""
    ensure_secrets(cluster)
    for mark in (new_mark(cluster, FILE), MARK):
        hint = refusal(cluster, FILE, [Stranger("network", "gpu", mark, True)]).hint
        assert hint.endswith(f"with the keys that are here: hpcstate adopt {FILE}")


def test_keys_of_another_folder_of_this_host_are_named(cluster: Cluster) -> None:
    here = new_mark(cluster, FILE)
    assert here.host == socket.gethostname()
    assert "are gone" in refusal(cluster, FILE, [Stranger("network", "gpu", here, True)]).hint
    elsewhere = Mark.from_xml(here.to_xml().replace(here.keys, "/home/ann/build/gpu/secrets"))
    hint = refusal(cluster, FILE, [Stranger("network", "gpu", elsewhere, True)]).hint
    assert "hpcstate adopt gpu.yaml --keys /home/ann/build/gpu/secrets" in hint


def test_what_people_made_of_a_domain_stays() -> None:
    rendered = (
        f"<domain><name>gpu-a</name><uuid>1</uuid><title>ours</title><metadata>{MARK.to_xml()}</metadata>"
        "<memory>2</memory></domain>"
    )
    defined = (
        "<domain><name>big</name><uuid>1</uuid><description>Ann's</description>"
        f"<metadata>{MARK.for_node('old').to_xml()}<room xmlns='urn:inventory'>4</room></metadata>"
        "<memory>1</memory></domain>"
    )
    root = ElementTree.fromstring(keeping_names(rendered, defined))
    assert root.findtext("name") == "big"
    assert root.find("title") is None
    assert root.findtext("description") == "Ann's"
    assert root.findtext("memory") == "2"
    assert root.findtext("metadata/{urn:inventory}room") == "4"
    assert Mark.from_xml(ElementTree.tostring(root, encoding="unicode")) == MARK
