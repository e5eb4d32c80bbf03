"""The data volume of a controller: what is done on which disk; and its program, with stand-ins for mounts."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hpcstate import programs
from hpcstate.node.data_volume import BINDS, DEVICE, HOME_BIND, TOP, unit, units
from operations import data_volume
from tests.operations.harness import Outcome, run

FACT = "facts.data_volume.DataVolume"
GIB = 1 << 30
UNITS = units(BINDS)
FILES = (programs.REPLACE, data_volume.IDLE, data_volume.PROGRAM)


def found(**changes: Any) -> dict[str, Any]:
    """A controller that has all of it."""
    return {
        "device_bytes": 20 * GIB,
        "device": "/dev/vdc",
        "content": "ext4 hpcstate-data",
        "filesystem_bytes": 20 * GIB,
        "mounts": {TOP: "/dev/vdc", **{bind.place: f"/dev/vdc[/{bind.name}]" for bind in BINDS}},
        "units": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in UNITS.items()},
        "enabled": list(UNITS),
        **changes,
    }


def outcome(**changes: Any) -> Outcome:
    return run(data_volume.state, UNITS, BINDS, facts={FACT: {"*": found(**changes)}})


def actions(done: Outcome) -> list[str]:
    """The words that the program is called with."""
    texts = [command["command"] for command in done.commands if isinstance(command, dict)]
    return [text.splitlines()[1].removeprefix("set -- ") for text in texts]


VOLUME = "volume srv-hpcstate.mount"
STATE = "bind slurmctld /var/lib/slurm/slurmctld var-lib-slurm-slurmctld.mount slurmctld"
REGISTRY = "bind containers /opt/containers opt-containers.mount"
DATABASE = "bind mysql /var/lib/mysql var-lib-mysql.mount mariadb"


def test_what_is_as_it_should_be_is_left_alone() -> None:
    done = outcome()
    assert (done.commands, len(done.noops)) == ([], 1)


def test_a_blank_disk_gets_all_of_it() -> None:
    done = outcome(content="", filesystem_bytes=0, mounts={}, units={}, enabled=[])
    assert actions(done) == [VOLUME, STATE, REGISTRY, DATABASE]
    first = done.commands[0]
    assert isinstance(first, dict) and first["_stdin"] == UNITS["srv-hpcstate.mount"]
    assert f"device={DEVICE} " in first["command"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"device_bytes": 30 * GIB}, [VOLUME]),
        ({"enabled": [name for name in UNITS if not name.startswith("opt")]}, [REGISTRY]),
        ({"mounts": {TOP: "/dev/vdc", "/opt/containers": "/dev/vdc[/containers]"}}, [STATE, DATABASE]),
        ({"units": {}}, [VOLUME, STATE, REGISTRY, DATABASE]),
    ],
    ids=["grown", "not at boot", "unmounted", "other units"],
)
def test_what_differs_is_done(changes: dict[str, Any], expected: list[str]) -> None:
    assert actions(outcome(**changes)) == expected


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"device_bytes": 0}, "is not in this machine"),
        ({"content": "xfs"}, "has a content that hpcstate did not make (xfs)"),
        ({"content": "ext4 home"}, "(ext4 home)"),
        ({"content": "unknown"}, "(unknown)"),
        ({"mounts": {"/opt/containers": "nas:/containers"}}, "is mounted from nas:/containers"),
        ({"mounts": {TOP: "/dev/sdb1"}}, "is mounted from /dev/sdb1"),
    ],
)
def test_what_is_somebody_elses_stops_the_host(changes: dict[str, Any], said: str) -> None:
    (stop,) = outcome(**changes).commands
    assert isinstance(stop, dict) and stop["function"] == "fail"
    assert said in stop["args"][0]


def test_names_of_units() -> None:
    assert unit("/opt/a-b/c") == r"opt-a\x2db-c.mount"
    assert set(UNITS) == {unit(TOP), *(unit(bind.place) for bind in BINDS)}


# the program

STAND_IN = """#!/bin/sh
# Mounts are links: a unit NAME is started by putting its folder of the volume in the place of what is there.
name=$(basename "$0")
echo "$name $*" >>"$LOG"
case "$name $*" in "$STOP_AT"*) [ -z "$STOP_AT" ] || kill -KILL $PPID ;; esac
case $name in
blkid) [ -s "$device" ] || exit 2
  case $* in *TYPE*) cut -d ' ' -f 1 "$device" ;; *LABEL*) cut -d ' ' -f 2 "$device" ;; esac ;;
