"""The command of the fact Apptainer, run with sh on a tree made here and with stand-ins for programs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hpcstate.probe import apptainer

AWKWARD = 'it\'s "a" name $(touch pwned)'


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The base system's programs that the command needs, and nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("cat", "sed", "stat", "timeout"):
        (folder / name).symlink_to(subprocess.check_output(["which", name], text=True).strip())
    return folder


def look(root: Path, programs: Path) -> apptainer.Apptainer:
    done = subprocess.run(
        ["/bin/sh", "-c", apptainer.command(str(root))],
        env={"PATH": str(programs)},
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not (root / "pwned").exists()
    return apptainer.parse(done.stdout)


def test_a_machine_without_any_of_it(tmp_path: Path, programs: Path) -> None:
    root = tmp_path / AWKWARD
    root.mkdir()
    assert look(root, programs) == apptainer.parse("")


def test_what_is_there_is_told(tmp_path: Path, programs: Path) -> None:
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
    program(programs, "dpkg-query", "printf 'installed 1.4.5-2'")
    program(programs, "squashfuse", "")
    found = look(root, programs)
    assert found["version"] == "1.4.5-2"
    assert found["settings"] == {"allow setuid": ["no"], "bind path": ["/a b"]}
    assert not found["user_namespaces"]
    assert (found["fuse_mode"], found["programs"]) == ("640", ["squashfuse"])
    assert found["setuid"] == [f"{root}/usr/lib/x86_64-linux-gnu/apptainer/bin/starter-suid"]
    assert found["subuid"] == found["subgid"] == [{"user": "hpc", "start": 131072000, "count": 65536}]


def test_a_program_that_is_no_package_is_asked_itself(tmp_path: Path, programs: Path) -> None:
    program(programs, "dpkg-query", "printf 'config-files 1.1.0'")
    program(programs, "apptainer", "echo apptainer version 1.3.6")
    assert look(tmp_path, programs)["version"] == "1.3.6"


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
