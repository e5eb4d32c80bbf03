"""Trees of files of many users: removed by whoever made them, and never what is mounted in them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hpcstate import files as trees
from hpcstate import paths
from hpcstate.artifact.recipe import clean_work
from hpcstate.errors import HpcstateError, from_os

_IN_A_NAMESPACE = f"""
import sys
sys.path.insert(0, {str(paths.ROOT)!r})
from pathlib import Path
from hpcstate import files as trees
from hpcstate.errors import HpcstateError
try:
    trees.remove_tree(Path(sys.argv[1]))
except HpcstateError as error:
    print(error)
"""


def test_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    trees.remove_tree(tmp_path / "none")


@pytest.mark.parametrize("name", ["plain", "with a blank\\"])
def test_a_mount_below_is_never_emptied(tmp_path: Path, name: str) -> None:
    """In a mount namespace of its own, so that nothing stays mounted here."""
    kept, root = tmp_path / "kept", tmp_path / name
    (root / "mnt").mkdir(parents=True)
    kept.mkdir()
    (kept / "file").write_text("precious")
    script = 'mount --bind "$1" "$2/mnt" && exec "$3" -c "$4" "$2"'
    words = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh"]
    words += [str(kept), str(root), sys.executable, _IN_A_NAMESPACE]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "something is still mounted below this folder" in done.stdout
    assert "umount -R" in done.stdout
    assert (kept / "file").read_text() == "precious"
    trees.remove_tree(root)
    assert not root.exists()


def test_an_ordinary_user_removes_what_belongs_to_subordinate_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str | Path]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)  # it may not
    monkeypatch.setattr(trees, "run", lambda words, **kwargs: calls.append(words))
    trees.remove_tree(tmp_path)
    assert calls == [
        ["unshare", "--user", "--map-root-user", "--map-auto", "rm", "-rf", tmp_path],
    ]


def test_the_rest_of_an_interrupted_build_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = tmp_path / ".work.abc" / "tree" / "etc"
    left.mkdir(parents=True)
    (left / "passwd").touch()
    (tmp_path / "one.sif").touch()
    clean_work(tmp_path / "one.sif")
    assert [path.name for path in tmp_path.iterdir()] == ["one.sif"]
    (tmp_path / ".work.def").mkdir()
    monkeypatch.setattr(trees, "mounted_below", lambda root: True)
    with pytest.raises(HpcstateError, match="still mounted"):
        clean_work(tmp_path / "one.sif")
    assert (tmp_path / ".work.def").is_dir()


@pytest.mark.parametrize("content", ["text\n", b"\x00\xff"])
def test_a_file_is_written_in_one_step_with_its_mode(tmp_path: Path, content: str | bytes) -> None:
    file = tmp_path / "new" / "file"
    trees.write_atomically(file, content, mode=0o600)
    assert file.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["file"]


def test_a_full_place_for_temporary_files_has_a_next_step() -> None:
    """What tempfile raises has errno ENOENT and no path."""
    error = from_os(FileNotFoundError(2, "No usable temporary directory found in ['/tmp', '/var/tmp']"))
    assert "`df /tmp`" in error.hint
