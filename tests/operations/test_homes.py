"""Homes: what is done for which state of a node; and the program, with stand-ins for mounts and systemd."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcstate import programs
from hpcstate.node.homes import EXPORTS
from operations import homes
from operations.data_volume import IDLE
from tests.operations.harness import Outcome, run

FACT = "facts.homes.Homes"
SOURCE = "192.168.150.10:/home"
KIND = "nfs4"
CLIENTS = ["192.168.150.11", "192.168.150.12"]
AUTOFS = {"type": "autofs", "source": "systemd-1", "options": ["rw"]}
NFS = {"type": "nfs4", "source": SOURCE, "options": ["rw", "vers=4.2"]}
BOUND = {"type": "ext4", "source": "/dev/vdc", "options": ["rw"]}
NODE = {"states": ["IDLE"], "reason": "", "reason_user": ""}


def unit(load: str = "loaded", active: str = "active", enabled: str = "enabled") -> dict[str, str]:
    return {"load": load, "active": active, "enabled": enabled}


NONE = unit("not-found", "inactive", "")
MASKED = unit("masked", "inactive", "masked")


def found(**changes: Any) -> dict[str, Any]:
    """A node that has nothing of it but the way in."""
    return {
        "way": "/var/lib/hpcstate/admin",
        "mounts": [],
        "kind": "",
        "tags": [],
        "units": {"home.mount": NONE, "home.automount": NONE, "nfs-server.service": NONE},
        "programs": ["mount.nfs4", "rpc.nfsd"],
        "versions": [],
        "exports": {},
        "files": [],
        **changes,
    }


def client(**changes: Any) -> dict[str, Any]:
    units = {"home.mount": unit(enabled="static"), "home.automount": unit()}
    return found(**{"mounts": [AUTOFS, NFS], "units": units, **changes})


def server(**changes: Any) -> dict[str, Any]:
    units = {
        "home.mount": unit(),
        "home.automount": NONE,
        "nfs-server.service": unit(),
        "rpcbind.service": MASKED,
        "rpcbind.socket": MASKED,
    }
    state = {
        "mounts": [BOUND],
        "units": units,
        "versions": ["-3", "+4", "-4.0", "-4.1", "+4.2"],
        "exports": {"/home": CLIENTS},
        "files": [EXPORTS],
    }
    return found(**{**state, **changes})


def ask(operation: Callable[..., Any], state: dict[str, Any], *args: Any, **kwargs: Any) -> Outcome:
    slurmd = {"installed": True, "active": kwargs.pop("slurmd", False), "enabled": True}
    facts = {
        FACT: {"*": state},
        "facts.slurm.SlurmDaemons": {"slurmd": slurmd, "slurmctld": slurmd},
        "facts.slurm.SlurmNodes": {"compute-01": NODE},
    }
    return run(operation, *args, facts=facts, **kwargs)


def actions(done: Outcome) -> list[str]:
    """What is done, in short: the words that the program is called with, or the first of another command."""
    lines = []
    for command in done.commands:
        if isinstance(command, str):
            words = command.splitlines()
            called = [line.removeprefix("set -- ") for line in words if line.startswith("set -- ")]
            lines.append(called[0] if called else words[0])
        else:
            lines.append(str(command.get("function")))
    return lines


def mounted(state: dict[str, Any], **options: Any) -> Outcome:
    return ask(homes.mounted, state, "compute-01", SOURCE, timeout_s=60, **options)


# the way in


@pytest.mark.parametrize("home", ["/var/lib/hpcstate/admin", ""], ids=["there", "no such account"])
def test_a_way_in_that_is_right_is_left_alone(home: str) -> None:
    done = ask(homes.way_in, found(way=home))
    assert (done.commands, len(done.noops)) == ([], 1)


def test_the_way_in_moves_out_of_what_may_be_shared() -> None:
    assert actions(ask(homes.way_in, found(way="/home/admin"))) == ["way admin /var/lib/hpcstate/admin"]


# the server


def test_homes_that_are_served_are_left_alone() -> None:
    done = ask(homes.served, server(exports={"/home": CLIENTS[::-1], "/srv/other": ["*"]}), CLIENTS)
    assert (done.commands, len(done.noops)) == ([], 1)


@pytest.mark.parametrize(
    "state",
    [
        found(),
        server(exports={"/home": CLIENTS[:1]}),
        server(exports={"/home": [*CLIENTS, "*"]}),
        server(versions=["+3", "+4", "+4.1", "+4.2"]),
        server(versions=[]),
        server(units={**server()["units"], "nfs-server.service": unit(active="inactive")}),
        server(units={**server()["units"], "nfs-server.service": unit(enabled="disabled")}),
        server(units={**server()["units"], "rpcbind.socket": unit()}),
    ],
    ids=["new", "lacks a node", "to all", "version 3", "off", "stopped", "not at boot", "portmapper"],
)
def test_homes_that_are_served_otherwise_are_mended(state: dict[str, Any]) -> None:
    assert actions(ask(homes.served, state, CLIENTS)) == ["serve"]


# the other nodes


@pytest.mark.parametrize("state", [client(), client(mounts=[AUTOFS])], ids=["mounted", "not yet"])
def test_homes_that_are_mounted_are_left_alone(state: dict[str, Any]) -> None:
    done = mounted(state, slurmd=True)
    assert (done.commands, len(done.noops)) == ([], 1)


def test_a_new_node_gets_its_homes_at_once() -> None:
    done = mounted(found())
    assert actions(done) == [f"mount {SOURCE}"]
    (command,) = done.commands
    assert isinstance(command, str) and command.startswith("home=/home idle=yes\n")


@pytest.mark.parametrize(
    "state",
    [found(), client(mounts=[AUTOFS, {**NFS, "source": "192.168.150.9:/home"}])],
    ids=["none yet", "of another server"],
)
def test_a_node_with_jobs_is_drained_before_its_homes_change(state: dict[str, Any]) -> None:
    done = mounted(state, slurmd=True)
    drain, wait, mount = actions(done)
    assert drain.startswith("scontrol update nodename=compute-01 state=drain")
    assert (wait, mount) == ("wait_until_free", f"mount {SOURCE}")


def test_with_force_nobody_is_waited_for() -> None:
    done = mounted(found(), slurmd=True, force=True)
    assert actions(done) == [f"mount {SOURCE}"]
    (command,) = done.commands
    assert isinstance(command, str) and command.startswith("home=/home idle=''\n")


def test_an_automount_that_is_only_off_at_boot_needs_no_drain() -> None:
    units = {**client()["units"], "home.automount": unit(enabled="disabled")}
    assert actions(mounted(client(units=units), slurmd=True)) == [f"mount {SOURCE}"]


@pytest.mark.parametrize("kind", ["ext4", "cifs"])
def test_a_mount_of_somebody_else_stops_the_host(kind: str) -> None:
    (stop,) = mounted(found(mounts=[{"type": kind, "source": "//nas/home", "options": []}])).commands
    assert isinstance(stop, dict) and stop["function"] == "fail"
    assert f"/home is mounted from //nas/home ({kind})" in stop["args"][0]


# no longer


@pytest.mark.parametrize(
    "state",
    [
        found(),
        found(
            mounts=[{**NFS, "source": "nas:/home"}],
            units={**found()["units"], "home.mount": unit(enabled="generated")},
        ),
        found(mounts=[BOUND], units={**found()["units"], "home.mount": unit(enabled="")}),
        found(units={**found()["units"], "nfs-server.service": unit()}),
    ],
    ids=["nothing", "by fstab", "by hand", "another server"],
)
def test_what_others_have_at_home_is_left_alone(state: dict[str, Any]) -> None:
    done = ask(homes.unshared, state, "compute-01", timeout_s=60)
    assert (done.commands, len(done.noops)) == ([], 1)


def test_a_node_gets_homes_of_its_own_when_its_jobs_have_ended() -> None:
    done = ask(homes.unshared, client(), "compute-01", timeout_s=60, slurmd=True)
    assert [action.split()[0] for action in actions(done)] == ["scontrol", "wait_until_free", "unshare"]


def test_the_controller_serves_no_more() -> None:
    done = ask(homes.unshared, server(), timeout_s=60, slurmd=True)
    assert actions(done) == [f"unshare {EXPORTS}", "_say"]
    assert "stay in /srv/hpcstate/home" in str(done.commands[1])


# a folder of the hypervisor

TAG = "hpcstate-home"
SHARE = {"type": "virtiofs", "source": TAG, "options": ["rw", "nosuid"]}
UNIT_TEXTS = {
    "/etc/systemd/system/home.mount": "[Mount]\nType=virtiofs\n",
    "/etc/systemd/system/home.automount": "[Automount]\n",
}


def sharing(**changes: Any) -> dict[str, Any]:
    """A node whose homes are a folder of the hypervisor."""
    state = {"kind": "virtiofs", "tags": [TAG], "mounts": [AUTOFS, SHARE]}
    return client(**{**state, **changes})


def folder(state: dict[str, Any], **options: Any) -> Outcome:
    return ask(homes.folder, state, TAG, UNIT_TEXTS, **options)


def mount_folder(state: dict[str, Any], **options: Any) -> Outcome:
    return ask(homes.mounted, state, "compute-01", TAG, timeout_s=60, kind="virtiofs", **options)


def left(state: dict[str, Any], source: str, kind: str, **options: Any) -> Outcome:
    return ask(homes.left, state, "compute-01", source, kind, timeout_s=60, **options)


@pytest.mark.parametrize("state", [sharing(), sharing(mounts=[AUTOFS])], ids=["mounted", "not yet"])
def test_homes_in_a_folder_are_left_alone(state: dict[str, Any]) -> None:
    for done in (mount_folder(state, slurmd=True), folder(state), left(state, TAG, "virtiofs")):
        assert (done.commands, len(done.noops)) == ([], 1)


def test_a_node_mounts_the_folder_when_its_jobs_have_ended() -> None:
    done = mount_folder(found(tags=[TAG]), slurmd=True)
    assert [action.split()[0] for action in actions(done)] == ["scontrol", "wait_until_free", "mount"]
    command = done.commands[-1]
    assert isinstance(command, str) and command.startswith("home=/home idle=yes kind=virtiofs\n")


@pytest.mark.parametrize("state", [found(), client(kind="nfs4")], ids=["own", "nfs"])
def test_without_the_folder_in_the_machine_nothing_changes(state: dict[str, Any]) -> None:
    outcomes = [mount_folder(state, slurmd=True), folder(state)]
    if state["kind"]:
        outcomes = [left(state, TAG, "virtiofs", slurmd=True)]
    for done in outcomes:
        (stop,) = done.commands
        assert isinstance(stop, dict) and "goes off and on" in stop["args"][0]


@pytest.mark.parametrize(
    ("state", "source", "kind"),
    [(client(kind="nfs4", tags=[TAG]), TAG, "virtiofs"), (sharing(), SOURCE, "nfs4")],
    ids=["to a folder", "to nfs"],
)
def test_a_node_leaves_homes_before_they_move(state: dict[str, Any], source: str, kind: str) -> None:
    done = left(state, source, kind, slurmd=True)
    assert [action.split()[0] for action in actions(done)] == ["scontrol", "wait_until_free", "unshare"]
    assert actions(left(state, source, kind, slurmd=True, force=True)) == ["unshare"]


@pytest.mark.parametrize("state", [found(tags=[TAG]), client(kind="nfs4")], ids=["own", "stays"])
def test_a_node_that_has_nothing_else_leaves_nothing(state: dict[str, Any]) -> None:
    assert left(state, SOURCE, "nfs4", slurmd=True).commands == []


@pytest.mark.parametrize(
    ("state", "action"),
    [
        (found(tags=[TAG]), f"folder {TAG}"),
        (server(kind="none", tags=[TAG]), f"folder {TAG} {EXPORTS}"),
        (sharing(files=[EXPORTS]), f"folder {TAG} {EXPORTS}"),
        (sharing(units={**client()["units"], "home.automount": unit(enabled="disabled")}), f"folder {TAG}"),
    ],
    ids=["own", "served", "still served", "off at boot"],
)
def test_the_controllers_homes_move_to_the_folder(state: dict[str, Any], action: str) -> None:
    done = folder(state)
    assert actions(done) == [action]
    (command,) = done.commands
    assert isinstance(command, str) and "Type=virtiofs" in command.split("set --")[0]


def test_a_mount_of_somebody_else_is_not_covered_by_the_folder() -> None:
    (stop,) = folder(
        found(tags=[TAG], mounts=[{"type": "cifs", "source": "//nas/h", "options": []}])
    ).commands
    assert isinstance(stop, dict) and "/home is mounted from //nas/h (cifs)" in stop["args"][0]


# the program

STAND_IN = """#!/bin/sh
name=$(basename "$0")
echo "$name $*" >>"$LOG"
case $name in
df) echo Avail; cat "$FAKE/room" 2>/dev/null || echo 1000000000 ;;
getent) echo "admin:x:1:1::$(cat "$FAKE/way"):/bin/bash" ;;
usermod) shift; echo "$1" >"$FAKE/way" ;;
unshare) while [ "${1#--}" != "$1" ]; do shift; done; exec "$@" ;;
awk) cat "$FAKE/mounts" 2>/dev/null || : ;;
find) case $1 in "$FAKE"/share*) exec /usr/bin/find "$@" ;; esac; cat "$FAKE/users" 2>/dev/null ;;
timeout) shift 3; exec "$@" ;;
stat)
  if [ "$1" = -c ]; then echo ann; exit; fi
  [ -e "$FAKE/served" ] && [ -e "$FAKE/on" ] && echo "${kind:-nfs4} $SOURCE" >>"$FAKE/mounts" ;;
