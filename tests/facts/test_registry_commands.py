"""Runs the registry's command for real, on trees made here."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from hpcstate.probe import registry
from tests.facts.machine import AWKWARD, programs

TOOLS = ("awk", "find", "sed", "sha256sum", "sh", "uname")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder with nothing but the programs that the command uses."""
    return programs(tmp_path / "tools", TOOLS)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A registry whose name needs quoting, with a container, its link, a stranger and texts."""
    root = tmp_path / AWKWARD
    (root / "base-images").mkdir(parents=True)
    (root / ".registry/incoming").mkdir(parents=True)
    (root / "base-images" / f"{AWKWARD}.sif").write_bytes(b"one")
    (root / "base-images/two.sif").write_bytes(b"two")
    (root / "base-images/link.sif").symlink_to("two.sif")
    (root / "base-images/bad\nname.sif").write_bytes(b"bad")
    (root / "base-images/notes.txt").write_text("x")
    (root / "base-images/folder.sif").mkdir()
    (root / ".registry/incoming/part.sif").write_bytes(b"1234")
    (root / ".registry/catalog.yaml").write_text("a: 1\n\nb: 2\n")
    return root


def look(root: Path, tools: Path, *, rehash: bool = False) -> registry.RegistryState:
    done = subprocess.run(
        ["/bin/sh", "-c", registry.command(str(root), rehash=rehash)],
        env={"PATH": str(tools)},
        cwd=tools.parent,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert not list(tools.parent.rglob("pwned"))
    return registry.parse(done.stdout.decode())


def record(root: Path, path: str, digest: str) -> None:
    """Record ``digest`` for a file, with the times that it has, as a deploy does."""
    found = subprocess.run(
        ["find", path, "-printf", "%s %i %T@ %p"], cwd=root, capture_output=True, text=True, check=True
    )
    with (root / ".registry/digests").open("a") as stream:
        stream.write(f"{digest} {found.stdout}\n")


def test_what_lies_there(root: Path, tools: Path) -> None:
    state = look(root, tools)
    assert state["node"] == os.uname().nodename.partition(".")[0]
    assert set(state["folders"]) == {"", "base-images", ".registry", ".registry/incoming"}
    digests = {path: (file["sha256"], file["size"], file["hashed"]) for path, file in state["files"].items()}
    assert digests == {
        f"base-images/{name}.sif": (hashlib.sha256(content).hexdigest(), 3, True)
        for name, content in ((AWKWARD, b"one"), ("two", b"two"))
    }
    assert state["links"] == {"base-images/link.sif": "two.sif"}
    assert sorted(state["others"]) == ["base-images/?", "base-images/folder.sif", "base-images/notes.txt"]
    assert state["incoming"] == {"part.sif": 4}
    assert (state["catalog"], state["config"]) == ("a: 1\n\nb: 2\n", "")


@pytest.mark.parametrize("name", ["two", AWKWARD])
def test_a_record_is_taken_until_the_file_changes(root: Path, tools: Path, name: str) -> None:
    path = f"base-images/{name}.sif"
    record(root, path, "f" * 64)
    assert look(root, tools)["files"][path] | {"mode": "", "owner": ""} == {
        "mode": "", "owner": "", "size": 3, "sha256": "f" * 64, "hashed": False,
    }  # fmt: skip
    assert look(root, tools, rehash=True)["files"][path]["hashed"]
    before = (root / path).stat()
    (root / path).write_bytes(b"new")
    os.utime(root / path, ns=(before.st_atime_ns, before.st_mtime_ns + 1000))
    changed = look(root, tools)["files"][path]
    assert (changed["hashed"], changed["sha256"]) == (True, hashlib.sha256(b"new").hexdigest())


def test_nothing_is_there(tmp_path: Path, tools: Path) -> None:
    assert look(tmp_path / "none", tools) == registry.parse("")
    (tmp_path / "empty").mkdir()
    assert set(look(tmp_path / "empty", tools)["folders"]) == {""}
