"""The command of the fact Apptainer, run with sh on a tree made here and with stand-ins for programs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hpcstate.probe import apptainer
from tests.facts.machine import AWKWARD, programs, stand_in


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """The base system's programs that the command needs, and nothing else."""
    return programs(tmp_path / "bin", ("cat", "sed", "stat", "timeout"))


def look(root: Path, tools: Path) -> apptainer.Apptainer:
    done = subprocess.run(
        ["/bin/sh", "-c", apptainer.command(str(root))],
        env={"PATH": str(tools)},
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not (root / "pwned").exists()
    return apptainer.parse(done.stdout)


def test_a_machine_without_any_of_it(tmp_path: Path, tools: Path) -> None:
    root = tmp_path / AWKWARD
    root.mkdir()
    assert look(root, tools) == apptainer.parse("")


def test_what_is_there_is_told(tmp_path: Path, tools: Path) -> None:
    root = tmp_path / AWKWARD
    for path, content in {
        "etc/apptainer/apptainer.conf": "# allow setuid = yes\n\n  allow setuid = no\nbind path = /a b\n",
        "etc/subuid": "hpc:131072000:65536\n",
        "etc/subgid": "hpc:131072000:65536",
        "dev/fuse": "",
        "proc/sys/user/max_user_namespaces": "7843\n",
        "proc/sys/kernel/unprivileged_userns_clone": "0\n",
        "usr/lib/x86_64-linux-gnu/apptainer/bin/starter-suid": "",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    (root / "dev/fuse").chmod(0o640)
    (root / "usr/lib/x86_64-linux-gnu/apptainer/bin/starter-suid").chmod(0o4755)
    stand_in(tools, "dpkg-query", "printf 'installed 1.4.5-2'")
    stand_in(tools, "squashfuse", "")
    found = look(root, tools)
    assert found["version"] == "1.4.5-2"
    assert found["settings"] == {"allow setuid": ["no"], "bind path": ["/a b"]}
    assert not found["user_namespaces"]
    assert (found["fuse_mode"], found["programs"]) == ("640", ["squashfuse"])
    assert found["setuid"] == [f"{root}/usr/lib/x86_64-linux-gnu/apptainer/bin/starter-suid"]
    assert found["subuid"] == found["subgid"] == [{"user": "hpc", "start": 131072000, "count": 65536}]


def test_a_program_that_is_no_package_is_asked_itself(tmp_path: Path, tools: Path) -> None:
    stand_in(tools, "dpkg-query", "printf 'config-files 1.1.0'")
    stand_in(tools, "apptainer", "echo apptainer version 1.3.6")
    assert look(tmp_path, tools)["version"] == "1.3.6"


@pytest.mark.parametrize(
    ("version", "enough"),
    [
        ("1.4.5-2", True),
        ("1.2.0", True),
        ("1.2", True),
        ("1:1.10.1-1", True),
        ("1.1.9-1", False),
        ("", False),
    ],
)
def test_versions_are_compared_by_number(version: str, enough: bool) -> None:
    assert apptainer.is_at_least(version, "1.2") is enough
