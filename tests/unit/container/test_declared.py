"""container.yaml: what it may say, what contradicts itself, and what decides on the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.container import build as container_build
from hpcstate.container import declared as container
from hpcstate.container import layers as container_layers
from hpcstate.container import signing
from hpcstate.container import toolbox as tools_root
from hpcstate.digest import key_of
from hpcstate.errors import HpcstateError

LEAST = """
name: one
version: "1.0"
summary: a container
base: {release: trixie}
tests: [{name: it runs, command: ["true"]}]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """containers/one, and containers/ itself in its place."""
    monkeypatch.setattr(paths, "CONTAINERS", tmp_path)
    at = tmp_path / "one"
    at.mkdir()
    return at


def declare(folder: Path, text: str = LEAST, **files: str) -> None:
    (folder / "container.yaml").write_text(text)
    for name, content in files.items():
        (folder / name).write_text(content)


@pytest.mark.parametrize("name", paths.container_names())
def test_what_is_shipped_can_be_read(name: str) -> None:
    loaded = container.load(name)
    assert loaded.name == name
    assert loaded.tests
    assert container_build.plan(loaded)


def test_the_three_containers_are_shipped() -> None:
    assert {"mpi-minimal", "pytorch-cpu-mpi", "pytorch-cuda12.1-mpi4.1"} <= set(paths.container_names())


def test_defaults(folder: Path) -> None:
    declare(folder)
    loaded = container.load("one")
    assert (loaded.route, loaded.category, loaded.gpu, loaded.size_limit_mb) == (
        "declared",
        "custom-images",
        False,
        5000,
    )
    assert paths.container_names() == ["one"]


@pytest.mark.parametrize(
    ("change", "files", "route"),
    [
        ({}, {}, "declared"),
        ({"base: {release: trixie}": ""}, {"Dockerfile": "FROM scratch\n"}, "dockerfile"),
        ({"base: {release: trixie}": ""}, {"container.def": "Bootstrap: scratch\n"}, "definition"),
        ({"release: trixie": f'image: "docker://a/b@sha256:{"0" * 64}"'}, {}, "converted"),
        ({"release: trixie": "archive: a.tar"}, {"a.tar": ""}, "converted"),
    ],
)
def test_the_folder_decides_on_the_route(
    folder: Path, change: dict[str, str], files: dict[str, str], route: str
) -> None:
    text = LEAST
    for old, new in change.items():
        text = text.replace(old, new)
    declare(folder, text, **files)
    assert container.load("one").route == route


def test_what_goes_with_a_dockerfile_by_another_name(folder: Path) -> None:
    more = "file: Dockerfile.gpu\ntarget: run\narguments: {V: '1 2'}\nsecrets: {pip: {file: ~/.token}}"
    declare(
        folder, LEAST.replace("base: {release: trixie}", more), **{"Dockerfile.gpu": "", "Dockerfile": ""}
    )
    loaded = container.load("one")
    assert (loaded.route, loaded.file, loaded.target) == ("dockerfile", "Dockerfile.gpu", "run")
    assert dict(loaded.arguments) == {"V": "1 2"} and loaded.secrets[0].file == "~/.token"
    (folder / "other.def").touch()
    declare(folder, LEAST.replace("base: {release: trixie}", "file: other.def"))
    assert container.load("one").route == "definition"


