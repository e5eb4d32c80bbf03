"""SIF files: what the header says, what is refused, two builds of one content that become the same bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcstate.container import sif
from hpcstate.errors import HpcstateError
from tests.unit.sif_files import write_sif

EPOCH = 1735689600


def test_the_header_says_what_is_in_the_file(tmp_path: Path) -> None:
    header = sif.read(write_sif(tmp_path / "a.sif", b"x" * 100))
    assert [entry.kind for entry in header.objects] == ["definition", "partition", "signature"]
    assert (header.version, header.architecture, header.signed) == ("01", "amd64", True)
    assert header.objects[1].size == 100
    assert header.size == (tmp_path / "a.sif").stat().st_size
    assert not sif.read(write_sif(tmp_path / "b.sif", signed=False)).signed


def test_two_builds_become_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = []
    for number in (1, 2):
        monkeypatch.setattr("time.time", lambda number=number: 1_000_000_000.0 + number)
        files.append(write_sif(tmp_path / f"{number}.sif", uuid=bytes([number]) * 16))
    assert files[0].read_bytes() != files[1].read_bytes()
    for path in files:
        before = sif.read(path)
        sif.normalise(path, bytes(16), EPOCH)
        assert sif.read(path) == before
    assert files[0].read_bytes() == files[1].read_bytes()


def test_normalising_leaves_the_content(tmp_path: Path) -> None:
    path = write_sif(tmp_path / "a.sif", b"content")
    at = sif.read(path).objects[1]
    sif.normalise(path, bytes(16), EPOCH)
    assert path.read_bytes()[at.offset : at.offset + at.size] == b"content"


def test_the_image_before_the_last_step_is_forgotten(tmp_path: Path) -> None:
    """As Docker 26.1.5 without BuildKit and Apptainer 1.4.5 wrote it."""
    before = b'{"Cmd":["echo hello"],"Image":"sha256:' + b"429e53ff" * 8 + b'","Env":["PATH=/bin"]}'
    elsewhere = b"squashfs " + before
    path = write_sif(tmp_path / "a.sif", elsewhere, json=before)
    header = sif.read(path)
    sif.forget_parents(path)
    assert sif.read(path) == header
    _, at, tree, _ = header.objects
    content = path.read_bytes()
    after = json.loads(content[at.offset : at.offset + at.size])
    assert after == {"Cmd": ["echo hello"], "Image": "", "Env": ["PATH=/bin"]}
    assert content[tree.offset : tree.offset + tree.size] == elsewhere


def truncated(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


DAMAGES: list[tuple[str, Callable[[Path], object], str]] = [
    ("empty", lambda path: truncated(path, 0), "no SIF file"),
    ("another file", lambda path: path.write_bytes(b"\x7fELF" * 2000), "no SIF file"),
    ("cut in the header", lambda path: truncated(path, 100), "no SIF file"),
    ("cut in the descriptors", lambda path: truncated(path, 5000), "ends within its header"),
    ("cut in the data", lambda path: truncated(path, path.stat().st_size - 1), "its objects need"),
    ("a wild count", lambda path: path.write_bytes(path.read_bytes()[:88] + b"\x7f" * 100), "descriptors"),
]


@pytest.mark.parametrize(("damage", "said"), [row[1:] for row in DAMAGES], ids=[row[0] for row in DAMAGES])
def test_what_is_no_whole_sif_file_is_refused(
    tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    path = write_sif(tmp_path / "a.sif")
    damage(path)
    for question in (sif.read, lambda path: sif.normalise(path, bytes(16), EPOCH)):
        with pytest.raises(HpcstateError, match=said) as error:
            question(path)
        assert error.value.where == str(path)


def test_a_missing_file_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(HpcstateError, match="No such file"):
        sif.read(tmp_path / "none.sif")


def test_how_the_image_runs_that_it_was_made_of(tmp_path: Path) -> None:
    made = write_sif(tmp_path / "a.sif", json=b'{"Env": ["A=b c"], "Cmd": ["sh"]}')
    assert sif.image_config(made) == {"Env": ["A=b c"], "Cmd": ["sh"]}
    assert sif.image_config(write_sif(tmp_path / "b.sif")) == {}
