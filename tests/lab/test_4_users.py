"""People on a living cluster: one leaves the file and comes back, and what runs goes on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcstate.node.base_files import KEYS
from hpcstate.node.ssh import Live
from hpcstate.node.users import RECORD, SUDOERS
from tests.lab.conftest import pyinfra, results

USERS = "deploys/users.py"
BOB = re.compile(r"(?ms)^      - name: bob$.*?(?=^    groups:$)")
STATE = (
    f"getent shadow bob | cut -d: -f8; ls -d {KEYS}/bob {SUDOERS} /home/bob 2>/dev/null; grep bob {RECORD}; "
    "id -nG bob"
)


@pytest.fixture
def file(cluster_file: Path) -> Iterator[Path]:
    """The cluster file, put back and deployed after a test that changed it."""
    text = cluster_file.read_text()
    yield cluster_file
    cluster_file.write_text(text)
    assert pyinfra(cluster_file, "-y", deploy=USERS).returncode == 0


def test_one_who_leaves_is_locked_and_comes_back(live: Live, file: Path) -> None:
    names = [node.name for node in live.nodes]
    before = live.run_each(dict.fromkeys(names, STATE), user="root")
    there = ["", f"{KEYS}/bob", SUDOERS, "/home/bob", "user bob 2002", "bob sudo"]
    assert {answer.stdout for answer in before.values()} == {"\n".join((*there, ""))}
    process = live.run(
        "controller", "runuser -u bob -- sh -c 'sleep 900 >/dev/null 2>&1 & echo $!'", user="root"
    ).stdout.strip()
    try:
        text = file.read_text()
        file.write_text(BOB.sub("", text))
        done = pyinfra(file, "--json", "-y", deploy=USERS)
        assert done.returncode == 0, done.stderr[-3000:]
        assert list(results(done.stdout)) == ["Users and groups"]
        left = live.run_each(dict.fromkeys(names, STATE), user="root")
        gone = ["1", "/home/bob", "user bob 2002 left", "bob"]
        assert {answer.stdout for answer in left.values()} == {"\n".join((*gone, ""))}
        assert live.run("controller", f"kill -0 {process}", user="root", check=False).code == 0
        assert results(pyinfra(file, "--json", "-y", deploy=USERS).stdout) == {}
        file.write_text(text)
        assert pyinfra(file, "-y", deploy=USERS).returncode == 0
        again = live.run_each(dict.fromkeys(names, STATE), user="root")
        assert {answer.stdout for answer in again.values()} == {"\n".join((*there, ""))}
    finally:
        live.run("controller", f"kill {process}", user="root", check=False)


def test_an_account_made_by_hand_is_left_alone_and_named(live: Live, file: Path) -> None:
    node = live.workers[-1].name
    live.run(node, "useradd --uid 2050 --no-create-home carol", user="root")
    try:
        text = file.read_text()
        carol = "      - name: carol\n        uid: 2051\n"
        file.write_text(text.replace("    groups:\n", f"{carol}    groups:\n", 1))
        done = pyinfra(file, "-y", deploy=USERS)
        assert done.returncode != 0
        assert "the user carol has the number 2050 here, 2051 in the cluster file" in done.stderr
        assert live.run(node, "id -u carol").stdout.strip() == "2050"
    finally:
        file.write_text(text)
        live.run(node, "userdel carol", user="root")
        others = [other.name for other in live.nodes if other.name != node]
        undo = f"userdel carol; rm -rf /home/carol; sed -i '/^user carol /d' {RECORD}"
        live.run_each(dict.fromkeys(others, undo), user="root", check=False)
