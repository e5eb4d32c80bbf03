"""Files out of packages of npm, from a registry that is a folder here."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate.errors import HpcstateError
from hpcstate.host import npm
from hpcstate.monitoring import page

TEXTS = {"dist/a.js": "var a = 1;\n", "LICENSE": "MIT\n"}


@pytest.fixture
def registry(tmp_path: Path) -> tuple[dict[str, str], npm.NpmPackage]:
    """The environment that names a registry, and a package in it."""
    file = tmp_path / "registry/greet/-/greet-1.0.0.tgz"
    file.parent.mkdir(parents=True)
    with tarfile.open(file, "w:gz") as archive:
        for name, text in TEXTS.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
        archive.addfile(tarfile.TarInfo("package/image.png"), io.BytesIO(b""))
        entry = tarfile.TarInfo("package/link.js")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    package = npm.NpmPackage(
        name="greet",
        why="greets",
        version="1.0.0",
        tarball="greet/-/greet-1.0.0.tgz",
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        licence="MIT",
    )
    return {"npm_config_registry": f"file://{tmp_path}/registry/"}, package


def test_its_files_are_read_and_it_is_fetched_once(
    registry: tuple[dict[str, str], npm.NpmPackage], tmp_path: Path
) -> None:
    environ, package = registry
    tools = tmp_path / "tools"
    assert npm.texts(package, tuple(TEXTS), tools=tools, environ=environ) == TEXTS
    (tmp_path / "registry/greet/-/greet-1.0.0.tgz").unlink()
    assert npm.texts(package, ("LICENSE",), tools=tools, environ=environ) == {"LICENSE": "MIT\n"}
    assert [path.name for path in tools.iterdir() if path.suffix == ".tgz"] == ["greet-1.0.0.tgz"]


def test_a_file_that_was_changed_is_fetched_again(
    registry: tuple[dict[str, str], npm.NpmPackage], tmp_path: Path
) -> None:
    environ, package = registry
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "greet-1.0.0.tgz").write_bytes(b"something else")
    assert npm.texts(package, ("LICENSE",), tools=tools, environ=environ) == {"LICENSE": "MIT\n"}


def test_another_file_than_the_pinned_one_is_not_kept(
    registry: tuple[dict[str, str], npm.NpmPackage], tmp_path: Path
) -> None:
    environ, package = registry
    with pytest.raises(HpcstateError, match="another file") as caught:
        npm.texts(replace(package, sha256="0" * 64), ("LICENSE",), tools=tmp_path / "t", environ=environ)
    assert caught.value.where == "tools.toml: npm.greet"
    assert not (tmp_path / "t/greet-1.0.0.tgz").exists()


def test_a_registry_that_is_not_there_is_said_with_the_next_step(
    registry: tuple[dict[str, str], npm.NpmPackage], tmp_path: Path
) -> None:
    _, package = registry
    gone = {"npm_config_registry": f"file://{tmp_path}/nowhere"}
    with pytest.raises(HpcstateError, match="could not be fetched") as caught:
        npm.texts(package, ("LICENSE",), tools=tmp_path / "t", environ=gone)
    assert "npm_config_registry" in caught.value.hint and str(tmp_path / "t") in caught.value.hint


@pytest.mark.parametrize("name", ["dist/b.js", "link.js"])
def test_a_file_that_it_has_not_is_said(
    registry: tuple[dict[str, str], npm.NpmPackage], tmp_path: Path, name: str
) -> None:
    environ, package = registry
    with pytest.raises(HpcstateError, match="not as expected"):
        npm.texts(package, (name,), tools=tmp_path / "t", environ=environ)


def test_what_is_pinned_is_a_version_and_a_reason() -> None:
    found = npm.load()
    assert page.LIBRARY in found
    for package in found.values():
        assert package.version in package.tarball and package.why and package.licence
        assert len(package.sha256) == 64


@pytest.mark.parametrize("text", ["", "[npm.a]\nwhy = 'x'\n", "npm = ["])
def test_a_file_of_another_shape_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "tools.toml").write_text(text)
    with pytest.raises(HpcstateError, match="not as expected"):
        npm.load(tmp_path / "tools.toml")