mkfs.ext4) echo "ext4 hpcstate-data" >"$device" ;;
mountpoint) [ -e "$MOUNTS$2" ] ;;
df) echo Avail; echo "${ROOM:-1000000000}" ;;
systemctl)
  case $1 in
  --quiet) [ -e "$FAKE/active" ] ;;
  stop) rm -f "$FAKE/active" ;;
  start)
    case $2 in
    slurmctld) touch "$FAKE/active" ;;
    *) place=$(sed -n s/^Where=//p "$units/$2"); mkdir -p "$MOUNTS$place" ;;
    esac ;;
  esac ;;
esac
"""


class Node:
    """A node's disk and its volume in temporary folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in ("blkid", "mkfs.ext4", "resize2fs", "mountpoint", "systemctl", "df"):
            (self.bin / name).write_text(STAND_IN)
            (self.bin / name).chmod(0o755)
        self.device = folder / "device"
        self.device.touch()
        self.top = folder / "top"
        self.top.mkdir()
        self.units = folder / "units"
        self.units.mkdir()
        self.state = folder / "state"
        self.state.mkdir()
        (self.state / "job_state").write_text("jobs 1 to 7")
        (self.state / "empty folder").mkdir()
        (self.state / "a link").symlink_to("job_state")
        self.log = folder / "log"
        self.active = folder / "active"
        self.active.touch()

    def run(self, *words: str, stop_at: str = "", room: str = "") -> subprocess.CompletedProcess[str]:
        self.log.write_text("")
        environment = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "LOG": str(self.log),
            "STOP_AT": stop_at,
            "FAKE": str(self.folder),
            "MOUNTS": str(self.folder / "mounts"),
            **({"ROOM": room} if room else {}),
            "device": str(self.device),
            "label": "hpcstate-data",
            "top": str(self.top),
            "units": str(self.units),
            "work": str(self.folder / "work"),
            "mountinfo": str(self.folder / "mountinfo"),
        }
        return subprocess.run(
            ["sh", "-c", programs.command(*FILES, arguments=words)],
            env=environment,
            input=f"[Mount]\nWhere={self.top if words[0] == 'volume' else self.state}\n",
            capture_output=True,
            text=True,
            check=False,
        )

    def bind(self, **options: str) -> subprocess.CompletedProcess[str]:
        return self.run("bind", "slurmctld", str(self.state), "state.mount", "slurmctld", **options)

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines()

    @property
    def mounted(self) -> bool:
        return (self.folder / f"mounts{self.state}").exists()

    @property
    def counts(self) -> str:
        """The state that slurmctld would begin with, also after a boot."""
        where = self.top / "slurmctld" if (self.units / "state.mount").exists() else self.state
        return (where / "job_state").read_text() if (where / "job_state").exists() else "nothing"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    made = Node(tmp_path)
    assert made.run("volume", "top.mount").returncode == 0
    return made


def test_a_blank_disk_gets_a_file_system_once(node: Node) -> None:
    assert node.device.read_text() == "ext4 hpcstate-data\n"
    assert (node.units / "top.mount").exists()
    assert node.run("volume", "top.mount").returncode == 0
    assert not [call for call in node.calls if call.startswith("mkfs")]
    assert [call for call in node.calls if call.startswith("resize2fs")]


def test_a_disk_with_a_content_is_not_touched(node: Node) -> None:
    for content in ("xfs hpcstate-data", "ext4 home"):
        node.device.write_text(content)
        done = node.run("volume", "top.mount")
        assert (done.returncode, node.device.read_text()) == (1, content)
        assert "it stays as it is" in done.stderr


