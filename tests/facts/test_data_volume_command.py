"""data_volume.sh for real, on files in the place of disks; what only disks have is a stand-in."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from hpcstate.probe import data_volume
from tests.facts.machine import programs, run, stand_in

TOOLS = ("sh", "head", "tail", "tr", "wc", "cut", "sha256sum", "readlink", "blkid", "dumpe2fs", "mkfs.ext4")


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", "/usr/sbin:/sbin", prepend=":")
    folder = programs(tmp_path / "tools", TOOLS)
    stand_in(folder, "blockdev", "echo 67108864")
    stand_in(folder, "findmnt", 'case $* in */srv/hpcstate) echo "/dev/vdc" ;; *) exit 1 ;; esac')
    return folder


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    with path.open("wb") as stream:
        stream.truncate(64 << 20)
    return path


def ask(disk: Path, tools: Path) -> data_volume.DataVolumeState:
    units = disk.parent / "units"
    (units / "local-fs.target.wants").mkdir(parents=True, exist_ok=True)
    question = data_volume.command(["/srv/hpcstate", "/opt/containers"], str(disk), str(units))
    return data_volume.parse(run(question, tools, disk.parent))


def test_no_disk_and_nothing_of_ours(tools: Path, tmp_path: Path) -> None:
    found = ask(tmp_path / "none", tools)
    assert found == {**data_volume.parse(""), "mounts": {"/srv/hpcstate": "/dev/vdc"}}


def test_a_blank_disk_has_no_content(tools: Path, disk: Path) -> None:
    found = ask(disk, tools)
    assert (found["device_bytes"], found["device"], found["content"]) == (64 << 20, str(disk), "")


def test_bytes_without_a_name_are_a_content(tools: Path, disk: Path) -> None:
    with disk.open("r+b") as stream:
        stream.seek(4096)
        stream.write(b"somebody's")
    assert ask(disk, tools)["content"] == "unknown"


def test_a_file_system_and_its_units(tools: Path, disk: Path) -> None:
    subprocess.run([tools / "mkfs.ext4", "-q", "-F", "-L", "hpcstate-data", disk], check=True)
    units = disk.parent / "units"
    (units / "local-fs.target.wants").mkdir(parents=True)
    (units / "srv-hpcstate.mount").write_text("[Mount]\n")
    (units / "local-fs.target.wants/srv-hpcstate.mount").symlink_to(units / "srv-hpcstate.mount")
    found = ask(disk, tools)
    assert (found["content"], found["filesystem_bytes"]) == ("ext4 hpcstate-data", 64 << 20)
    assert found["units"] == {"srv-hpcstate.mount": hashlib.sha256(b"[Mount]\n").hexdigest()}
    assert found["enabled"] == ["srv-hpcstate.mount"]
