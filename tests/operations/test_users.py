"""The accounts of people: what is done about which difference, what is never touched; and the program."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpcstate import programs
from hpcstate.model import Group, User
from hpcstate.node.file_change import HIDDEN
from hpcstate.node.users import WantedUsers, ended, keys_text, sudoers_text
from operations import users
from operations.util import difference
from tests.operations.harness import FakeState, Outcome, run

FACT = "facts.users.Users"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAefDR2rSyGLYlFIhQw99swjx8UnLhql34ZgUt6R034u a@b"
ALICE = User("alice", 2001, ("physics",), "Alicia Müller", "/bin/bash", (KEY,), admin=True)
PHYSICS = Group("physics", 3001)
WANTED = WantedUsers((ALICE,), (PHYSICS,), homes=True)
NOBODY = WantedUsers((), (), homes=True)


def file(text: str, mode: str) -> dict[str, str]:
    return {"mode": mode, "owner": "root:root", "sha256": hashlib.sha256(text.encode()).hexdigest()}


def entry(user: User) -> dict[str, Any]:
    return {
        "uid": user.uid,
        "gid": user.uid,
        "full_name": user.full_name,
        "home": f"/home/{user.name}",
        "shell": user.shell,
    }


def found(**changes: Any) -> dict[str, Any]:
    """A node that has Alice, and nothing else of ours."""
    return {
        "noted_users": {"alice": {"number": 2001, "left": False}},
        "noted_groups": {"physics": {"number": 3001, "left": False}},
        "users": {"alice": entry(ALICE)},
        "groups": {
            "alice": {"gid": 2001, "members": []},
            "physics": {"gid": 3001, "members": ["alice"]},
            "sudo": {"gid": 27, "members": ["alice"]},
        },
        "ends": {"alice": ""},
        "keys": {"alice": file(keys_text([KEY]), "644")},
        "sudoers": file(sudoers_text([ALICE]), "440"),
        "homes": {"/home/admin": 1000, "/home/alice": 2001},
        **changes,
    }


BARE: dict[str, Any] = {
    "noted_users": {},
    "noted_groups": {},
    "users": {},
    "groups": {"sudo": {"gid": 27, "members": []}},
    "ends": {},
    "keys": {},
    "sudoers": None,
    "homes": {"/home/admin": 1000},
}


def outcome(wanted: WantedUsers, state: dict[str, Any]) -> Outcome:
    return run(users.state, wanted, facts={FACT: {"*": state}})


def done(wanted: WantedUsers, state: dict[str, Any]) -> list[list[str]]:
    """The actions, each with its words."""
    made = outcome(wanted, state)
    if not made.commands:
        assert len(made.noops) == 1
        return []
    (command,) = made.commands
    assert isinstance(command, dict)
    return [line.split("\x1f") for line in command["_stdin"].splitlines()]


def refused(wanted: WantedUsers, state: dict[str, Any]) -> str:
    (command,) = outcome(wanted, state).commands
    assert isinstance(command, dict) and command["function"] == "fail"
    return str(command["args"][0])


def test_a_node_that_has_them_is_left_alone() -> None:
    assert done(WANTED, found()) == []
    assert done(NOBODY, BARE) == []


def test_a_new_node_gets_all_of_it() -> None:
    assert done(WANTED, BARE) == [
        ["group", "physics", "3001"],
        ["user", "alice", "2001", "/bin/bash", "Alicia Müller"],
        ["join", "alice", "physics"],
        ["join", "alice", "sudo"],
        ["keys", "alice", *keys_text([KEY]).splitlines()],
        ["home", "alice", "2001", "/home/alice"],
        ["sudoers", *sudoers_text([ALICE]).splitlines()],
    ]


def test_keys_do_not_stand_in_argv() -> None:
    (command,) = outcome(WANTED, BARE).commands
    assert isinstance(command, dict)
    assert KEY.split()[1] in command["_stdin"] and KEY.split()[1] not in command["command"]


def test_only_the_node_that_has_the_homes_makes_them() -> None:
    away = replace(WANTED, homes=False)
    assert "home" not in [action for action, *_ in done(away, {**BARE, "homes": {}})]
    assert (away.question["homes"], WANTED.question["homes"]) == ("", "/home")


@pytest.mark.parametrize(
    ("day", "named"), [("", False), ("0", True), ("20000", True), ("20001", False), ("1", False)]
)
def test_an_account_that_somebody_let_end_is_named_and_left(day: str, named: bool) -> None:
    (line,) = ended(WANTED, found(ends={"alice": day}), 20000) or [""]  # type: ignore[arg-type]
    assert ("the account of alice has ended" in line) is named
    assert not named or done(WANTED, found(ends={"alice": day})) == []


@pytest.mark.parametrize(
    ("user", "changes", "expected"),
    [
        ({"shell": "/bin/sh"}, {}, [["change", "alice", "--shell", "/bin/sh"]]),
        ({"full_name": ""}, {}, [["change", "alice", "--comment", ""]]),
        ({"groups": ()}, {}, [["quit", "alice", "physics"]]),
        ({"ssh_keys": ()}, {}, [["keys", "alice"]]),
        ({"admin": False}, {}, [["quit", "alice", "sudo"], ["sudoers"]]),
        ({}, {"ends": {"alice": "1"}}, [["back", "alice", "2001"]]),
        ({}, {"noted_users": {"alice": {"number": 2001, "left": True}}}, [["back", "alice", "2001"]]),
        ({}, {"homes": {}}, [["home", "alice", "2001", "/home/alice"]]),
        ({}, {"sudoers": file("alice ALL=ALL\n", "440")}, [["sudoers", *sudoers_text([ALICE]).splitlines()]]),
        (
            {},
            {"keys": {"alice": file(keys_text([KEY]), "666")}},
            [["keys", "alice", *keys_text([KEY]).splitlines()]],
        ),
        (
            {},
            {"users": {"alice": {**entry(ALICE), "gid": 100}}},
            [["own", "alice", "2001"]],
        ),
    ],
)
def test_what_differs_is_done(
    user: dict[str, Any], changes: dict[str, Any], expected: list[list[str]]
) -> None:
    wanted = replace(WANTED, users=(replace(ALICE, **user),))
    assert done(wanted, found(**changes)) == expected


def test_who_leaves_is_locked_and_keeps_the_rest() -> None:
    assert done(NOBODY, found()) == [
        ["keys", "alice"],
        ["leave", "alice", "2001"],
        ["quit", "alice", "sudo"],
        ["sudoers"],
    ]


def test_one_who_has_left_is_left_alone() -> None:
    gone = found(
        noted_users={"alice": {"number": 2001, "left": True}},
        ends={"alice": "1"},
        keys={},
        sudoers=None,
        groups={"sudo": {"gid": 27, "members": []}},
    )
    assert done(NOBODY, gone) == []
    deleted = {**gone, "users": {}, "ends": {}}
    assert done(NOBODY, deleted) == []


def test_a_lock_that_somebody_took_off_comes_back() -> None:
    opened = found(keys={}, sudoers=None, groups={}, noted_users={"alice": {"number": 2001, "left": True}})
    assert done(NOBODY, opened) == [["leave", "alice", "2001"]]


def test_an_account_that_was_deleted_is_made_again() -> None:
    deleted = found(users={}, ends={}, groups={"sudo": {"gid": 27, "members": []}}, noted_groups={})
    assert done(WANTED, deleted)[:3] == [
        ["group", "physics", "3001"],
        ["user", "alice", "2001", "/bin/bash", "Alicia Müller"],
        ["join", "alice", "physics"],
    ]


def test_other_groups_and_accounts_are_nobodys_business() -> None:
    others = found()
    others["groups"]["docker"] = {"gid": 999, "members": ["alice"]}
    others["users"]["carol"] = entry(User("carol", 2100))
    others["keys"]["carol"] = file("x", "600")
    assert done(WANTED, others) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"users": {"alice": {**entry(ALICE), "uid": 2345}}},
            "the user alice has the number 2345 here, 2001 in the cluster file",
        ),
        ({"noted_users": {}}, "the user alice was made by hand here"),
        ({"noted_users": {}}, "`echo user alice 2001 | sudo tee -a /etc/hpcstate/accounts`"),
        ({"noted_groups": {}}, "the group physics was made by hand here"),
        ({"groups": {"physics": {"gid": 3333, "members": []}}}, "the group physics has the number 3333 here"),
        ({"groups": {"alice": {"gid": 5000, "members": []}}}, "the group alice has the number 5000 here"),
        (
            {"users": {"admin": {**entry(ALICE), "uid": 2001}}},
            "the number 2001 of alice is that of the account admin here",
        ),
        (
            {"users": {}, "groups": {"staff2": {"gid": 2001, "members": []}}},
            "the number 2001 of alice is that of the group staff2 here",
        ),
        (
            {"groups": {"staff2": {"gid": 3001, "members": []}}},
            "the number 3001 of physics is that of the group",
        ),
        ({"homes": {"/home/alice": 1000}}, "/home/alice belongs to the number 1000, and alice is 2001"),
        ({"homes": {"/home/bob": 2001}}, "/home/bob belongs to the number 2001, which is that of alice"),
        (
            {"noted_users": {"bob": {"number": 2001, "left": True}}, "users": {}},
            "the number 2001 of alice was that of bob",
        ),
    ],
)
def test_what_is_somebody_elses_stops_the_host(changes: dict[str, Any], said: str) -> None:
    assert said in refused(WANTED, found(**changes))


def test_all_that_is_in_the_way_is_said_at_once() -> None:
    said = refused(WANTED, found(noted_users={}, noted_groups={}))
    assert len(said.splitlines()) == 2


# the program

STAND_IN = """#!/bin/sh
# What it is called with, and the accounts that there are, in $FAKE/getent.
name=$(basename "$0")
{ printf %s "$name"; printf ' [%s]' "$@"; echo; } >>"$FAKE/log"
case "$name" in
getent) grep -qxF "$1 $2" "$FAKE/getent" ;;
groupadd) eval "last=\\${$#}"; echo "group $last" >>"$FAKE/getent" ;;
visudo) ! grep -q wrong "${3#--file=}" ;;
chown) : ;;
esac
"""
PROGRAMS = ("getent", "groupadd", "useradd", "usermod", "gpasswd", "visudo", "chown")


class Node:
    """A node in temporary folders, with stand-ins for what changes accounts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record = folder / "etc/hpcstate/accounts"
        self.keys = folder / "etc/ssh/keys.d"
        self.sudoers = folder / "etc/sudoers.d/hpcstate-users"
        self.home = folder / "home"
        self.home.mkdir()
        (folder / "skel").mkdir()
        (folder / "skel/.profile").write_text("hello\n")
        (folder / "getent").touch()
        (folder / "bin").mkdir()
        for name in PROGRAMS:
            (folder / "bin" / name).write_text(STAND_IN)
            (folder / "bin" / name).chmod(0o755)

    def run(self, *todo: Sequence[str]) -> subprocess.CompletedProcess[str]:
        (self.folder / "log").write_text("")
        text = programs.command(
            programs.REPLACE,
            users.PROGRAM,
            record=self.record,
            keys=self.keys,
            sudoers=self.sudoers,
            skeleton=self.folder / "skel",
        )
        return subprocess.run(
            ["sh", "-c", text],
            env={"PATH": f"{self.folder}/bin:{os.defpath}", "FAKE": str(self.folder)},
            input=users.said(tuple(step) for step in todo),
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def calls(self) -> list[str]:
        return [
            line for line in (self.folder / "log").read_text().splitlines() if not line.startswith("getent")
        ]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_an_account_has_no_password_no_home_and_no_numbers_of_useradds_choice(node: Node) -> None:
    assert node.run(["user", "alice", "2001", "/bin/bash", "Alicia $(id) Müller"]).stderr == ""
    assert node.calls == [
        "groupadd [--gid] [2001] [alice]",
        "useradd [--uid] [2001] [--gid] [2001] [--home-dir] [/home/alice] [--no-create-home] "
        "[--shell] [/bin/bash] [--comment] [Alicia $(id) Müller] [--password] [*] "
        "[--key] [SUB_UID_COUNT=0] [--key] [SUB_GID_COUNT=0] [alice]",
    ]
    assert node.record.read_text() == "user alice 2001\n"


def test_one_without_a_full_name(node: Node) -> None:
    assert node.run(["user", "alice", "2001", "/bin/bash", ""]).returncode == 0
    assert "[--comment] []" in node.calls[-1]


def test_the_record_has_a_line_for_each(node: Node) -> None:
    node.run(
        ["group", "physics", "3001"], ["user", "alice", "2001", "/bin/sh", ""], ["leave", "alice", "2001"]
    )
    assert node.record.read_text() == "group physics 3001\nuser alice 2001 left\n"
    assert node.calls[-1] == "usermod [--lock] [--expiredate] [1] [alice]"
    node.run(["back", "alice", "2001"], ["back", "alice", "2001"], ["user", "al", "2005", "/bin/sh", ""])
    assert node.record.read_text() == "group physics 3001\nuser alice 2001\nuser al 2005\n"
    assert node.calls[0] == "usermod [--password] [*] [--expiredate] [] [alice]"
    assert node.record.stat().st_mode & 0o777 == 0o644


def test_changes_and_groups(node: Node) -> None:
    node.run(
        ["change", "alice", "--comment", "", "--shell", "/bin/sh"],
        ["own", "alice", "2001"],
        ["join", "alice", "physics"],
        ["quit", "alice", "sudo"],
    )
    assert node.calls == [
        "usermod [--comment] [] [--shell] [/bin/sh] [alice]",
        "groupadd [--gid] [2001] [alice]",
        "usermod [--gid] [2001] [alice]",
        "gpasswd [--add] [alice] [physics]",
        "gpasswd [--delete] [alice] [sudo]",
    ]


def test_a_home_is_made_once(node: Node) -> None:
    home = node.home / "alice"
    (node.home / ".alice.hpcstate-new").mkdir()
    (node.home / ".alice.hpcstate-new/half").touch()
    assert node.run(["home", "alice", "2001", str(home)]).returncode == 0
    assert [path.name for path in home.iterdir()] == [".profile"]
    assert home.stat().st_mode & 0o777 == 0o700
    (home / ".profile").write_text("mine\n")
    node.run(["home", "alice", "2001", str(home)])
    assert (home / ".profile").read_text() == "mine\n"
    assert [path.name for path in node.home.iterdir()] == ["alice"]
    assert [path.name for path in home.iterdir()] == [".profile"]


def test_keys_come_and_go(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IFS", raising=False)
    text = keys_text([KEY, "ssh-rsa AAAA it's * $(id) `id` \\n"])
    assert node.run(["keys", "alice", *text.splitlines()]).returncode == 0
    path = node.keys / "alice"
    assert (path.read_text(), path.stat().st_mode & 0o777) == (text, 0o644)
    assert node.keys.stat().st_mode & 0o777 == 0o755
    assert node.run(["keys", "alice"], ["keys", "alice"]).returncode == 0
    assert not path.exists()


def test_what_sudo_cannot_read_does_not_get_there(node: Node) -> None:
    text = sudoers_text([ALICE, replace(ALICE, name="bob")])
    assert node.run(["sudoers", *text.splitlines()]).returncode == 0
    assert (node.sudoers.read_text(), node.sudoers.stat().st_mode & 0o777) == (text, 0o440)
    failed = node.run(["sudoers", "wrong"], ["keys", "alice", KEY])
    assert failed.returncode == 1 and "stays as it is" in failed.stderr
    assert node.sudoers.read_text() == text
    assert [path.name for path in node.sudoers.parent.iterdir()] == [node.sudoers.name]
    assert not (node.keys / "alice").exists(), "an action that failed is the last one"
    assert node.run(["sudoers"]).returncode == 0 and not node.sudoers.exists()


def test_only_admins_are_in_the_file_of_sudo() -> None:
    text = sudoers_text([ALICE, replace(ALICE, name="bob", admin=False)])
    assert text.endswith("\nalice ALL=(ALL:ALL) NOPASSWD: ALL\n") and "bob" not in text
    assert sudoers_text([replace(ALICE, admin=False)]) == ""


def test_the_keys_that_change_are_shown_and_sudo_is_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(FakeState.config, "DIFF", True)
    other = "ssh-rsa AAAAB3Nz other@b"
    before = keys_text([other])
    facts: dict[str, Any] = {
        FACT: {
            "*": found(keys={"alice": file(before, "644"), "bob": file(before, "644")}, sudoers=None)
            | {
                "noted_users": {
                    "alice": {"number": 2001, "left": False},
                    "bob": {"number": 2002, "left": False},
                }
            }
        },
        "files.FileContents": {"*": before.splitlines()},
    }
    told: list[str] = []
    monkeypatch.setattr(
        difference, "_tell", lambda change, title, lines: told.append(f"{title} {change.diff}")
    )
    assert run(users.state, WANTED, facts=facts).commands
    text = "\n".join(told)
    assert f"-{other}" in text and f"+{KEY}" in text and "/alice" in text
    assert "Will remove" in text and "/bob" in text
    assert "NOPASSWD" not in text and HIDDEN in text
