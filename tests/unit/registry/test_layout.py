"""The registry's layout, catalog and differences; what a prune removes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import strictyaml

from hpcstate.errors import HpcstateError
from hpcstate.model import ContainerSettings
from hpcstate.probe.registry import RegistryFile, RegistryFolder, RegistryState
from hpcstate.registry import catalog as catalog_file
from hpcstate.registry import difference as registry_difference
from hpcstate.registry import layout as registry
from hpcstate.registry import prunable as registry_prune
from hpcstate.registry.layout import Catalog, Stored

NODE = "compute-01"
CONFIG = registry.config_text("test", ContainerSettings(deploy=("mpi-minimal",)))


def stored(
    name: str = "mpi-minimal", version: str = "1.0", digest: str = "a", nodes: tuple[str, ...] = ()
) -> Stored:
    return Stored(name, "base-images", version, digest * 64, 300, True, "2026-11-22T07:06:52+00:00", nodes)


ONE, NEXT, OTHER = (
    stored(),
    stored(version="1.1", digest="b"),
    stored("torch", digest="c", nodes=("compute-02",)),
)
CATALOG = Catalog().with_current(ONE).with_current(NEXT).with_current(OTHER)


def sound(node: str = NODE) -> RegistryState:
    """The registry of ``node`` as CATALOG wants it."""
    return RegistryState(
        node=node,
        folders={
            path.removeprefix(registry.ROOT).removeprefix("/"): RegistryFolder(mode=mode, owner=owner)
            for path, (mode, owner) in registry.folders().items()
        },
        files={
            version.file: RegistryFile(
                mode="644", owner="root:slurm", size=version.size, sha256=version.digest, hashed=False
            )
            for version in CATALOG.on(node)
        },
        links=CATALOG.links_on(node),
        others=[],
        incoming={},
        catalog=catalog_file.write(CATALOG),
        config=CONFIG,
    )


def differs(state: RegistryState, node: str = NODE) -> registry_difference.Difference:
    return registry_difference.difference(
        state, CATALOG, node, catalog_text=catalog_file.write(CATALOG), config=CONFIG
    )


def test_names() -> None:
    assert ONE.file == "base-images/mpi-minimal-1.0-aaaaaaaaaaaa.sif"
    assert ONE.link == "base-images/mpi-minimal.sif"
    assert registry.is_container_file(ONE.file)
    assert not registry.is_container_file("base-images/mine.sif")
    assert not registry.is_container_file("elsewhere/mpi-minimal-1.0-aaaaaaaaaaaa.sif")


def test_the_layout_is_that_of_the_task() -> None:
    assert registry.folders() == {
        "/opt/containers": ("755", "root:slurm"),
        "/opt/containers/ml-frameworks": ("755", "root:slurm"),
        "/opt/containers/custom-images": ("755", "root:slurm"),
        "/opt/containers/base-images": ("755", "root:slurm"),
        "/opt/containers/.registry": ("755", "root:slurm"),
        "/opt/containers/.registry/incoming": ("700", "root:root"),
    }


@pytest.mark.parametrize("deploy", [(), ("a", "b-1.0")])
def test_the_configuration_is_yaml(deploy: tuple[str, ...]) -> None:
    text = registry.config_text("lab", ContainerSettings(deploy=deploy, require_signature=False))
    data = strictyaml.dirty_load(text, allow_flow_style=True).data
    assert (data["cluster"], data["require_signature"], data["deploy"]) == ("lab", "no", list(deploy))


@pytest.mark.parametrize("node", [NODE, "compute-02"])
def test_a_sound_node_is_in_step(node: str) -> None:
    found = differs(sound(node), node)
    assert found.in_step
    assert registry_difference.findings(found, sound(node)) == []


def set_(*path: str, value: Any) -> Callable[[Any], None]:
    def change(state: Any) -> None:
        for key in path[:-1]:
            state = state[key]
        state[path[-1]] = value

    return change


def drop(*path: str) -> Callable[[Any], None]:
    def change(state: Any) -> None:
        for key in path[:-1]:
            state = state[key]
        del state[path[-1]]

    return change


LINK = "base-images/mpi-minimal.sif"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop("folders", "ml-frameworks"), "/opt/containers/ml-frameworks is not 755 root:slurm"),
        (set_("folders", "", "mode", value="777"), "/opt/containers is not 755 root:slurm"),
        (set_("folders", ".registry/incoming", "owner", value="hpc:hpc"), "incoming is not 700 root:root"),
        (set_("config", value=""), "config.yaml is missing"),
        (set_("config", value="x"), "config.yaml is not the rendered one"),
        (drop("files", ONE.file), f"{ONE.file} is missing"),
        (set_("files", ONE.file, "size", value=299), "has 299 bytes instead of 300"),
        (set_("files", ONE.file, "sha256", value="d" * 64), "has the digest dddddddddddd… instead of aaaa"),
        (set_("files", ONE.file, "mode", value="666"), f"{ONE.file} is 666 root:slurm instead of 644"),
        (set_("files", ONE.file, "owner", value="hpc:hpc"), "is 644 hpc:hpc instead of 644 root:slurm"),
        (set_("links", LINK, value=ONE.file.partition("/")[2]), f"{LINK} does not lead to mpi-minimal-1.1"),
        (drop("links", LINK), f"{LINK} does not lead to"),
        (set_("catalog", value=""), "catalog.yaml is missing"),
        (set_("catalog", value="x"), "catalog.yaml is another one than on the controller"),
    ],
)
def test_each_difference_is_seen_and_said(change: Callable[[Any], None], said: str) -> None:
    state = copy.deepcopy(sound())
    change(state)
    found = differs(state)
    assert not found.in_step
    (text,) = registry_difference.findings(found, state)
    assert said in text


def test_what_nobody_knows_is_said_but_is_no_reason_to_do_anything() -> None:
    state = copy.deepcopy(sound())
    state["files"][OTHER.file] = copy.deepcopy(state["files"][ONE.file])
    state["links"]["base-images/foreign.sif"] = "/home/x.sif"
    state["others"].append("base-images/notes")
    found = differs(state)
    assert found.in_step
    assert found.unknown == ("base-images/foreign.sif", "base-images/notes", OTHER.file)
    assert len(registry_difference.findings(found, state)) == 3


def test_a_link_of_ours_to_a_container_that_left_is_removed() -> None:
    state = copy.deepcopy(sound())
    state["links"]["ml-frameworks/old.sif"] = "old-1.0-aaaaaaaaaaaa.sif"
    assert differs(state).stale == ("ml-frameworks/old.sif",)


def test_the_same_again_keeps_its_time_and_adds_nodes() -> None:
    later = Stored(**{**vars(ONE), "deployed": "2027-01-01T00:00:00+00:00"})
    again = CATALOG.with_current(later)
    assert [version.deployed for version in again.of("mpi-minimal")] == [ONE.deployed, NEXT.deployed]
    assert again.is_current(ONE)
    more = CATALOG.with_current(stored("torch", digest="c", nodes=("compute-01",)))
    assert more.of("torch")[0].nodes == ("compute-01", "compute-02")
    assert CATALOG.with_current(stored("torch", digest="c")).of("torch")[0].nodes == ()


def test_a_name_stands_for_the_latest_of_those_that_are_left() -> None:
    assert CATALOG.without([ONE.file]).of("mpi-minimal") == (NEXT,)
    without_current = CATALOG.without([NEXT.file])
    assert without_current.is_current(ONE) and without_current.of("mpi-minimal") == (ONE,)
    assert dict(CATALOG.without([ONE.file, NEXT.file]).current) == {"torch": OTHER.file}


def test_a_version_for_one_node_leaves_the_others_theirs() -> None:
    """What it is called there leads to the version that it has, and no prune removes that."""
    newer = stored(version="2.0", digest="d", nodes=("compute-01", "controller"))
    catalog = CATALOG.with_current(newer)
    assert catalog.links_on("compute-01")["base-images/mpi-minimal.sif"] == newer.file.split("/")[1]
    assert catalog.links_on("compute-02")["base-images/mpi-minimal.sif"] == NEXT.file.split("/")[1]
    gone, kept = registry_prune.prune(catalog, {}, 0)
    assert gone == (ONE,)
    assert {container.stored: container.why for container in kept}[
        NEXT
    ] == "current on nodes that did not get the newer one"


def test_what_no_node_has_is_lost() -> None:
    states = {name: copy.deepcopy(sound(name)) for name in ("controller", "compute-01", "compute-02")}
    assert registry_prune.lost(CATALOG, states) == ()
    for state in states.values():
        state["files"].pop(NEXT.file)
    assert registry_prune.lost(CATALOG, states) == (NEXT,)
    assert registry_prune.lost(CATALOG, states, ["compute-03"]) == ()


def test_what_an_interrupted_prune_left_is_known_by_its_name_and_content() -> None:
    old = stored(version="0.9", digest="e")
    files = sound()["files"]
    file = RegistryFile(mode="644", owner="root:slurm", size=300, sha256=old.digest, hashed=False)
    mine = "base-images/mine-1.0-ffffffffffff.sif"
    state = {**sound(), "files": {**files, old.file: file, mine: file, "base-images/mine.sif": file}}
    found = registry_prune.left_over(CATALOG, {NODE: state}, {})  # type: ignore[dict-item]
    assert [(version.file, version.nodes, version.size) for version in found] == [(old.file, (NODE,), 300)]
    assert registry_prune.left_over(Catalog(), {NODE: state}, {}) == ()  # type: ignore[dict-item]
    assert registry_prune.left_over(CATALOG, {NODE: state}, {old.file: "job 7"}) == ()  # type: ignore[dict-item]


V = [stored(version=f"1.{number}", digest=f"{number}") for number in range(5)]


@pytest.mark.parametrize(
    ("uses", "keep", "removed"),
    [
        ({}, 1, [0, 1, 2]),
        ({}, 0, [0, 1, 2, 3]),
        ({}, 9, []),
        ({V[0].file: "job 7 on compute-01"}, 1, [1, 2]),
        ({V[4].file: "job 7 on compute-01"}, 0, [0, 1, 2, 3]),
    ],
)
def test_a_prune_removes_what_is_neither_current_nor_used(
    uses: dict[str, str], keep: int, removed: list[int]
) -> None:
    catalog = Catalog()
    for version in V:
        catalog = catalog.with_current(version)
    gone, kept = registry_prune.prune(catalog, uses, keep)
    assert gone == tuple(V[number] for number in removed)
    assert {container.stored for container in kept} == {*V} - {*gone}
    assert kept[-1].why == "current"
    if V[0] not in gone and uses:
        assert kept[0].why == "in use by job 7 on compute-01"


def test_a_wrong_number_to_keep_is_refused() -> None:
    with pytest.raises(HpcstateError, match="0 or more"):
        registry_prune.prune(CATALOG, {}, -1)
