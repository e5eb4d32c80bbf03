"""Keys that are there are kept: derived, accepted, mended or refused, and never replaced."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcstate import paths, schema
from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster
from hpcstate.node import secrets
from hpcstate.node.secrets import ensure_secrets, new_key
from hpcstate.paths import ClusterPaths


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    return schema.load(paths.ROOT / "inventories" / "gpu.yaml").clusters[0]


def keygen(path: Path, passphrase: str = "") -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", path], check=True)


def test_a_key_is_made_once_and_closed(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "ssh_key"
    first = new_key(path)
    assert new_key(path) == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(file.name for file in path.parent.iterdir()) == ["ssh_key", "ssh_key.pub"]


def test_without_its_public_half_a_private_key_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "ssh_key"
    first = new_key(path)
    private = path.read_bytes()
    path.with_name("ssh_key.pub").unlink()
    assert new_key(path) == first
    assert path.read_bytes() == private
    assert path.with_name("ssh_key.pub").read_text().split()[:2] == first.public.split()


def test_a_public_half_alone_is_refused_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "ssh_key"
    public = path.with_name("ssh_key.pub")
    new_key(path)
    path.unlink()
    before = public.read_bytes()
    with pytest.raises(HpcstateError, match="private key is missing") as caught:
        new_key(path)
    assert "ssh_key.pub" in caught.value.hint
    assert public.read_bytes() == before
    assert not path.exists()
    public.unlink()
    new_key(path)


def test_a_run_killed_as_it_makes_a_key_leaves_what_the_next_one_takes_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ssh_key"

    def killed(*_args: object, **_more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("hpcstate.node.secrets.write_atomically", killed)
        new_key(path)
    private = path.read_bytes()
    new_key(path)
    assert path.read_bytes() == private
    assert path.with_name("ssh_key.pub").is_file()


def test_a_public_half_that_is_no_text_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "ssh_key"
    first = new_key(path)
    path.with_name("ssh_key.pub").write_bytes(b"\xff\xfe\0")
    assert new_key(path) == first
    assert path.with_name("ssh_key.pub").read_text().split()[:2] == first.public.split()


def test_a_public_half_of_another_key_is_mended_from_the_private_one(tmp_path: Path) -> None:
    path = tmp_path / "ssh_key"
    first = new_key(path)
    keygen(tmp_path / "other")
    (tmp_path / "other.pub").replace(path.with_name("ssh_key.pub"))
    assert new_key(path) == first
    assert path.with_name("ssh_key.pub").read_text().split()[:2] == first.public.split()


def test_a_key_of_somebodys_own_is_taken_and_closed(tmp_path: Path) -> None:
    path = tmp_path / "ssh_key"
    keygen(path)
    path.chmod(0o640)
    private = path.read_bytes()
    with_comment = path.with_name("ssh_key.pub").read_text()
    new_key(path)
    assert path.read_bytes() == private
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.with_name("ssh_key.pub").read_text() == with_comment


@pytest.mark.parametrize("broken", ["passphrase", "empty", "cut off", "a link to nowhere"])
def test_a_key_that_cannot_be_used_is_refused_and_stays(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "ssh_key"
    if broken == "passphrase":
        keygen(path, "secret words")
    elif broken == "a link to nowhere":
        path.symlink_to(tmp_path / "gone")
    else:
        new_key(path)
        path.write_bytes(path.read_bytes()[: 0 if broken == "empty" else 90])
    before = b"" if path.is_symlink() else path.read_bytes()
    with pytest.raises(HpcstateError) as caught:
        new_key(path)
    assert caught.value.where == str(path)
    assert "back" in caught.value.hint
    assert path.is_symlink() or path.read_bytes() == before


@pytest.mark.parametrize("size", [32, 128, 1023, 1024])
def test_a_valid_munge_key_is_kept(cluster: Cluster, size: int) -> None:
    at = ClusterPaths.of(cluster.name)
    at.secrets.mkdir(parents=True)
    at.munge_key.write_bytes(b"k" * size)
    at.munge_key.chmod(0o644)
    ensure_secrets(cluster)
    assert at.munge_key.read_bytes() == b"k" * size
    assert at.munge_key.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("size", [0, 5, 31, 1025])
def test_a_munge_key_that_munged_would_not_take_is_refused_and_stays(cluster: Cluster, size: int) -> None:
    at = ClusterPaths.of(cluster.name)
    at.secrets.mkdir(parents=True)
    at.munge_key.write_bytes(b"k" * size)
    with pytest.raises(HpcstateError, match=f"has {size} bytes") as caught:
        ensure_secrets(cluster)
    assert caught.value.where == str(at.munge_key)
    assert at.munge_key.read_bytes() == b"k" * size


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_no_key(
    cluster: Cluster, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of tmpfs, XFS or btrfs has some dozens of bytes; ssh-keygen waits for a pipe."""
    monkeypatch.setattr(secrets, "MUNGE_KEY_BYTES", 1 << 20)  # a folder of ext4 has 4096
    monkeypatch.setattr(secrets, "MUNGE_KEY_LEAST", 0)
    at = ClusterPaths.of(cluster.name)
    at.secrets.mkdir(parents=True)
    for path in (at.ssh_key, at.munge_key):
        make(path)
        with pytest.raises(HpcstateError, match="no file") as caught:
            ensure_secrets(cluster)
        assert caught.value.where == str(path)
        path.rename(path.with_name(f"{path.name}.away"))


def test_an_open_folder_is_closed(cluster: Cluster) -> None:
    at = ClusterPaths.of(cluster.name)
    at.secrets.mkdir(parents=True, mode=0o755)
    ensure_secrets(cluster)
    assert at.secrets.stat().st_mode & 0o777 == 0o700
