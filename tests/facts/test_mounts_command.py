"""mounts.sh for real, on a tree in the place of the kernel's and systemd's files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from hpcstate.model import Mount
from hpcstate.node.data_volume import UNITS
from hpcstate.node.mounts import MARK, units
from hpcstate.probe import mounts
from tests.facts.machine import programs, run, stand_in

TOOLS = ("sh", "sed", "awk", "timeout", "cat", "grep", "head", "cut", "sha256sum")
MADE = units(Mount("nfs", "nas:/x", "/sw/a-b", ""))
MOUNTINFO = """\
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
70 22 0:44 / /data rw,relatime shared:40 - autofs systemd-1 rw,fd=54,direct
71 70 0:61 / /data ro,nosuid,nodev,relatime shared:41 master:2 - nfs4 nas:/data ro,vers=4.2
72 22 0:45 / /sw/a-b rw,relatime shared:42 - autofs systemd-1 rw
73 22 254:1 /x /data/other rw,relatime - ext4 /dev/vda1 rw
"""


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    folder = programs(tmp_path / "tools", TOOLS)
    shown = "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nId=data.automount"
    stand_in(folder, "systemctl", f"cat <<'END'\n{shown}\nEND\n")
    return folder


def test_units_of_ours_and_what_is_mounted(tools: Path, tmp_path: Path) -> None:
    folder = tmp_path / UNITS.lstrip("/")
    folder.mkdir(parents=True)
    for path, text in MADE.files.items():
        (folder / Path(path).name).write_text(text)
    (folder / "other.mount").write_text("[Mount]\nWhere=/other\n")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(MOUNTINFO)
    question = mounts.command(("/data",), ("data.automount",), MARK, UNITS, str(tmp_path))
    found = mounts.parse(run(question, tools, tmp_path))
    digest = hashlib.sha256(MADE.mount.encode()).hexdigest()
    assert found["files"][r"sw-a\x2db.mount"] == {"sha256": digest, "place": "/sw/a-b"}
    assert set(found["files"]) == {r"sw-a\x2db.mount", r"sw-a\x2db.automount"}
    assert found["units"]["data.automount"]["enabled"] == "enabled"
    assert [mount["type"] for mount in found["mounts"]["/data"]] == ["autofs", "nfs4"]
    assert "ro" in found["mounts"]["/data"][1]["options"]
    assert set(found["mounts"]) == {"/data", "/sw/a-b"}


def test_a_node_with_nothing_of_it(tools: Path, tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(MOUNTINFO)
    assert mounts.parse(
        run(mounts.command((), (), MARK, UNITS, str(tmp_path)), tools, tmp_path)
    ) == mounts.parse("")