def test_a_format_that_was_interrupted_is_made_again(node: Node) -> None:
    node.device.write_text("")
    node.run("volume", "top.mount", stop_at="mkfs.ext4")
    node.device.write_text("half")
    assert node.run("volume", "top.mount").returncode == 0
    assert node.device.read_text() == "ext4 hpcstate-data\n"


def test_the_state_moves_while_slurmctld_is_stopped(node: Node) -> None:
    assert node.bind().returncode == 0
    assert node.mounted and node.active.exists()
    assert node.counts == "jobs 1 to 7"
    moved = node.top / "slurmctld"
    assert sorted(path.name for path in moved.iterdir()) == ["a link", "empty folder", "job_state"]
    assert (moved / "a link").readlink() == Path("job_state")
    order = [call for call in node.calls if call.startswith("systemctl") and "--quiet" not in call]
    assert order == [
        "systemctl stop slurmctld",
        "systemctl daemon-reload",
        "systemctl start state.mount",
        "systemctl start slurmctld",
    ]
    assert not (node.folder / "work/slurmctld.moving").exists()


@pytest.mark.parametrize(
    "stop_at",
    ["systemctl stop", "df", "systemctl daemon-reload", "systemctl enable", "systemctl start state"],
)
def test_a_move_that_is_killed_loses_nothing_and_goes_on(node: Node, stop_at: str) -> None:
    node.bind(stop_at=stop_at)
    assert node.counts == "jobs 1 to 7"
    if not (node.units / "state.mount").exists():
        # Meanwhile slurmctld goes on with the old one.
        (node.state / "job_state").write_text("jobs 1 to 8")
    before = node.counts
    done = node.bind()
    assert done.returncode == 0, done.stderr
    assert node.mounted and node.counts == before


def test_a_copy_that_was_whole_before_the_kill_is_made_again(node: Node) -> None:
    """Killed between the copy and the unit: the old state counts, and has gone on since."""
    node.bind(stop_at="df")
    (node.top / "slurmctld").mkdir()
    (node.top / "slurmctld/job_state").write_text("of that time")
    (node.state / "job_state").write_text("jobs 1 to 9")
    assert node.bind().returncode == 0
    assert node.counts == "jobs 1 to 9"


def test_a_new_disk_takes_what_is_on_the_volume(node: Node) -> None:
    (node.top / "slurmctld").mkdir()
    (node.top / "slurmctld/job_state").write_text("jobs 1 to 99")
    (node.state / "job_state").unlink()
    assert node.bind().returncode == 0
    assert node.counts == "jobs 1 to 99"


def test_what_does_not_fit_stays_where_it_is(node: Node) -> None:
    done = node.bind(room="10")
    assert done.returncode == 1
    assert "controller.data_gb" in done.stderr
    assert node.counts == "jobs 1 to 7" and node.active.exists() and not node.mounted


def test_without_the_volume_nothing_moves(node: Node) -> None:
    (node.folder / f"mounts{node.top}").rmdir()
    done = node.bind()
    assert (done.returncode, node.counts) == (1, "jobs 1 to 7")
    assert node.active.exists() and "is not mounted: nothing moves" in done.stderr


def test_a_state_that_went_on_beside_the_volume_is_not_covered(node: Node) -> None:
    assert node.bind().returncode == 0
    (node.folder / f"mounts{node.state}").rmdir()
    os.utime(node.top / "slurmctld/job_state", (1, 1))
    done = node.bind()
    assert done.returncode == 1 and not node.mounted
    assert "somebody unmounted" in done.stderr
    (node.top / "slurmctld/job_state").touch()
    assert node.bind().returncode == 0 and node.mounted


def test_a_place_that_is_not_there_yet(node: Node) -> None:
    place = node.folder / "opt/containers"
    node.state = place
    done = node.run("bind", "containers", str(place), "registry.mount")
    assert done.returncode == 0, done.stderr
    assert (node.top / "containers").is_dir() and place.is_dir()


