"""The routes besides the declared one: what they give to Apptainer."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.container import archive as container_archive
from hpcstate.container import engine as container_engine
from hpcstate.container import routes as container_routes
from hpcstate.container.order import BuildOrder
from hpcstate.container.routes import Source
from hpcstate.digest import file_digest
from hpcstate.errors import HpcstateError, ProblemsError
from hpcstate.model.container import BuildSecret, Container, Route

DIGEST = "sha256:" + "a" * 64


class Elsewhere:
    """A toolbox in another root: paths are seen by their binds."""

    def at(self, path: Path, binds: Mapping[Path, str]) -> str:
        for source, target in binds.items():
            if path.is_relative_to(source):
                rest = path.relative_to(source).as_posix()
                return target if rest == "." else f"{target}/{rest}"
        raise AssertionError(f"{path} is bound nowhere")


def declared(route: Route, *, image: str = "", archive: str = "") -> Container:
    file = {"dockerfile": "Dockerfile", "definition": "container.def"}.get(route, "")
    return Container("demo", "1", "words", "custom-images", route, image=image, archive=archive, file=file)


def docker_archive(path: Path, config: dict[str, object]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, value in (("manifest.json", [{"Config": "c"}]), ("c", {"config": config})):
            file = path.with_name(f"{path.name}.{name}")
            file.write_text(json.dumps(value))
            tar.add(file, name)
            file.unlink()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """containers/demo of a project of its own."""
    monkeypatch.setattr(paths, "CONTAINERS", tmp_path / "containers")
    monkeypatch.setattr(container_routes, "CACHE", tmp_path / "cache")
    found = tmp_path / "containers/demo"
    found.mkdir(parents=True)
    return found


def source(chosen: Container, work: Path) -> Source:
    return container_routes.source(chosen, work, Elsewhere(), lambda _: None)


@pytest.mark.parametrize(
    ("address", "header"),
    [
        (f"docker://reg.example/a/b:1@{DIGEST}", f"Bootstrap: docker\nFrom: reg.example/a/b:1@{DIGEST}\n"),
        (f"oras://127.0.0.1:5000/x@{DIGEST}", f"Bootstrap: oras\nFrom: 127.0.0.1:5000/x@{DIGEST}\n"),
        (
            f"library://me/all/x@{DIGEST}",
            f"Bootstrap: library\nFrom: me/all/x:{DIGEST.replace(':', '.')}\n"
            "Library: https://library.sylabs.io\n",
        ),
    ],
)
def test_an_image_of_a_registry(folder: Path, tmp_path: Path, address: str, header: str) -> None:
    found = source(declared("converted", image=address), tmp_path)
    assert found.definition == header
    assert found.labels["org.opencontainers.image.base.digest"] == DIGEST
    assert list(found.versions.values()) == [DIGEST]
    # Layers that were fetched survive a build that ends early.
    assert found.environment == {"APPTAINER_CACHEDIR": "/cache"}
    assert found.binds[tmp_path / "cache"] == "/cache"
    assert "registry" in found.hint


def test_an_archive_of_the_folder_says_how_it_runs(folder: Path, tmp_path: Path) -> None:
    docker_archive(folder / "image.tar", {"Entrypoint": ["/bin/x"], "WorkingDir": "/srv"})
    found = source(declared("converted", archive="image.tar"), tmp_path)
    assert found.definition == "Bootstrap: docker-archive\nFrom: /archive/image.tar\n"
    assert found.binds[folder / "image.tar"] == "/archive/image.tar" and folder not in found.binds
    assert found.versions == {"archive:image.tar": f"sha256:{file_digest(folder / 'image.tar')}"}
    assert found.runscript == 'cd /srv || exit\nexec /bin/x "$@"'


def test_a_definition_finds_its_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "x.txt").touch()
    (folder / "container.def").write_text("Bootstrap: docker\nFrom: debian\n%files\n  x.txt /opt/\n")
    found = source(declared("definition"), tmp_path)
    assert "  /container/x.txt /opt/\n" in found.definition
    assert found.versions == {"base:debian": "not pinned"}
    assert found.binds[folder] == "/container"


def test_files_are_those_of_the_container_wherever_its_definition_lies(folder: Path, tmp_path: Path) -> None:
    (folder / "defs").mkdir()
    (folder / "base.sqfs").write_bytes(b"hsqs")
    (folder / "defs/gpu.def").write_text(
        "Bootstrap: localimage\nFrom: base.sqfs\n%files\n  base.sqfs /opt/\n"
    )
    found = source(replace(declared("definition"), file="defs/gpu.def"), tmp_path)
    assert "From: /container/base.sqfs\n" in found.definition
    assert "  /container/base.sqfs /opt/\n" in found.definition
    assert found.versions["base:base.sqfs"].startswith("sha256:")


def test_one_image_of_an_archive_or_a_folder_is_found_by_its_name(folder: Path, tmp_path: Path) -> None:
    from tests.unit.container.test_archive import DOCKER, OCI, REFERENCE, written

    two = [{"Config": "c.json", "RepoTags": ["a:1"]}, {"Config": "c.json", "RepoTags": ["b:2"]}]
    written(folder / "image.tar", {**DOCKER, "manifest.json": two})
    entries = [{"digest": "sha256:m", "annotations": {REFERENCE: "x"}}, {"digest": "sha256:n"}]
    for name, content in {**OCI, "index.json": {"manifests": entries}}.items():
        (folder / "layout" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "layout" / name).write_text(json.dumps(content))
    (folder / "container.def").write_text(
        "Bootstrap: docker-archive\nFrom: image.tar:b:2\n\nBootstrap: oci\nFrom: layout:x\n"
    )
    found = source(declared("definition"), tmp_path)
    assert "From: /archive/2.tar\n" in found.definition
    assert "From: /container/layout@sha256:m\n" in found.definition
    (alone,) = (file for file, at in found.binds.items() if at == "/archive/2.tar")
    container_archive.demand_one(alone, "b:2")
    with pytest.raises(HpcstateError, match="no image called 'a:1'"):
        container_archive.demand_one(alone, "a:1")


def test_a_wrong_definition_is_refused_before_anything_runs(folder: Path, tmp_path: Path) -> None:
    (folder / "container.def").write_text("From: debian\n")
    with pytest.raises(ProblemsError):
        source(declared("definition"), tmp_path)


def test_a_dockerfile_becomes_an_archive_with_its_base_on_record(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "Dockerfile").write_text("ARG TAG\nFROM debian:${TAG}\n")
    monkeypatch.setenv("TOKEN", "secret")
    seen: list[object] = []
    built = container_engine.Built("localhost/hpcstate/demo:1", {"base": "b"}, {"buildah": "1.28.2"})

    def build(*words: object) -> container_engine.Built:
        (order,) = (word for word in words if isinstance(word, BuildOrder))
        seen.extend([*words[1:3], order.context, order.images.used, dict(order.arguments)])
        seen.append({name: file.read_text() for name, file in order.secrets.items()})
        return built

    def save(_engine: object, _tag: str, archive: Path, _report: object) -> None:
        docker_archive(archive, {"Cmd": ["python3"]})

    monkeypatch.setattr(container_engine, "find", lambda: container_engine.Engine("docker", "1"))
    monkeypatch.setattr(container_engine, "build", build)
    monkeypatch.setattr(container_engine, "save", save)
    chosen = replace(
        declared("dockerfile"), arguments=(("TAG", "13"),), secrets=(BuildSecret("t", environment="TOKEN"),)
    )
    monkeypatch.setattr(container_engine, "buildkit", lambda _: True)
    found = source(chosen, tmp_path)
    assert seen == ["demo", "1", folder, ("debian:13",), {"TAG": "13"}, {"t": "secret"}]
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and "secret" in file.name]
    assert found.definition == "Bootstrap: docker-archive\nFrom: /archive/image.tar\n"
    assert (found.labels, found.versions) == ({"base": "b"}, {"buildah": "1.28.2"})
    assert found.runscript == '[ $# -gt 0 ] || set -- python3\nexec "$@"'


def test_what_container_yaml_says_is_added() -> None:
    of = Source(
        "Bootstrap: x\nFrom: y\n", {}, labels={"a": "of the image", "b": "kept"}, runscript="one\ntwo"
    )
    text = container_routes.whole(of, {"a": "own"}, [("V", "it's")], [])
    assert text == (
        "Bootstrap: x\nFrom: y\n\n%labels\n    a own\n    b kept\n\n"
        "%environment\n    export V='it'\"'\"'s'\n\n%runscript\n    one\n    two\n"
    )
    assert "%runscript\n    exec sh -c 'a b' \"$@\"\n" in container_routes.whole(
        of, {}, [], ["sh", "-c", "a b"]
    )
    assert container_routes.whole(Source("Bootstrap: x\n", {}), {}) == "Bootstrap: x\n"


def test_a_line_break_in_a_name_gets_into_no_definition() -> None:
    with pytest.raises(HpcstateError, match="line break"):
        container_routes.of_registry("docker://a\n%post", Elsewhere())