WRONG = [
    ("name: one", "name: two", {}, "`name` is 'two', the folder is 'one'"),
    ("base: {release: trixie}", "", {}, "`base` has exactly one of"),
    ("release: trixie", "release: trixie, archive: a.tar", {"a.tar": ""}, "`base` has exactly one of"),
    ("release: trixie", "archive: a.tar", {}, "there is no file a.tar beside it"),
    ("release: trixie", "image: docker://debian:13", {}, "docker|oras|library"),
    ("summary: a container", "summary: s\npackage: {}", {}, "unexpected key"),
    ("tests: [", "tests: []\nlabels: {a: b}\nx: [", {}, "x"),
    ("command: [", "script: no.py, command: [", {}, "there is no file no.py"),
    ("command: [", "expect: '(', command: [", {}, "no regular expression"),
    ("summary: a container", "summary: s\nwheels: lock", {"lock": ""}, "`wheels` needs `python`"),
    ("summary: a container", "summary: s", {"Dockerfile": ""}, "leave out `base.release`"),
    ("summary: a container", "summary: s", {"Dockerfile": "", "container.def": ""}, "keep one"),
    (
        "base: {release: trixie}",
        "wheels: lock\npython: '3.11'",
        {"Dockerfile": "", "lock": ""},
        "`wheels` goes with `base.release`",
    ),
    ("command: [", "script: ../../etc/passwd, command: [", {}, "script"),
    ('version: "1.0"', 'version: "1 0"', {}, "version"),
    (
        "summary: a",
        'labels: {team: "a\\n%setup\\n  touch /hole"}\nsummary: a',
        {},
        "`labels.team` has a line",
    ),
    ("summary: a", "file: Dockerfile.gpu\nsummary: a", {}, "there is no file Dockerfile.gpu beside it"),
    ("summary: a", "arguments: {A: b}\nsummary: a", {}, "`arguments` goes with a Dockerfile or a definition"),
    ("summary: a", "target: x\nsummary: a", {"x.def": ""}, "`target` goes with a Dockerfile"),
    ("summary: a", "secrets: {a: {environment: B}}\nsummary: a", {}, "`secrets` goes with a Dockerfile"),
    ("summary: a", "secrets: {a: {}}\nsummary: a", {"Dockerfile": ""}, "exactly one of `file` and `envir"),
    ("summary: a", "secrets: {a: {file: token}}\nsummary: a", {"Dockerfile": ""}, "token"),
    ("summary: a", 'environment: {A: "b\\r%setup"}\nsummary: a', {}, "`environment.A` has a line break"),
    ("summary: a", 'entry_point: [sh, "b\\n"]\nsummary: a', {}, "`entry_point[1]` has a line break"),
]


@pytest.mark.parametrize(("old", "new", "files", "said"), WRONG, ids=[row[3][:40] for row in WRONG])
def test_what_is_wrong_is_said_with_its_place(
    folder: Path, old: str, new: str, files: dict[str, str], said: str
) -> None:
    declare(folder, LEAST.replace(old, new), **files)
    with pytest.raises(HpcstateError) as error:
        container.load("one")
    assert said.split("|")[0] in str(error.value)
    assert "one/container.yaml" in str(error.value)


def test_nothing_from_outside_of_the_folder_goes_in(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data/inside").symlink_to("../container.yaml")
    declare(folder)
    assert container.load("one").name == "one"
    (folder / "data/key").symlink_to("/etc/shadow")
    declare(folder, LEAST.replace("base: {release: trixie}", ""), Dockerfile="FROM scratch")
    assert container.load("one").route == "dockerfile"
    (folder / "Dockerfile").unlink()
    declare(folder)
    with pytest.raises(HpcstateError, match="data/key is a link that leads out of the folder"):
        container.load("one")


def test_a_name_that_is_none_names_the_others(folder: Path) -> None:
    declare(folder)
    with pytest.raises(HpcstateError, match="there are: one"):
        container.load("two")


def test_the_key_follows_what_goes_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools_root, "key", lambda: "tools")
    monkeypatch.setattr(signing, "fingerprint", lambda: "me")
    declare(folder)
    (folder / "README.md").write_text("notes")

    def key() -> str:
        return key_of(container_build.inputs(container.load("one")))

    first = key()
    (folder / "README.md").write_text("other notes")
    assert key() == first
    seen = {first}
    declare(folder, LEAST.replace("1.0", "1.1"))
    seen.add(key())
    declare(folder, LEAST, extra="a file that a test reads")
    seen.add(key())
    monkeypatch.setattr(signing, "fingerprint", lambda: "somebody else")
    seen.add(key())
    monkeypatch.setattr(tools_root, "key", lambda: "newer tools")
    seen.add(key())
    assert len(seen) == 5


def test_a_test_that_changed_leaves_the_layers(folder: Path) -> None:
    declare(folder, LEAST.replace("summary", "wheels: lock\npython: '3.13'\nsummary"), lock="a==1\n")
    before = container.load("one")
    layers = container_layers.base_inputs(before), container_layers.wheels_inputs(before)
    declare(folder, (folder / "container.yaml").read_text().replace("it runs", "it still runs"))
    after = container.load("one")
    assert layers == (container_layers.base_inputs(after), container_layers.wheels_inputs(after))
    (folder / "lock").write_text("a==2\n")
    assert container_layers.base_inputs(after) == layers[0]
    assert container_layers.wheels_inputs(after) != layers[1]
