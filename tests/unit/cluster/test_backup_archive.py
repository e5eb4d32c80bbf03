"""The archive of a backup: what was written is read again, what was changed is not."""

from __future__ import annotations

import errno
import json
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcstate.cluster import backup_archive
from hpcstate.cluster.backup_archive import (
    FORMAT,
    MANIFEST,
    BackupManifest,
    Lock,
    chunks,
    new_archive,
    parse_manifest,
    read,
)
from hpcstate.errors import HpcstateError

BIG = bytes(range(256)) * 1000
NAME = "lab-2026-11-27T165200.tar"
gpg = pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")


def manifest(parts: tuple[backup_archive.Part, ...] = (), version: int = FORMAT) -> BackupManifest:
    """That of a small cluster."""
    return BackupManifest(
        format=version,
        cluster="lab",
        owner="0123",
        hpcstate="2078736",
        taken="2026-11-27T16:52:00+00:00",
        taken_s=1795798320,
        slurm="24.11.5",
        mariadb="11.8.3",
        next_job=8,
        recorded=7,
        associations=3,
        jobs={"PENDING": 1},
        parts=parts,
    )


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup_archive, "PIECE", 100_000)


def written(path: Path, lock: Lock | None = None) -> Path:
    with new_archive(path, lock or Lock()) as archive:
        archive.add("state.tar.zst", "Slurm's state", [b"", BIG[:77], BIG[77:]], lambda: 1.23)
        archive.add("catalog.yaml", "the catalog", [], lambda: 0.0)
        archive.finish(manifest(tuple(archive.parts)))
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a" / NAME)
    found = read(path)
    assert found == manifest(found.parts)
    assert [(part.name, part.size, part.seconds) for part in found.parts] == [
        ("state.tar.zst", 256_000, 1.2),
        ("catalog.yaml", 0, 0.0),
    ]
    assert b"".join(chunks(path, "state.tar.zst")) == BIG
    assert b"".join(chunks(path, "nothing")) == b""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with tarfile.open(path) as tar:
        assert tar.getnames() == [
            *(f"state.tar.zst.{number:06}" for number in range(3)),
            "catalog.yaml.000000",
            MANIFEST,
        ]


def test_an_interrupted_one_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / f".{NAME.replace('16', '15')}.partial").touch()
    (tmp_path / ".lab-2-2026-11-27T165200.tar.partial").touch()
    with pytest.raises(KeyboardInterrupt), new_archive(tmp_path / NAME, Lock()) as archive:
        archive.add("state.tar.zst", "", [BIG], lambda: 0)
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == [".lab-2-2026-11-27T165200.tar.partial"]


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    def full() -> Iterator[bytes]:
        yield BIG
        raise OSError(errno.ENOSPC, "No space left on device")

    with (
        pytest.raises(HpcstateError, match="No space left on device") as caught,
        new_archive(tmp_path / NAME, Lock()) as archive,
    ):
        archive.add("state.tar.zst", "", full(), lambda: 0)
    assert caught.value.where == str(tmp_path / NAME)
    assert list(tmp_path.iterdir()) == []


def test_what_was_changed_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / NAME)
    sound = path.read_bytes()
    at = sound.index(BIG[:5000])
    path.write_bytes(sound[: at + 3000] + b"!" + sound[at + 3001 :])
    with pytest.raises(HpcstateError, match=r"not as it was written: state\.tar\.zst"):
        read(path)
    path.write_bytes(sound[: len(sound) // 2])
    with pytest.raises(HpcstateError, match="cut off"):
        read(path)
    path.write_bytes(b"no tar at all")
    with pytest.raises(HpcstateError, match="no backup"):
        read(path)
    with pytest.raises(HpcstateError, match="No such file"):
        read(tmp_path / "nothing.tar")


def test_without_a_manifest_it_is_none(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / NAME, "w") as tar:
        tar.addfile(tarfile.TarInfo("state.tar.000000"))
    with pytest.raises(HpcstateError, match=r"has no manifest\.json"):
        read(tmp_path / NAME)
    with tarfile.open(tmp_path / NAME, "w") as tar:
        tar.addfile(tarfile.TarInfo("README"))
    with pytest.raises(HpcstateError, match="'README' is no part"):
        read(tmp_path / NAME)


def test_a_manifest_of_later() -> None:
    from dataclasses import asdict

    known = asdict(manifest())
    assert parse_manifest(json.dumps(known)) == manifest()
    with pytest.raises(HpcstateError, match=f"has format 2; this hpcstate knows {FORMAT}"):
        parse_manifest(json.dumps({**known, "format": 2, "new": True}))
    for wrong in ({}, {**known, "parts": [{"size": 1}]}, {**known, "strange": 1}):
        with pytest.raises(HpcstateError, match="cannot be read"):
            parse_manifest(json.dumps(wrong))


@gpg
def test_with_a_passphrase(tmp_path: Path) -> None:
    (tmp_path / "phrase").write_text("correct horse\n")
    path = written(tmp_path / "a" / f"{NAME}.gpg", Lock(passphrase=tmp_path / "phrase"))
    assert b"catalog" not in path.read_bytes()
    assert read(path, tmp_path / "phrase").cluster == "lab"
    assert b"".join(chunks(path, "state.tar.zst", tmp_path / "phrase")) == BIG
    (tmp_path / "other").write_text("wrong\n")
    with pytest.raises(HpcstateError, match="decryption failed") as caught:
        read(path, tmp_path / "other")
    assert "--passphrase-file" in caught.value.hint
    path.write_bytes(path.read_bytes()[:-40_000])
    with pytest.raises(HpcstateError):
        read(path, tmp_path / "phrase")


@gpg
def test_to_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("GNUPGHOME", str(home))
    make = ["gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", "somebody", "default"]
    subprocess.run([*make, "default", "never"], check=True, capture_output=True)
    try:
        public = subprocess.run(["gpg", "--export", "--armor"], check=True, capture_output=True).stdout
        (tmp_path / "key.asc").write_bytes(public)
        path = written(tmp_path / "a" / f"{NAME}.gpg", Lock(recipient=tmp_path / "key.asc"))
        assert read(path).cluster == "lab"
    finally:
        subprocess.run(["gpgconf", "--kill", "gpg-agent"], check=False)
    (tmp_path / "key.asc").write_text("no key")
    with pytest.raises(HpcstateError, match="gpg exited with"):
        written(tmp_path / "b" / f"{NAME}.gpg", Lock(recipient=tmp_path / "key.asc"))
    assert list((tmp_path / "b").iterdir()) == []
