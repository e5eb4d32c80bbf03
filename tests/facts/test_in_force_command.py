"""in_force.sh for real, on a tree made here and with stand-ins for what a node has and others may lack."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from hpcstate.probe import in_force
from tests.facts.machine import AWKWARD, programs, run, stand_in

TOOLS = ("sh", "cat", "sed", "tr", "stat", "sha256sum", "timeout", "grep")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    folder = programs(tmp_path / "tools", TOOLS)
    stand_in(folder, "uname", "echo compute-01")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / AWKWARD


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_host_with_nothing_says_its_name(root: Path, tools: Path, tmp_path: Path) -> None:
    question = in_force.command(
        places=[str(root / "none")],
        kernel=["user.max_user_namespaces"],
        rules="/etc/nftables.conf",
        table="inet hpcstate",
        beside=["/etc/*.conf"],
        sets="^a",
        root=str(root),
    )
    assert in_force.parse(run(question, tools, tmp_path)) == {**in_force.parse(""), "host": "compute-01"}


def test_what_is_in_force_is_told(root: Path, tools: Path, tmp_path: Path) -> None:
    write(root / "etc/hostname", "other\n")
    write(root / "proc/sys/user/max_user_namespaces", "0\n")
    write(root / "run/chrony/chronyd.sock")
    for name, text in (("01-x", "user.max_user_namespaces = 0"), ("02-y", "# user.max_user_namespaces")):
        write(root / f"etc/sysctl.d/{name}.conf", text)
    place = root / "a place"
    write(place)
    place.chmod(0o640)
    stand_in(tools, "getent", 'echo "hpc:x:2000:2000::/home/hpc:/bin/bash"')
    stand_in(tools, "systemctl", "printf 'Id=slurmd.service\\nLoadState=loaded\\nNeedDaemonReload=yes\\n'")
    stand_in(tools, "chronyc", "echo '^,*,192.168.170.10,10,4,377,6,0.1,0.1,0.1'")
    stand_in(tools, "unshare", 'shift; LOADED=file exec "$@"')
    stand_in(tools, "nft", 'case $1 in -s) echo "$* $LOADED" ;; -f) [ -n "$LOADED" ] ;; esac')
    question = in_force.command(
        places=[str(place)],
        accounts=["hpc", "munge"],
        kernel=["user.max_user_namespaces", "kernel.none"],
        units=["slurmd.service"],
        rules="/etc/nftables.conf",
        table="inet hpcstate",
        beside=["/etc/none/*", "/etc/sysctl.d/0*.conf"],
        sets="^user",
        root=str(root),
    )
    found = in_force.parse(run(question, tools, tmp_path))
    assert found["named"] == "other"
    assert found["accounts"]["hpc"]["uid"] == 2000
    assert found["places"][str(place)]["mode"] == "640"
    assert found["kernel"] == {"user.max_user_namespaces": "0"}
    assert found["units"]["slurmd"]["reload"]
    assert found["sources"] == ["192.168.170.10"]
    assert found["beside"] == ["/etc/sysctl.d/01-x.conf", "/etc/sysctl.d/02-y.conf"]
    assert found["sets"] == ["/etc/sysctl.d/01-x.conf"]
    digests = [hashlib.sha256(f"-s list table inet hpcstate {how}\n".encode()) for how in ("", "file")]
    assert [found["rules_loaded"], found["rules_file"]] == [digest.hexdigest() for digest in digests]
    assert not list(tmp_path.rglob("pwned"))


def test_no_table_is_no_digest(root: Path, tools: Path, tmp_path: Path) -> None:
    stand_in(tools, "unshare", "exit 1")
    stand_in(tools, "nft", "exit 1")
    found = in_force.parse(run(in_force.command(rules="/r", table="inet t"), tools, tmp_path))
    assert (found["rules_loaded"], found["rules_file"]) == ("", "")
