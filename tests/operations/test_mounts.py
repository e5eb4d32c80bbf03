"""Mounts of a node: set up, changed, removed, left alone; and the program that does it."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hpcstate import programs
from hpcstate.model import Mount
from hpcstate.node.mounts import MARK, MountUnits, units
from operations import mounts
from operations.data_volume import IDLE
from operations.homes import NFS
from operations.util import commands
from tests.operations.harness import Outcome, run

FACT = "facts.mounts.Mounts"
DATA = units(Mount("nfs", "nas:/export", "/data", ""))
TOOLS = units(Mount("nfs", "nas:/tools", "/sw/a-b", "", read_only=True))
FOLDER = units(Mount("virtio_fs", "/data/shared", "/shared", "share"))
AUTOFS = {"type": "autofs", "source": "systemd-1", "options": ["rw"]}
ON = {"load": "loaded", "active": "active", "enabled": "enabled"}


def there(*wanted: MountUnits, mounted: bool = True, **units_of: dict[str, str]) -> dict[str, Any]:
    """A node that has ``wanted``; ``units_of`` is the state of their automounts."""
    files, states, at = {}, {}, {}
    for mount in wanted:
        texts = {mount.mount_name: mount.mount, mount.automount_name: mount.automount}
        for name, text in texts.items():
            files[name] = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "place": mount.place}
        states[mount.automount_name] = units_of.get("automount", ON)
        access = ["ro"] if mount.read_only else ["rw"]
        real = {"type": mount.types[-1], "source": mount.source, "options": access}
        at[mount.place] = [AUTOFS, real] if mounted else [AUTOFS]
    return {"files": files, "units": states, "mounts": at}


NOTHING: dict[str, Any] = {"files": {}, "units": {}, "mounts": {}}


def ask(state: dict[str, Any], *wanted: MountUnits) -> Outcome:
    commands._named.clear()
    return run(mounts.state, wanted, facts={FACT: {"*": state}})


def actions(done: Outcome) -> list[str]:
    """Each action with its place."""
    found = []
    for command in done.commands:
        assert isinstance(command, dict) and command["function"] == "_run"
        values, words = command["args"][0].splitlines()[0], command["args"][0]
        action = next(line for line in words.splitlines() if line.startswith("set -- ")).split()[-1]
        found.append(f"{action} {values.split()[0].removeprefix('place=')}")
    return found


@pytest.mark.parametrize("mounted", [True, False], ids=["mounted", "not yet"])
def test_mounts_that_are_right_are_left_alone(mounted: bool) -> None:
    done = ask(there(DATA, TOOLS, FOLDER, mounted=mounted), DATA, TOOLS, FOLDER)
    assert (done.commands, len(done.noops)) == ([], 1)
    assert len(ask(NOTHING).noops) == 1


def test_a_new_mount_is_set_up() -> None:
    done = ask(there(DATA), DATA, TOOLS)
    assert actions(done) == ["set /sw/a-b"]
    (command,) = done.commands
    assert isinstance(command, dict)
    text = command["args"][0]
    assert "name='sw-a\\x2db.mount'" in text and "nfs=yes" in text and "What=nas:/tools" in text


def test_a_folder_of_the_host_needs_no_program_of_nfs() -> None:
    (command,) = ask(NOTHING, FOLDER).commands
    assert isinstance(command, dict) and "nfs=''" in command["args"][0]


@pytest.mark.parametrize(
    "now",
    [
        units(Mount("nfs", "other:/export", "/data", "")),
        units(Mount("nfs", "nas:/export", "/data", "", read_only=True)),
        units(Mount("nfs", "nas:/export", "/data", "", ("noatime",))),
        units(Mount("virtio_fs", "/x", "/data", "x")),
    ],
    ids=["server", "read-only", "options", "type"],
)
def test_a_changed_mount_is_set_up_anew(now: MountUnits) -> None:
    assert actions(ask(there(DATA), now)) == ["set /data"]


def test_a_mount_that_the_file_has_no_more_goes_first() -> None:
    assert actions(ask(there(DATA, TOOLS), TOOLS, FOLDER)) == ["remove /data", "set /shared"]


@pytest.mark.parametrize(
    ("state", "action"),
    [
        (there(DATA, automount={**ON, "enabled": "disabled"}), "enable /data"),
        (there(DATA, automount={**ON, "active": "failed"}), "set /data"),
        ({**there(DATA), "mounts": {}}, "set /data"),
        (
            {
                **there(DATA),
                "mounts": {"/data": [AUTOFS, {"type": "nfs4", "source": "nas:/export", "options": ["ro"]}]},
            },
            "set /data",
        ),
    ],
    ids=["off at boot", "failed", "unmounted", "remounted"],
)
def test_a_mount_that_drifted_is_mended(state: dict[str, Any], action: str) -> None:
    assert actions(ask(state, DATA)) == [action]


def test_what_others_mounted_is_named_and_left_alone() -> None:
    foreign = {**NOTHING, "mounts": {"/data": [{"type": "ext4", "source": "/dev/sdb", "options": ["rw"]}]}}
    done = ask(foreign, DATA)
    assert (done.commands, len(done.noops)) == ([], 1)
    assert "/data is mounted from /dev/sdb (ext4), which hpcstate did not do" in done.host.said[0]
    assert ask(foreign).commands == []


def test_what_the_program_left_is_named_and_no_failure() -> None:
    done = ask(NOTHING, DATA)
    (command,) = done.commands
    assert isinstance(command, dict)
    text = command["args"][0]
    done.execute_functions({text: ["left /data does not answer: timed out"]})
    assert done.host.said == ["left as it is: /data does not answer: timed out"]
    commands._named.clear()
    done.host.said.clear()
    done.execute_functions({text: {"fails": ["nfs-common is not in the image"]}})
    assert done.host.said == ["stops here: nfs-common is not in the image"]


# the program

STAND_IN = """#!/bin/sh
name=$(basename "$0")
echo "$name $*" >>"$LOG"
case $name in
find) cat "$FAKE/users" 2>/dev/null ;;
timeout) if [ "$1" = -k ]; then shift 2; fi; shift; exec "$@" ;;
journalctl) echo "mount.nfs: Connection timed out" ;;
stat)
  if [ "$1" = -c ]; then echo ann; exit; fi
  [ -e "$FAKE/served" ] || exit 1
  echo "1 1 0:1 / $PLACE rw - nfs4 nas:/export rw" >>"$FAKE/mountinfo" ;;
