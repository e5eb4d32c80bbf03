"""Archives of images: which kind, which image, and how it runs."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from hpcstate.container import archive
from hpcstate.container.archive import ImageConfig
from hpcstate.errors import HpcstateError

CONFIG = {"config": {"Entrypoint": ["/bin/greet"], "Cmd": ["a b", "$HOME"], "WorkingDir": "/srv/x y"}}
EXPECTED = ImageConfig(("/bin/greet",), ("a b", "$HOME"), "/srv/x y")
DOCKER = {"manifest.json": [{"Config": "c.json", "RepoTags": ["demo:1"]}], "c.json": CONFIG}
REFERENCE = "org.opencontainers.image.ref.name"


def blob(name: str) -> str:
    return f"blobs/sha256/{name}"


OCI = {
    "oci-layout": {"imageLayoutVersion": "1.0.0"},
    "index.json": {"manifests": [{"digest": "sha256:m", "annotations": {REFERENCE: "x"}}]},
    blob("m"): {"config": {"digest": "sha256:c"}},
    blob("c"): CONFIG,
}


def written(path: Path, content: dict[str, Any], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, value in content.items():
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
@pytest.mark.parametrize(
    ("content", "kind"),
    [(DOCKER, "docker-archive"), (OCI, "oci-archive"), ({**OCI, **DOCKER}, "docker-archive")],
    ids=["docker", "oci", "both"],
)
def test_kind_and_config(tmp_path: Path, content: dict[str, Any], kind: str, mode: str) -> None:
    file = written(tmp_path / "image.tar", content, mode)
    assert archive.kind(file) == kind
    assert archive.of_one_image(file, "", tmp_path) == file
    assert archive.config(file) == EXPECTED


def test_a_folder_of_oci_and_an_archive_by_zstd(tmp_path: Path) -> None:
    folder = tmp_path / "image"
    for name, content in OCI.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    assert archive.config(folder) == EXPECTED
    packed = archive.packed(folder, tmp_path)
    assert archive.kind(packed) == "oci-archive" and archive.config(packed) == EXPECTED
    # Apptainer 1.4.5 makes no folders on its own when it unpacks.
    with tarfile.open(packed) as tar:
        assert {"blobs", "blobs/sha256"} < set(tar.getnames())
    assert archive.digest(folder) == archive.digest(folder / "index.json")
    with pytest.raises(HpcstateError, match="this folder is no image"):
        archive.packed(tmp_path, tmp_path)
    plain = written(tmp_path / "plain.tar", {**DOCKER, "layer": b"x" * 300_000})
    subprocess.run(["zstd", "-q", plain, "-o", tmp_path / "image.tar.zst"], check=True)
    file = tmp_path / "image.tar.zst"
    assert archive.kind(file) == "docker-archive" and archive.config(file) == EXPECTED
    assert archive.uncompressed(file, tmp_path).read_bytes() == plain.read_bytes()
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(HpcstateError, match="zstd"):
        archive.uncompressed(file, tmp_path)


def test_what_apptainer_cannot_read_is_made_readable(tmp_path: Path) -> None:
    file = written(tmp_path / "image.tar.gz", OCI, "w:gz")
    made = archive.readable(file, "x", tmp_path)
    with tarfile.open(made, "r:") as tar:
        names = tar.getnames()
    assert names.index("blobs/sha256") < names.index(blob("m"))
    assert archive.readable(made, "", tmp_path) == made


def test_one_of_two_images_of_docker_25_is_not_read_as_oci(tmp_path: Path) -> None:
    two = [{"Config": "c.json", "RepoTags": ["a:1"]}, {"Config": "c.json", "RepoTags": ["b:2"]}]
    file = written(tmp_path / "image.tar", {**OCI, **DOCKER, "manifest.json": two})
    made = archive.readable(file, "b:2", tmp_path)
    assert archive.has_layout(file) and not archive.has_layout(made)
    assert archive.config(made, "b:2") == EXPECTED


@pytest.mark.parametrize("content", [DOCKER, OCI], ids=["docker", "oci"])
def test_an_image_for_another_machine_is_a_message(tmp_path: Path, content: dict[str, Any]) -> None:
    name = "c.json" if "c.json" in content else blob("c")
    file = written(tmp_path / "arm.tar", {**content, name: {**CONFIG, "architecture": "arm64"}})
    with pytest.raises(HpcstateError, match="its image is for arm64, not for") as refused:
        archive.config(file)
    assert "--platform" in refused.value.hint


def test_an_index_of_several_machines_leads_to_ours(tmp_path: Path) -> None:
    nested = {
        **OCI,
        "index.json": {"manifests": [{"digest": "sha256:i"}]},
        blob("i"): {
            "manifests": [
                {"digest": "sha256:other", "platform": {"architecture": "arm64"}},
                {"digest": "sha256:m", "platform": {"architecture": "amd64"}},
            ]
        },
    }
    assert archive.config(written(tmp_path / "i.tar", nested)) == EXPECTED


def test_an_index_for_other_machines_is_a_message(tmp_path: Path) -> None:
    arm = {"digest": "sha256:arm", "platform": {"architecture": "arm64"}}
    content = {"oci-layout": {}, "index.json": {"manifests": [{"digest": "sha256:i"}]}}
    file = written(tmp_path / "x.tar", {**content, "blobs/sha256/i": {"manifests": [arm]}})
    with pytest.raises(HpcstateError, match="its image is for arm64, not for amd64"):
        archive.config(file)


@pytest.mark.parametrize(
    "content", [{"oci-layout": {}, "index.json": {}}, {"manifest.json": [1]}, {"manifest.json": {"a": 1}}]
)
def test_names_of_what_is_no_image_are_a_message(tmp_path: Path, content: dict[str, Any]) -> None:
    with pytest.raises(HpcstateError, match="does not describe its image"):
        archive.of_one_image(written(tmp_path / "x.tar", content), "", tmp_path)


_TWO_OF_DOCKER = {
    **{name: value for name, value in DOCKER.items() if name != "manifest.json"},
    "other.json": {"config": {}},
    "manifest.json": [
        {"Config": f"{of}.json", "RepoTags": [name]} for of, name in (("other", "a:1"), ("c", "b:2"))
    ],
}
_TWO_OF_OCI = {
    **OCI,
    "index.json": {
        "manifests": [
            {"digest": f"sha256:{of}", "annotations": {REFERENCE: name}}
            for of, name in (("other", "a:1"), ("m", "b:2"))
        ]
    },
    blob("other"): {"config": {"digest": "sha256:none"}},
    blob("none"): {"config": {}},
}


@pytest.mark.parametrize(
    ("content", "of"),
    [(_TWO_OF_DOCKER, "docker-archive"), (_TWO_OF_OCI, "oci-archive")],
    ids=["docker", "oci"],
)
def test_several_images_want_a_name(tmp_path: Path, content: dict[str, Any], of: str) -> None:
    file = written(tmp_path / "two.tar", content)
    with pytest.raises(HpcstateError, match=r"2 images in it: a:1; b:2") as raised:
        archive.of_one_image(file, "", tmp_path)
    assert f"{of}:FILE:NAME" in raised.value.hint
    with pytest.raises(HpcstateError, match="no image called 'c:3'"):
        archive.of_one_image(file, "c:3", tmp_path)
    alone = archive.of_one_image(file, "b:2", tmp_path)
    assert archive.config(alone) == EXPECTED
    assert archive.of_one_image(alone, "", tmp_path) == alone


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"etc/passwd": b"root"}, "no archive of an image"),
        ({"manifest.json": b"{"}, "no JSON"),
        ({"manifest.json": [{"RepoTags": []}]}, "does not describe its image"),
        ({"manifest.json": [{"Config": "gone.json"}]}, "has no gone.json"),
    ],
)
def test_what_is_no_image_is_a_message(tmp_path: Path, content: dict[str, Any], said: str) -> None:
    with pytest.raises(HpcstateError, match=said):
        archive.config(written(tmp_path / "x.tar", content))


def test_a_file_that_is_cut_off_or_no_tar_is_a_message(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole.tar", {"layer.tar": b"x" * 100_000, **DOCKER})
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole.read_bytes()[:50_000])
    (tmp_path / "text.tar").write_text("no tar\n" * 1000, encoding="utf-8")
    for file in (cut, tmp_path / "text.tar"):
        with pytest.raises(HpcstateError, match="no tar archive, or it is cut off"):
            archive.kind(file)
    with pytest.raises(HpcstateError, match="No such file"):
        archive.kind(tmp_path / "missing.tar")


@pytest.mark.parametrize(
    ("config", "arguments", "said"),
    [
        (ImageConfig(("echo", "in:"), ("default words", "$HOME"), ""), (), "in: default words $HOME"),
        (ImageConfig(("echo", "in:"), ("default",), "/"), ("$(id)", "a  b"), "in: $(id) a  b"),
        (ImageConfig(("echo",)), (), ""),
        (ImageConfig((), ("echo", "only command")), (), "only command"),
        (ImageConfig((), ("false",)), ("echo", "instead"), "instead"),
        (ImageConfig(("pwd",), (), "/usr"), (), "/usr"),
    ],
)
def test_the_runscript_does_what_docker_run_does(
    config: ImageConfig, arguments: tuple[str, ...], said: str
) -> None:
    done = subprocess.run(
        ["sh", "-c", config.runscript(), "runscript", *arguments], check=True, capture_output=True, text=True
    )
    assert done.stdout.rstrip("\n") == said


def test_an_image_that_says_nothing_keeps_apptainers_own() -> None:
    assert ImageConfig(folder="/srv").runscript() == ""


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_apptainer_gets_it_without_compression(tmp_path: Path, mode: str) -> None:
    file = written(tmp_path / "image", DOCKER, mode)
    work = tmp_path / "work"
    work.mkdir()
    plain = archive.uncompressed(file, work)
    assert plain == (file if mode == "w" else work / "image.tar")
    with tarfile.open(plain, "r:") as tar:
        assert tar.getnames() == list(DOCKER)
    if mode != "w":
        file.write_bytes(file.read_bytes()[:-20])
        with pytest.raises(HpcstateError, match="cut off or damaged"):
            archive.uncompressed(file, work)
