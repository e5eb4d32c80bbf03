"""The suite users on a directory of people, with answers that stand in for nodes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate.check.runner import load_suites, run_check
from hpcstate.model import AccountingSettings, AccountUser, LdapDirectory
from tests.unit.fake_live import TWO, FakeLive

(CHECK,) = load_suites().select(name="users.directory")
URI = "ldaps://ldap.example.org"
CLUSTER = replace(
    TWO,
    directory=LdapDirectory((URI, "ldap://b"), "dc=x", ca_file=Path("/x"), allow_groups=("hpc users",)),
    accounting=AccountingSettings(users=(AccountUser("carol", ("default",), "default"),)),
)
WELL = (
    f"sssd active\nconf 600 root\nserver {URI} ok\nserver ldap://b no answer in 10 s\n"
    "group 7000 hpc users\nperson 7010 carol\nseconds 0\n"
)


def test_without_a_directory_it_is_skipped() -> None:
    assert run_check(CHECK, FakeLive(lambda node, script: "", TWO)).outcome == "skipped"


@pytest.mark.parametrize(
    ("now", "then", "said"),
    [
        ("", "", ""),
        ("sssd active", "sssd failed", "compute-02: sssd does not run"),
        ("conf 600", "conf 644", "sssd.conf is not there, or not root's alone"),
        ("conf 600 root\n", "", "sssd.conf is not there, or not root's alone"),
        (f"{URI} ok", f"{URI} self-signed certificate", f"{URI} self-signed certificate, ldap://b no answer"),
        ("person 7010 carol", "unknown carol", "the directory has no carol"),
        ("group 7000", "group 7001", "hpc users has the numbers 7000, 7001"),
        ("seconds 0", "seconds 60", "one waits 60 s"),
        ("seconds 0\n", "", "one waits too many s"),
        (WELL, "", "nothing is said of a server"),
    ],
)
def test_what_a_node_says(now: str, then: str, said: str) -> None:
    scripts = []

    def answer(node: str, script: str) -> str:
        scripts.append(script)
        return WELL.replace(now, then, 1) if node == "compute-02" and now else WELL

    done = run_check(CHECK, FakeLive(answer, CLUSTER))
    assert done.outcome == ("failed" if said else "passed"), done
    assert (said or f"3 nodes: {URI} ok, ldap://b no answer in 10 s") in done.observed, done
    assert f"set -- {URI} ldap://b -- 'hpc users' -- carol" in scripts[0]
