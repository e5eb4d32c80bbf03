"""Credentials for registries: whose entry counts, where it may be, and what a helper program keeps."""

from __future__ import annotations

import json
import stat
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from hpcstate.container import credentials as container_credentials
from hpcstate.container import definition as container_definition
from hpcstate.errors import HpcstateError

AUTH = {"auth": "dXNlcjpzZWNyZXQ="}
HUB = "https://index.docker.io/v1/"


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("debian:13", "docker.io"),
        ("nvidia/cuda:12.1.1-devel-ubuntu22.04", "docker.io"),
        ("docker.io/nvidia/cuda", "docker.io"),
        ("index.docker.io/library/debian", "docker.io"),
        ("nvcr.io/nvidia/pytorch:24.10-py3", "nvcr.io"),
        ("localhost/tiny:1", "localhost"),
        ("127.0.0.1:5000/tiny@sha256:0", "127.0.0.1:5000"),
        ("registry:5000/tiny", "registry:5000"),
    ],
)
def test_the_registry_of_an_image(image: str, registry: str) -> None:
    assert container_credentials.registry_of(image) == registry


@pytest.mark.parametrize(
    ("text", "registries"),
    [
        ("Bootstrap: docker\nFrom: debian:13\n", "docker.io"),
        ("Bootstrap: docker\nFrom: a\n%post\nBootstrap: oras\nFrom: r.example/b\n", "docker.io r.example"),
        ("Bootstrap: docker\nRegistry: r.example:5000/\nFrom: team/a\n", "r.example:5000"),
        ("Bootstrap: docker\nRegistry: mirror\nFrom: team/a\n", "docker.io"),
        (
            "Bootstrap: docker\nFrom: a\nRegistry: r.example\n%post\nBootstrap: docker\nFrom: b\n",
            "docker.io r.example",
        ),
        ("Bootstrap: docker-archive\nFrom: image.tar\n", ""),
        ("Bootstrap: library\nFrom: alpine\n", ""),
    ],
)
def test_the_registries_of_a_definition(text: str, registries: str) -> None:
    assert container_definition.registries(text.splitlines()) == set(registries.split())


def config(path: Path, **content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_where_credentials_may_be(tmp_path: Path) -> None:
    named, runtime = tmp_path / "named.json", tmp_path / "run"
    environment = {"REGISTRY_AUTH_FILE": str(named), "XDG_RUNTIME_DIR": str(runtime)}
    assert container_credentials.files(environment, tmp_path) == []
    made = [
        config(named),
        config(tmp_path / ".apptainer" / "docker-config.json"),
        config(tmp_path / ".docker" / "config.json"),
        config(runtime / "containers" / "auth.json"),
        config(tmp_path / ".config" / "containers" / "auth.json"),
    ]
    assert container_credentials.files(environment, tmp_path) == made
    other = config(tmp_path / "other" / "config.json")
    found = container_credentials.files({"DOCKER_CONFIG": str(other.parent)}, tmp_path)
    assert found == [made[1], other, made[4]]


@pytest.mark.parametrize(
    ("auths", "registry", "keys"),
    [
        ({"r.example": AUTH, "other.example": AUTH}, "r.example", {"r.example"}),
        ({"https://r.example/v2/": AUTH}, "r.example", {"https://r.example/v2/"}),
        ({"r.example/team": AUTH, "r.example": AUTH}, "r.example", {"r.example/team", "r.example"}),
        ({HUB: AUTH}, "docker.io", {HUB}),
        ({"r.example": {}}, "r.example", set()),
        ({"r.example:5000": AUTH}, "r.example", set()),
        ({}, "docker.io", set()),
    ],
)
def test_the_entries_of_a_registry(
    tmp_path: Path, auths: dict[str, Any], registry: str, keys: set[str]
) -> None:
    file = config(tmp_path / "config.json", auths=auths)
    assert container_credentials.find([registry], [file]).keys() == keys


def test_the_first_file_that_has_some_counts(tmp_path: Path) -> None:
    first = config(tmp_path / "1.json", auths={"a.example": AUTH})
    second = config(tmp_path / "2.json", auths={"a.example": {"auth": "b3RoZXI="}, "b.example": AUTH})
    found = container_credentials.find(["a.example", "b.example"], [first, second])
    assert found == {"a.example": AUTH, "b.example": AUTH}


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": []}', '{"credHelpers": ["vault"]}', "\udcff"])
def test_what_cannot_be_read_is_a_message(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text, errors="surrogateescape")
    with pytest.raises(HpcstateError, match="credentials for registries cannot be read") as caught:
        container_credentials.find(["r.example"], [file])
    assert caught.value.where == str(file)
    assert container_credentials.find([], [file]) == {}


@pytest.mark.parametrize("text", ["", "{}", '{"auths": null, "credHelpers": null}'])
def test_an_empty_file_has_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    assert container_credentials.find(["r.example"], [file]) == {}


HELPER = """\
#!/bin/sh
read -r key
case $1-$key in
get-r.example) echo '{"ServerURL": "r.example", "Username": "user", "Secret": "a:secret"}';;
get-t.example) echo '{"ServerURL": "t.example", "Username": "<token>", "Secret": "a token"}';;
get-https://index.docker.io/v1/) echo '{"Username": "hub", "Secret": "of the hub"}';;
get-odd.example) echo 'no JSON';;
*) echo "credentials not found in native keychain"; exit 1;;
esac
"""


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "docker-credential-vault"
    program.parent.mkdir()
    program.write_text(HELPER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("content", "registry", "said"),
    [
        ({"credHelpers": {"r.example": "vault"}}, "r.example", "user:a:secret"),
        ({"credsStore": "vault", "auths": {"r.example": {}}}, "r.example", "user:a:secret"),
        ({"credsStore": "vault", "auths": {HUB: {}}}, "docker.io", "hub:of the hub"),
        ({"credHelpers": {"docker.io": "vault"}}, "docker.io", "hub:of the hub"),
        ({"credHelpers": {"t.example": "vault"}}, "t.example", "<token>:"),
        # A store is not asked for what nobody has logged in to.
        ({"credsStore": "vault", "auths": {}}, "r.example", None),
        ({"credHelpers": {"none.example": "vault"}}, "none.example", None),
        ({"credHelpers": {"odd.example": "vault"}}, "odd.example", None),
        ({"credHelpers": {"r.example": "absent"}}, "r.example", None),
    ],
)
@pytest.mark.usefixtures("helper")
def test_what_a_helper_keeps(
    tmp_path: Path, content: dict[str, Any], registry: str, said: str | None
) -> None:
    found = container_credentials.find([registry], [config(tmp_path / "config.json", **content)])
    assert [b64decode(entry["auth"]).decode() for entry in found.values()] == ([said] if said else [])
    tokens = [entry.get("identitytoken") for entry in found.values()]
    assert tokens == (["a token"] if registry == "t.example" else [None] if said else [])


def test_the_file_for_apptainer_is_its_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = config(tmp_path / "named.json", auths={"r.example": AUTH, "other.example": AUTH})
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(named))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    at = container_credentials.write(["r.example"], tmp_path / "auth.json")
    assert at is not None and stat.S_IMODE(at.stat().st_mode) == 0o600
    assert json.loads(at.read_text()) == {"auths": {"r.example": AUTH}}
    assert container_credentials.write(["none.example"], tmp_path / "none.json") is None
    assert not (tmp_path / "none.json").exists()
