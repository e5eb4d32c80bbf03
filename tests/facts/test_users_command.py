"""users.sh for real; only the databases of accounts are stand-ins."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from hpcstate.probe import users
from tests.facts.machine import programs, run, stand_in

TOOLS = ("sh", "sed", "cut", "sort", "stat", "sha256sum", "grep")
GETENT = """for word in "$@"; do grep -E "^$word:|^[^:]*:x:$word:" "$FILES/$1"; done 2>/dev/null
exit 2
"""


@pytest.fixture
def node(tmp_path: Path) -> Path:
    stand_in(programs(tmp_path / "tools", TOOLS), "getent", GETENT.replace("$FILES", str(tmp_path)))
    (tmp_path / "keys").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/bash\nalice:x:2001:2001:A:/home/alice:/bin/sh\n"
    )
    (tmp_path / "shadow").write_text("root:*:1:0:9:7:::\nalice:!*:1:0:9:7::1:\n")
    (tmp_path / "group").write_text("sudo:x:27:alice\nphysics:x:3001:\nother:x:3002:\n")
    return tmp_path


def ask(node: Path, *words: str, homes: bool = True) -> users.UsersState:
    question = users.command(
        words,
        record=str(node / "record"),
        keys=str(node / "keys"),
        sudoers=str(node / "sudoers"),
        homes=str(node / "home") if homes else "",
    )
    return users.parse(run(question, node / "tools", node))


def test_a_host_with_nothing_of_ours(node: Path) -> None:
    assert ask(node) == {**users.parse(""), "groups": {"sudo": {"gid": 27, "members": ["alice"]}}}


def test_names_and_numbers_that_are_asked_for(node: Path) -> None:
    found = ask(node, "nobody", "2001", "3001")
    assert set(found["users"]) == {"alice"}
    assert found["users"]["alice"]["shell"] == "/bin/sh"
    assert set(found["groups"]) == {"sudo", "physics"}


def test_those_of_the_record_are_asked_for_too(node: Path) -> None:
    (node / "record").write_text("user alice 2001 left\ngroup physics 3001\n")
    found = ask(node, "alice")
    assert found["noted_users"] == {"alice": {"number": 2001, "left": True}}
    assert (found["ends"], set(found["groups"])) == ({"alice": "1"}, {"sudo", "physics"})
    assert found["noted_groups"] == {"physics": {"number": 3001, "left": False}}


def test_files_and_homes(node: Path) -> None:
    (node / "keys/alice").write_text("ssh-ed25519 x\n")
    (node / "keys/alice").chmod(0o600)
    (node / "keys/.hidden").touch()
    (node / "keys/a folder").mkdir()
    (node / "sudoers").write_text("x\n")
    (node / "home/alice").mkdir()
    (node / "home/lost + found").mkdir()
    (node / "home/file").touch()
    owner = (node / "home").stat().st_uid
    found = ask(node)
    assert list(found["keys"]) == ["alice"]
    assert found["keys"]["alice"]["mode"] == "600"
    assert found["keys"]["alice"]["sha256"] == hashlib.sha256(b"ssh-ed25519 x\n").hexdigest()
    assert found["sudoers"] and found["sudoers"]["sha256"] == hashlib.sha256(b"x\n").hexdigest()
    assert found["homes"] == {f"{node}/home/alice": owner, f"{node}/home/lost + found": owner}
    assert ask(node, homes=False)["homes"] == {}