def test_homes_move_when_nobody_uses_them(node: Node) -> None:
    words = ("bind", "home", str(node.state), "state.mount", "", "idle")
    with (node.state / "job_state").open():
        done = node.run(*words)
    assert done.returncode == 1 and not node.mounted
    assert f"processes use {node.state}: " in done.stderr and f"({os.getpid()} of " in done.stderr
    done = node.run(*words)
    assert done.returncode == 0, done.stderr
    assert node.mounted and (node.top / "home/job_state").read_text() == "jobs 1 to 7"


def test_shared_homes_are_bound_like_the_rest() -> None:
    shared = (*BINDS, HOME_BIND)
    wanted = units(shared)
    done = run(data_volume.state, wanted, shared, facts={FACT: {"*": found()}})
    assert actions(done) == ["bind home /home home.mount '' idle"]
    assert "What=/srv/hpcstate/home" in wanted["home.mount"]


# homes that come from a folder of the hypervisor


def test_homes_of_a_folder_are_taken_and_those_of_others_are_not() -> None:
    binds = (*BINDS, HOME_BIND)
    for source, takes in (("hpcstate-home", True), ("systemd-1", True), ("nas:/home", False)):
        state = found(mounts={**found()["mounts"], "/home": source})
        done = run(data_volume.state, units(binds), binds, facts={FACT: {"*": state}})
        if takes:
            assert actions(done) == ["bind home /home home.mount '' idle"]
        else:
            (stop,) = done.commands
            assert isinstance(stop, dict) and "which hpcstate did not do" in stop["args"][0]


@pytest.fixture
def folder(node: Node) -> Node:
    """A node whose homes are in a folder: what is at the place is what is mounted there."""
    (node.units / "home.mount").write_text(f"[Mount]\nWhere={node.state}\nType=virtiofs\n")
    (node.units / "home.automount").write_text("[Automount]\n")
    (node.folder / "mountinfo").write_text(
        f"1 1 0:1 / {node.state} rw - autofs systemd-1 rw\n"
        f"2 1 0:2 / {node.state} rw - virtiofs hpcstate-home rw\n"
    )
    return node


def to_volume(node: Node, stop_at: str = "") -> subprocess.CompletedProcess[str]:
    return node.run("bind", "home", str(node.state), "home.mount", "", "idle", stop_at=stop_at)


def test_homes_of_a_folder_become_those_of_the_volume(folder: Node) -> None:
    done = to_volume(folder)
    assert done.returncode == 0, done.stderr
    assert (folder.top / "home/job_state").read_text() == "jobs 1 to 7"
    assert (folder.state / "job_state").exists(), "the folder keeps what it has"
    assert not (folder.units / "home.automount").exists()
    assert "virtiofs" not in (folder.units / "home.mount").read_text()


def test_homes_that_are_on_the_volume_count(folder: Node) -> None:
    (folder.top / "home").mkdir()
    assert to_volume(folder).returncode == 0
    assert not list((folder.top / "home").iterdir())


@pytest.mark.parametrize("stop_at", ["systemctl stop", "systemctl disable", "systemctl daemon-reload"])
def test_a_way_back_that_is_killed_takes_nothing_else(folder: Node, stop_at: str) -> None:
    assert to_volume(folder, stop_at).returncode != 0
    # What is below the mount, when it is gone.
    (folder.state / "job_state").write_text("of the node's own disk")
    assert to_volume(folder).returncode == 0
    assert (folder.top / "home/job_state").read_text() == "jobs 1 to 7"


def test_a_folder_that_does_not_answer_is_not_taken_for_empty(folder: Node) -> None:
    (folder.folder / "mountinfo").write_text(f"1 1 0:1 / {folder.state} rw - autofs systemd-1 rw\n")
    done = to_volume(folder)
    assert done.returncode == 1 and "does not answer" in done.stderr
    assert not (folder.top / "home").exists() and (folder.units / "home.automount").exists()
