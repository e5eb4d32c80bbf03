"""hpcstate container convert: what SOURCE may be, and that nothing half done stays."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from hpcstate.artifact.store import Manifest
from hpcstate.cli import main
from hpcstate.container import build as container_build
from hpcstate.container import convert as container_convert
from hpcstate.container import engine as container_engine
from hpcstate.container import routes as container_routes
from hpcstate.container import toolbox as tools_root
from hpcstate.errors import HpcstateError

TOOLBOX = tools_root.Toolbox(None, {"apptainer": "1.4.5"})


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image as `docker save` writes it; Apptainer is replaced by one that copies."""
    monkeypatch.setattr(container_routes, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(tools_root, "toolbox", lambda _store: TOOLBOX)
    monkeypatch.setattr(tools_root, "is_root", lambda: False)

    def write(
        definition: str, source: object, target: Path, work: Path, toolbox: object, **_: object
    ) -> None:
        target.write_text(definition)

    monkeypatch.setattr(container_build, "write", write)
    return archive(tmp_path / "image.tar", {"manifest.json": '[{"Config": "c"}]', "c": '{"config": {}}'})


def archive(path: Path, content: dict[str, str]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, text in content.items():
            file = path.with_name("member")
            file.write_text(text)
            os.utime(file, (0, 0))
            tar.add(file, name)
            file.unlink()
    return path


def test_an_archive_becomes_a_sif_with_its_sidecar(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "made.sif"
    assert main(["container", "convert", str(image), str(target)]) == 0
    assert f"Bootstrap: docker-archive\nFrom: {image}" in target.read_text()
    assert "    hpcstate.source image.tar\n" in target.read_text()
    manifest = Manifest.read(tmp_path / "made.sif.json")
    assert manifest is not None and manifest.size == target.stat().st_size
    assert manifest.versions["apptainer"] == "1.4.5"
    assert manifest.versions["archive:image.tar"].startswith("sha256:")
    assert f"sha256 {manifest.digest}" in capsys.readouterr().out
    assert not list(tmp_path.glob(".made.sif.*"))


def test_an_earlier_file_is_replaced_only_on_demand_and_only_by_a_whole_one(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "made.sif"
    target.write_text("earlier")
    assert main(["container", "convert", str(image), str(target)]) == 2
    assert "--force replaces it" in capsys.readouterr().err

    def fails(definition: str, source: object, made: Path, work: Path, toolbox: object, **_: object) -> None:
        made.write_text("half")
        raise HpcstateError("apptainer build exited with 255:\n    manifest unknown")

    with monkeypatch.context() as patch:
        patch.setattr(container_build, "write", fails)
        assert main(["container", "convert", str(image), str(target), "--force"]) == 2
    assert "manifest unknown" in capsys.readouterr().err
    assert target.read_text() == "earlier"
    assert not list(tmp_path.glob(".made.sif.*"))
    assert main(["container", "convert", str(image), str(target), "--force"]) == 0
    assert target.read_text().startswith("Bootstrap")


def test_the_same_archive_elsewhere_gives_the_same_labels(image: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    copy = tmp_path / "other/image.tar"
    copy.write_bytes(image.read_bytes())
    for file, target in ((image, "one.sif"), (copy, "two.sif")):
        container_convert.convert(str(file), tmp_path / target, TOOLBOX, lambda _: None)
    first, second = ((tmp_path / name).read_text().partition("%labels")[2] for name in ("one.sif", "two.sif"))
    assert first and first == second


@pytest.mark.parametrize(
    ("target", "said"),
    [("made.tar", "ends in .sif"), ("none/made.sif", "no such folder"), ("folder.sif", "this is a folder")],
)
def test_what_cannot_be_written_is_said_first(tmp_path: Path, target: str, said: str) -> None:
    (tmp_path / "folder.sif").mkdir()
    with pytest.raises(HpcstateError, match=said):
        container_convert.refuse(tmp_path / target, True)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("demo:1", "does not say where the image is"),
        ("docker://", "does not say where the image is"),
        ("missing.tar", "no such file"),
        ("/none/missing", "no such file"),
        ("docker-archive:/none/missing.tar", "/none/missing.tar: there is no such file$"),
    ],
)
def test_a_source_that_names_nothing(image: Path, tmp_path: Path, address: str, said: str) -> None:
    with pytest.raises(HpcstateError, match=said):
        container_convert.find(address, tmp_path, TOOLBOX, lambda _: None)


def test_a_tar_that_is_another_kind_or_no_image(image: Path, tmp_path: Path) -> None:
    plain = archive(tmp_path / "plain.tar", {"etc/passwd": "root"})
    with pytest.raises(HpcstateError, match="no archive of an image"):
        container_convert.find(str(plain), tmp_path, TOOLBOX, lambda _: None)
    with pytest.raises(HpcstateError, match="this is no oci-archive"):
        container_convert.find(f"oci-archive:{image}", tmp_path, TOOLBOX, lambda _: None)


def test_an_image_of_dockers_engine_is_saved_first(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(engine: container_engine.Engine, tag: str, file: Path, report: object) -> None:
        assert (engine.name, tag) == ("docker", "demo:1")
        file.write_bytes(image.read_bytes())

    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.setattr(container_engine, "docker_version", lambda: "27.1")
    monkeypatch.setattr(container_engine, "identity", lambda engine, name: "sha256:1")
    monkeypatch.setattr(container_engine, "save", save)
    found = container_convert.find("docker-daemon:demo:1", work, TOOLBOX, lambda _: None)
    assert found.definition == f"Bootstrap: docker-archive\nFrom: {work}/image.tar\n"
    assert found.versions == {"docker": "27.1", "image:demo:1": "sha256:1"}
    monkeypatch.setattr(container_engine, "docker_version", lambda: "")
    with pytest.raises(HpcstateError, match="no Docker engine answers") as raised:
        container_convert.find("docker-daemon:demo:1", work, TOOLBOX, lambda _: None)
    assert "docker save" in raised.value.hint


@pytest.mark.parametrize("address", ["nothing:x", "missing.tar", "oci-archive:/none/missing.tar"])
def test_what_is_not_there_is_said_before_the_tools_are_made(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tools_root, "toolbox", lambda _store: pytest.fail("the tools were made"))
    assert main(["container", "convert", address, str(tmp_path / "made.sif")]) == 2
    said = capsys.readouterr().err
    assert "does not say where the image is" in said or "there is no such file" in said