systemctl)
  case "$*" in
  'start data.automount') echo "1 1 0:1 / $PLACE rw - autofs systemd-1 rw" >>"$FAKE/mountinfo" ;;
  'stop data.mount') [ -e "$FAKE/busy" ] || sed -i '/nfs4/d' "$FAKE/mountinfo" ;;
  'stop data.automount') sed -i '/autofs/d' "$FAKE/mountinfo" ;;
  esac ;;
esac
"""


class Node:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        for name in ("find", "timeout", "journalctl", "stat", "systemctl"):
            (folder / "bin" / name).write_text(STAND_IN)
            (folder / "bin" / name).chmod(0o755)
        (folder / "bin/mount.nfs4").touch(mode=0o755)
        self.units = folder / "units"
        self.units.mkdir()
        self.place = folder / "data"
        self.place.mkdir()
        (folder / "mountinfo").touch()
        (folder / "served").touch()

    def run(self, action: str, source: str = "nas:/export") -> subprocess.CompletedProcess[str]:
        (self.folder / "log").write_text("")
        made = units(Mount("nfs", source, str(self.place), ""))
        text = programs.command(
            programs.REPLACE,
            IDLE,
            NFS,
            mounts.PROGRAM,
            arguments=(action,),
            place=self.place,
            name="data.mount",
            seconds=1,
            mount=made.mount.rstrip("\n"),
            automount=made.automount.rstrip("\n"),
            nfs="yes",
            units=self.units,
            mountinfo=self.folder / "mountinfo",
        )
        return subprocess.run(
            ["sh", "-c", text.replace("/usr/sbin/", f"{self.folder}/bin/")],
            env={
                "PATH": f"{self.folder}/bin:/usr/bin:/bin",
                "LOG": str(self.folder / "log"),
                "FAKE": str(self.folder),
                "PLACE": str(self.place),
            },
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def mounted(self) -> list[str]:
        return [
            line.split(" - ")[1].split()[0] for line in (self.folder / "mountinfo").read_text().splitlines()
        ]

    @property
    def log(self) -> list[str]:
        return (self.folder / "log").read_text().splitlines()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_mount_comes_changes_and_goes(node: Node) -> None:
    done = node.run("set")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert node.mounted == ["autofs", "nfs4"]
    made = units(Mount("nfs", "nas:/export", str(node.place), ""))
    assert (node.units / "data.mount").read_text() == made.mount
    assert (node.units / "data.automount").read_text() == made.automount
    assert f"# {MARK}" in made.mount.splitlines() and f"# {MARK}" in made.automount.splitlines()
    assert node.run("set", "nas:/other").returncode == 0
    assert "What=nas:/other" in (node.units / "data.mount").read_text()
    assert node.mounted == ["autofs", "nfs4"]
    assert node.run("remove").returncode == 0
    assert (node.mounted, list(node.units.iterdir()), node.place.exists()) == ([], [], False)


def test_a_folder_with_something_in_it_stays(node: Node) -> None:
    node.run("set")
    (node.place / "a file").touch()
    assert node.run("remove").returncode == 0
    assert (node.place / "a file").exists()


@pytest.mark.parametrize("action", ["set", "remove"])
def test_a_mount_in_use_is_named_and_not_forced(node: Node, action: str) -> None:
    node.run("set")
    before = (node.units / "data.mount").read_text()
    (node.folder / "users").write_text(f"/proc/{os.getpid()}/cwd\n")
    done = node.run(action, "nas:/other")
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.startswith(f"left processes use {node.place}: ")
        and f"({os.getpid()} of ann)" in done.stdout
    )
    assert (node.units / "data.mount").read_text() == before
    assert node.mounted == ["autofs", "nfs4"] and not any("stop" in line for line in node.log)


def test_a_mount_that_does_not_go_keeps_its_automount(node: Node) -> None:
    node.run("set")
    (node.folder / "busy").touch()
    done = node.run("remove")
    assert done.returncode == 0 and "is still mounted from nfs4 nas:/export" in done.stdout
    assert node.mounted == ["autofs", "nfs4"] and (node.units / "data.mount").exists()


def test_a_dead_server_is_named_and_the_mount_is_set_up(node: Node) -> None:
    (node.folder / "served").unlink()
    done = node.run("set")
    assert done.returncode == 0, done.stderr
    assert f"left {node.place} does not answer: mount.nfs: Connection timed out" in done.stdout
    assert (node.units / "data.automount").exists() and node.mounted == ["autofs"]


def test_what_others_mounted_meanwhile_is_left_alone(node: Node) -> None:
    (node.folder / "mountinfo").write_text(f"1 1 0:1 / {node.place} rw - ext4 /dev/sdb rw\n")
    for action in ("set", "remove"):
        done = node.run(action)
        assert done.returncode == 0 and "which hpcstate did not do" in done.stdout
    assert node.mounted == ["ext4"] and not list(node.units.iterdir())


def test_nothing_that_is_mounted_is_looked_at_before_it_is_set_up(node: Node) -> None:
    node.run("enable")
    assert not any(line.startswith("stat") for line in node.log)
    assert "systemctl enable --quiet data.automount" in node.log
