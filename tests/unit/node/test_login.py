"""The way in for a person: what ssh is told, and what is said where it does not let in."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster
from hpcstate.node.login import demand_host_key, host_blocks, open_shell, ssh_words
from hpcstate.node.ssh import OtherHostKeyError, UnreachableError, option_value
from hpcstate.paths import ClusterPaths
from tests.unit.fake_live import TWO

FILE = Path("gpu.yaml")
CONTROLLER = TWO.controller

SSH = """#!/bin/sh
echo "$@" >>"$FAKE_LOG"
case "$*" in *BatchMode=yes*) echo "$REFUSED" >&2; exit ${BATCH:-255} ;; esac
while [ "$1" != -- ]; do shift; done
shift 2
exec sh -c "$*"
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which a false ssh keeps its command lines; the keys of TWO are there."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ssh").write_text(SSH)
    (tmp_path / "bin/ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("REFUSED", "")
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    at = ClusterPaths.of(TWO.name)
    at.secrets.mkdir(parents=True)
    at.known_hosts.write_text(f"controller,{CONTROLLER.address} ssh-ed25519 AAAA\n")
    return tmp_path / "log"


def entered(
    *command: str, user: str = "admin", tty: bool = False, cluster: Cluster = TWO, file: Path = FILE
) -> int:
    """The exit code of ``command`` on the controller."""
    return open_shell(cluster, cluster.controller, user, command, file=file, tty=tty)


@pytest.mark.parametrize("code", [0, 1, 42, 254])
def test_the_exit_code_is_that_of_the_command(code: int, log: Path) -> None:
    assert entered(f"exit {code}") == code
    assert len(log.read_text().splitlines()) == 1


def test_a_command_that_a_signal_ended_is_told_as_a_shell_does(log: Path) -> None:
    assert entered("kill -TERM $$") == 128 + 15


def test_the_words_of_a_command_are_joined_as_ssh_does(log: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert entered("echo", "a  b", "| tr a c") == 0
    assert capfd.readouterr().out == "c b\n"


def test_its_input_is_that_of_the_command(log: Path) -> None:
    program = (
        "import sys; from tests.unit.node.test_login import entered; sys.exit(entered('tr', 'a-z', 'A-Z'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input="piped\n",
        cwd=paths.ROOT,
        env={**os.environ, "HPCSTATE_BUILD": str(paths.BUILD)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("PIPED\n", 0), done.stderr


def test_a_terminal_is_asked_for_on_wish(log: Path) -> None:
    entered("true")
    entered("true", tty=True)
    first, second = log.read_text().splitlines()
    assert " -t -- " not in first
    assert f" -t -- admin@{CONTROLLER.address} true" in second


def test_no_host_key_is_ever_taken_on_trust() -> None:
    for user in ("admin", "alice"):
        words = ssh_words(TWO, user)
        known = option_value(ClusterPaths.of(TWO.name).known_hosts)
        assert {
            "-oStrictHostKeyChecking=yes",
            f"-oUserKnownHostsFile={known}",
            "-oGlobalKnownHostsFile=/dev/null",
            "-oKnownHostsCommand=none",
            "-oVerifyHostKeyDNS=no",
        } <= set(words)


def test_the_projects_key_is_for_admin_only() -> None:
    key = f"-oIdentityFile={option_value(ClusterPaths.of(TWO.name).ssh_key)}"
    assert {key, "-oIdentitiesOnly=yes", "-oIdentityAgent=none"} <= set(ssh_words(TWO, "admin"))
    assert ssh_words(TWO, "admin")[1:3] == ["-F", "/dev/null"]
    others = ssh_words(TWO, "alice")
    assert "-F" not in others
    assert not [word for word in others if "Identit" in word]


def test_a_node_without_a_known_host_key_is_said_with_the_next_step(log: Path) -> None:
    demand_host_key(TWO, CONTROLLER, FILE)
    with pytest.raises(HpcstateError, match="no host key of compute-01") as raised:
        open_shell(TWO, TWO.workers[0], "admin", [], file=FILE)
    assert "hpcstate start gpu.yaml" in raised.value.hint
    assert not log.exists()
    ClusterPaths.of(TWO.name).known_hosts.unlink()
    with pytest.raises(HpcstateError, match="no host key of controller"):
        demand_host_key(TWO, CONTROLLER, FILE)


def test_an_address_is_not_found_in_a_longer_one(log: Path) -> None:
    ClusterPaths.of(TWO.name).known_hosts.write_text(f"x,{CONTROLLER.address}0 ssh-ed25519 AAAA\n")
    with pytest.raises(HpcstateError, match="no host key of controller"):
        demand_host_key(TWO, CONTROLLER, FILE)


@pytest.mark.parametrize(
    ("refused", "user", "says", "hint"),
    [
        ("Host key verification failed.", "admin", "another host key", "`hpcstate stop gpu.yaml --node cont"),
        ("Host key verification failed.", "alice", "another host key", "ip neigh"),
        ("admin@x: Permission denied (publickey).", "admin", "Permission denied", "`hpcstate stop gpu.yaml"),
        ("alice@x: Permission denied (publickey).", "alice", "Permission denied", "is alice a user there"),
        ("ssh: connect to host x: No route to host", "admin", "No route to host", "hpcstate start gpu.yaml"),
        ("", "admin", "the connection ended", "does it run"),
    ],
)
def test_what_keeps_one_out_is_said_with_the_next_step(
    refused: str, user: str, says: str, hint: str, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUSED", refused)
    with pytest.raises(UnreachableError, match=says) as raised:
        entered("exit 255", user=user)
    assert hint in raised.value.hint
    assert raised.value.node == "controller"


def test_a_changed_host_key_is_said_without_the_advice_of_ssh(
    log: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What OpenSSH 9.2 to 10.0 say (sshconnect.c, warn_changed_key; its lines end with CR and LF)."""
    line = "@" * 59
    text = (
        f"{line}\\r\\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\\r\\n{line}\\r\\n"
        "IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\\r\\n  remove with:\\r\\n"
        "  ssh-keygen -R x\\r\\n"
        "Host key verification failed.\\r\\n"
    )
    with pytest.raises(OtherHostKeyError, match="another host key than controller was given") as raised:
        entered(f"printf '{text}' >&2; exit 255")
    assert "`hpcstate stop gpu.yaml --node controller` and `hpcstate start gpu.yaml`" in raised.value.hint
    captured = capfd.readouterr()
    assert captured.err == captured.out == ""
    assert log.read_text().count("-F /dev/null") == 1, "one connection tells it"
    assert entered(f"printf '{line}' >&2") == 0
    assert capfd.readouterr().err == line


def test_a_hypervisor_elsewhere_is_named(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUSED", "ssh: connect to host x: Connection timed out")
    with pytest.raises(UnreachableError) as raised:
        entered("exit 255", cluster=replace(TWO, uri="qemu+ssh://root@far/system"))
    assert "is its network on far routed to" in raised.value.hint


def test_a_command_may_end_with_255(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH", "0")
    assert entered("exit 255") == 255


@pytest.mark.parametrize("folder", ["plain", "a b", 'q"uote', "per%cent", "back\\slash", "ä"])
def test_ssh_reads_the_paths_of_the_blocks_as_they_are(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "BUILD", tmp_path / folder)
    at = ClusterPaths.of(TWO.name)
    config = tmp_path / "config"
    config.write_text(host_blocks(TWO, "admin"))
    assert read_back("-F", str(config), "test-compute-02") == {
        "hostname": ["192.168.150.12"],
        "user": ["admin"],
        "identityfile": [str(at.ssh_key)],
        "identitiesonly": ["yes"],
        "userknownhostsfile": [str(at.known_hosts)],
        "globalknownhostsfile": ["/dev/null"],
        "stricthostkeychecking": ["true"],
    }
    options = read_back(*ssh_words(TWO, "admin")[1:], "x")
    assert options["identityfile"] == [str(at.ssh_key)]
    assert options["userknownhostsfile"] == [str(at.known_hosts)]


def read_back(*words: str) -> dict[str, list[str]]:
    """What ssh makes of its options, by the keys that the blocks have."""
    done = subprocess.run(["/usr/bin/ssh", "-G", *words], capture_output=True, text=True, check=True)
    wanted = ("hostname", "user", "identit", "userknown", "globalknown", "stricthost")
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        if key.startswith(wanted) and key != "identityagent":
            # It takes the tokens out of this one only when it reads the key (ssh_config(5), TOKENS).
            found.setdefault(key, []).append(value.replace("%%", "%") if key == "identityfile" else value)
    return found


def test_the_blocks_of_another_user_name_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = host_blocks(TWO, "alice")
    assert "User alice\n" in blocks
    assert "Identit" not in blocks
    assert blocks.count("StrictHostKeyChecking yes") == 3


@pytest.mark.parametrize("folder", ["${HOME}", "a\nb"])
def test_a_path_that_ssh_cannot_take_is_refused(folder: str) -> None:
    with pytest.raises(HpcstateError, match="ssh cannot take a path"):
        option_value(Path("/x") / folder)