systemctl)
  case "$*" in
  '--quiet is-active home.automount') [ -e "$FAKE/on" ] ;;
  'start home.automount') [ -e "$FAKE/on" ] || echo "autofs systemd-1" >>"$FAKE/mounts"; touch "$FAKE/on" ;;
  'stop home.automount home.mount') [ -e "$FAKE/busy" ] || rm -f "$FAKE/on" "$FAKE/mounts" ;;
  esac ;;
esac
"""
FAKES = (
    "mount",
    "umount",
    "df",
    "getent",
    "usermod",
    "unshare",
    "awk",
    "find",
    "timeout",
    "stat",
    "systemctl",
    "exportfs",
    "sync",
)


class Node:
    """A node with its mounts as lines of a file, and a home for admin."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        for name in FAKES:
            (folder / "bin" / name).write_text(STAND_IN)
            (folder / "bin" / name).chmod(0o755)
        self.home = folder / "home"
        self.share = folder / "share"
        self.units = folder / "units"
        self.units.mkdir()
        self.place = folder / "var" / "admin"
        keys = self.home / "admin" / ".ssh"
        keys.mkdir(parents=True)
        (keys / "authorized_keys").write_text("a key")
        (folder / "way").write_text(str(self.home / "admin"))

    def run(self, *words: str, idle: str = "yes") -> subprocess.CompletedProcess[str]:
        (self.folder / "log").write_text("")
        # Its programs lie in /usr/sbin; here only the image's part is told apart.
        units = {"kind": "virtiofs", "mount": "[Mount]\nType=virtiofs", "automount": "[Automount]"}
        text = programs.command(
            programs.REPLACE,
            IDLE,
            homes.NFS,
            homes.PROGRAM,
            arguments=words,
            home=self.home,
            idle=idle,
            work=self.share,
            units=self.units,
            **(units if words[0] == "folder" else {}),
        )
        return subprocess.run(
            ["sh", "-c", text.replace("/usr/sbin/", f"{self.folder}/bin/")],
            env={
                "PATH": f"{self.folder}/bin:/usr/bin:/bin",
                "LOG": str(self.folder / "log"),
                "FAKE": str(self.folder),
                "SOURCE": SOURCE,
                "kind": KIND,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def way(self) -> Path:
        return Path((self.folder / "way").read_text().strip())

    @property
    def mounts(self) -> list[str]:
        file = self.folder / "mounts"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def node(tmp_path: Path) -> Node:
    made = Node(tmp_path)
    for name in ("mount.nfs4", "rpc.nfsd"):
        (made.folder / "bin" / name).touch(mode=0o755)
    (made.folder / "served").touch()
    return made


def test_the_way_in_moves_with_its_keys_once(node: Node) -> None:
    for _ in range(2):
        done = node.run("way", "admin", str(node.place))
        assert done.returncode == 0, done.stderr
        assert node.way == node.place
        assert (node.place / ".ssh/authorized_keys").read_text() == "a key"
    assert not (node.home / "admin").exists()


def test_a_way_in_is_not_given_up_for_a_home_without_keys(node: Node) -> None:
    (node.home / "admin/.ssh/authorized_keys").write_text("")
    done = node.run("way", "admin", str(node.place))
    assert (done.returncode, node.way) == (1, node.home / "admin")
    (node.home / "admin/.ssh/authorized_keys").write_text("a key")
    (node.place / ".ssh").mkdir(parents=True)
    done = node.run("way", "admin", str(node.place))
    assert (done.returncode, node.way) == (1, node.home / "admin")
    assert "has no key that opens admin" in done.stderr


def test_homes_are_mounted_and_stay_so(node: Node) -> None:
    for _ in range(2):
        done = node.run("mount", SOURCE)
        assert done.returncode == 0, done.stderr
        assert node.mounts[:2] == ["autofs systemd-1", f"nfs4 {SOURCE}"]
    assert "systemctl stop" not in (node.folder / "log").read_text()


def test_homes_that_somebody_uses_are_not_covered(node: Node) -> None:
    (node.folder / "users").write_text(f"/proc/{os.getpid()}/cwd\n/proc/{os.getpid()}/fd/3\n")
    done = node.run("mount", SOURCE)
    assert (done.returncode, node.mounts) == (1, [])
    assert f"processes use {node.home}: " in done.stderr and f"({os.getpid()} of ann)" in done.stderr
    assert node.run("mount", SOURCE, idle="").returncode == 0


def test_a_server_that_does_not_answer_is_told(node: Node) -> None:
    (node.folder / "served").unlink()
    done = node.run("mount", SOURCE)
    assert done.returncode == 1
    assert f"{SOURCE} cannot be mounted" in done.stderr


def test_another_server_takes_the_place_of_the_first(node: Node) -> None:
    (node.folder / "mounts").write_text("autofs systemd-1\nnfs4 192.168.150.9:/home\n")
    (node.folder / "on").touch()
    done = node.run("mount", SOURCE)
    assert (done.returncode, node.mounts) == (0, ["autofs systemd-1", f"nfs4 {SOURCE}"])


def test_a_mount_that_stays_is_told(node: Node) -> None:
    (node.folder / "mounts").write_text("autofs systemd-1\nnfs4 192.168.150.9:/home\n")
    (node.folder / "busy").touch()
    done = node.run("mount", SOURCE)
    assert done.returncode == 1 and "is still mounted" in done.stderr


def test_the_portmapper_is_off_before_the_server_starts(node: Node) -> None:
    done = node.run("serve")
    assert done.returncode == 0, done.stderr
    calls = (node.folder / "log").read_text().splitlines()
    masked = next(number for number, call in enumerate(calls) if "mask" in call and "rpcbind.socket" in call)
    started = calls.index("systemctl restart nfs-server.service")
    assert masked < started < calls.index("exportfs -ra")


def test_what_is_not_in_the_image_is_told_with_the_way_out(node: Node) -> None:
    (node.folder / "bin/mount.nfs4").unlink()
    (node.folder / "bin/apt-get").write_text("#!/bin/sh\nexit 100\n")
    (node.folder / "bin/apt-get").chmod(0o755)
    done = node.run("mount", SOURCE)
    assert done.returncode == 1
    assert "nfs-common is not in the image of this node" in done.stderr and "hpcstate roll" in done.stderr


def test_homes_of_its_own_again(node: Node) -> None:
    node.run("mount", SOURCE)
    files = node.folder / "exports", node.folder / "conf"
    for file in files:
        file.touch()
    done = node.run("unshare", *map(str, files))
    assert done.returncode == 0, done.stderr
    assert node.mounts == [] and not any(file.exists() for file in files)
    calls = (node.folder / "log").read_text().splitlines()
    assert "systemctl disable --quiet --now nfs-server.service" in calls


def test_the_server_is_left_alone_where_it_is_not_ours(node: Node) -> None:
    assert node.run("unshare").returncode == 0
    assert "nfs-server" not in (node.folder / "log").read_text()


# homes in a folder of the hypervisor


def move(node: Node, *files: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return node.run("folder", TAG, *files, **environment)


@pytest.fixture
def moving(node: Node, monkeypatch: pytest.MonkeyPatch) -> Node:
    """A node whose homes are on its own disk, and a folder that is empty."""
    monkeypatch.setattr("tests.operations.test_homes.SOURCE", TAG)
    monkeypatch.setattr("tests.operations.test_homes.KIND", "virtiofs")
    (node.home / "ann").mkdir()
    (node.home / "ann/thesis").write_text("a year's work")
    (node.home / ".hidden").write_text("x")
    return node


def test_homes_move_to_an_empty_folder_once(moving: Node) -> None:
    exports = moving.folder / "exports"
    exports.touch()
    done = move(moving, str(exports))
    assert done.returncode == 0, done.stderr
    assert (moving.share / "ann/thesis").read_text() == "a year's work"
    assert sorted(path.name for path in moving.share.iterdir()) == [".hidden", "admin", "ann"]
    assert (moving.home / "ann/thesis").exists(), "what was there stays below"
    assert not exports.exists() and "Type=virtiofs" in (moving.units / "home.mount").read_text()
    calls = (moving.folder / "log").read_text().splitlines()
    assert calls.index("systemctl disable --quiet --now nfs-server.service") < calls.index(
        f"mount -t virtiofs -o nosuid,nodev {TAG} {moving.share}"
    )
    (moving.share / "ann/thesis").write_text("more")
    assert move(moving).returncode == 0
    assert (moving.share / "ann/thesis").read_text() == "more"


def test_homes_that_are_in_the_folder_count(moving: Node) -> None:
    (moving.share / "bob").mkdir(parents=True)
    assert move(moving).returncode == 0
    assert [path.name for path in moving.share.iterdir()] == ["bob"]


def test_a_move_that_was_cut_off_begins_again_or_goes_on(moving: Node) -> None:
    half = moving.share / ".hpcstate-moving"
    half.mkdir(parents=True)
    (half / "ann").mkdir()
    assert move(moving).returncode == 0
    assert (moving.share / "ann/thesis").read_text() == "a year's work"

    for name in ("home.mount", "home.automount"):
        (moving.units / name).unlink()
    half.mkdir()
    (half / ".whole").touch()
    (half / "late").mkdir()
    assert move(moving).returncode == 0
    assert (moving.share / "late").exists() and not half.exists()


def test_homes_that_do_not_fit_or_are_in_use_stay(moving: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    (moving.folder / "users").write_text(f"/proc/{os.getpid()}/cwd\n")
    done = move(moving)
    assert done.returncode == 1 and "processes use" in done.stderr
    (moving.folder / "users").unlink()
    (moving.folder / "room").write_text("100")
    done = move(moving)
    assert done.returncode == 1 and "it stays where it is" in done.stderr
    assert not list(moving.units.iterdir())


# who uses a folder


def test_a_process_that_uses_a_folder_is_named(tmp_path: Path) -> None:
    place = tmp_path / "home"
    place.mkdir()
    text = programs.command(IDLE) + f'\ndemand_idle {place} "It moves."; echo idle'
    assert subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False).stdout == "idle\n"
    with (place / "a file").open("w"):
        done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert f"({os.getpid()} of " in done.stderr and "It moves." in done.stderr
