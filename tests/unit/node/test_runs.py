"""What a node runs against what it should, and Slurm's note of it."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest

from hpcstate.node import runs
from hpcstate.node.runs import RunsDifference
from hpcstate.probe.node_runs import NodeRuns
from tests.unit.slurm_clusters import cluster, node

CLUSTER = cluster(node(1), node(2))
NODE = CLUSTER.workers[0]
PATHS = runs.paths(CLUSTER, NODE)
SOUND = NodeRuns(
    image="hpc-base-0f3a5c7e9b1d",
    files={path: sha256(text.encode()).hexdigest() for path, text in runs.files(CLUSTER, NODE).items()},
    containers={"torch": "123456789abc"},
)
WANTED = runs.desired(
    SOUND["image"], runs.configuration_of(CLUSTER, NODE), {"torch": "123456789abc" + "0" * 52}
)


def test_a_node_as_it_should_be() -> None:
    assert runs.differences(runs.running(SOUND, PATHS), WANTED) == []


def test_slurm_conf_and_the_files_of_the_base_belong_to_the_configuration() -> None:
    assert {"/etc/slurm/slurm.conf", "/etc/hosts", "/etc/apptainer/apptainer.conf"} <= set(PATHS)
    assert "/etc/slurm/gres.conf" not in PATHS


@pytest.mark.parametrize("digest", [None, "0" * 64])
def test_another_file_is_another_configuration(digest: str | None) -> None:
    files = {path: found for path, found in SOUND["files"].items() if path != "/etc/hosts"}
    found: NodeRuns = {**SOUND, "files": {**files, **({"/etc/hosts": digest} if digest else {})}}
    (difference,) = runs.differences(runs.running(found, PATHS), WANTED)
    assert (difference.key, difference.remedy) == ("configuration", "up")


def test_an_old_image_and_a_container_that_is_missing() -> None:
    found: NodeRuns = {**SOUND, "image": "hpc-base-aaaaaaaaaaaa", "containers": {}}
    assert runs.differences(runs.running(found, PATHS), WANTED) == [
        RunsDifference("image", "hpc-base-aaaaaaaaaaaa", "hpc-base-0f3a5c7e9b1d"),
        RunsDifference("container.torch", "", "123456789abc"),
    ]
    assert [each.remedy for each in runs.differences({}, WANTED)] == ["roll start", "up", "up"]


def test_a_container_that_nobody_declared_and_an_image_that_is_not_known_are_no_differences() -> None:
    found: NodeRuns = {**SOUND, "containers": {"torch": "123456789abc", "mine": "a" * 12}}
    wanted = runs.desired("", WANTED["configuration"], {"torch": "123456789abc"})
    assert runs.differences(runs.running(found, PATHS), wanted) == []


def test_a_note_keeps_the_keys_of_others_and_drops_ours_that_are_gone() -> None:
    told = runs.running(SOUND, PATHS)
    extra = runs.note('{"rack": 7, "container.gone": "a", "image": "old"}', told)
    assert extra is not None
    assert json.loads(extra) == {"rack": 7, **told}
    assert runs.noted(extra) == told
    assert runs.note(extra, told) == extra


@pytest.mark.parametrize("text", ["rack 7", "[1]", "7"])
def test_a_text_of_somebody_is_not_overwritten(text: str) -> None:
    assert runs.note(text, {"image": "x"}) is None
    assert runs.noted(text) == {}


def test_nothing_of_a_note_is_read_by_a_shell() -> None:
    assert runs.note_command("compute-01", '{"a": "it\'s $(x)"}') == (
        'scontrol update nodename=compute-01 extra=\'{"a": "it\'"\'"\'s $(x)"}\''
    )
