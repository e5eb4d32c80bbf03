"""Where Apptainer runs: the host's own where it will do, and the way into the tools root."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from hpcstate.container import toolbox as tools_root
from hpcstate.container.toolbox import OF_THE_HOST, Toolbox, entered
from hpcstate.errors import HpcstateError
from hpcstate.run import run


def fake_apptainer(folder: Path, script: str) -> None:
    program = folder / "apptainer"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("script", "version"),
    [
        ("echo 1.4.5", "1.4.5"),
        ("echo 1.2.0-1.el9", "1.2.0-1.el9"),
        ("echo 2.0", "2.0"),
        ("echo 1.1.9", None),
        ("echo apptainer version", None),
        ("exit 1", None),
    ],
)
def test_the_hosts_own_from_1_2_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, version: str | None
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    fake_apptainer(tmp_path, script)
    found = tools_root.of_the_host()
    assert (found.versions["apptainer"] if found else None) == version


def test_a_host_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tools_root.of_the_host() is None


def test_paths_are_those_that_the_command_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools_root, "is_root", lambda: False)
    binds = {Path("/build/work"): "/work", Path("/keys/key.pem"): "/sign/key.pem"}
    inside, host = Toolbox(Path("/root")), Toolbox(None)
    assert inside.at(Path("/build/work"), binds) == "/work"
    assert inside.at(Path("/build/work/a/b.sif"), binds) == "/work/a/b.sif"
    assert inside.at(Path("/keys/key.pem"), binds) == "/sign/key.pem"
    assert host.at(Path("/build/work/a/b.sif"), binds) == "/build/work/a/b.sif"
    with pytest.raises(ValueError, match="is not below"):
        inside.at(Path("/etc/passwd"), binds)
    monkeypatch.setattr(tools_root, "is_root", lambda: True)
    assert host.at(Path("/build/work/a/b.sif"), binds) == "/run/hpcstate/work/a/b.sif"


def test_the_command_line_names_root_binds_and_command() -> None:
    words = [str(word) for word in entered(Path("/r"), ["apptainer", "version"], {Path("/a"): "/b"})]
    assert words[0] == "unshare"
    assert words[words.index("/r") :] == ["/r", "/a", "/b", "--", "apptainer", "version"]
    assert ("--map-auto" in words) is (os.geteuid() != 0)


def test_root_runs_nothing_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the tools root nor by an Apptainer of the machine's own; a user has a user's rights."""
    monkeypatch.setattr(tools_root, "is_root", lambda: True)
    monkeypatch.setattr(tools_root, "id_base", lambda *_: 100000)
    for toolbox, root in ((Toolbox(Path("/r")), "/r"), (Toolbox(None), "/")):
        words = [str(word) for word in toolbox.words(["apptainer"], {}, {Path("/here"): "/mnt"})]
        assert words[-7:] == ["100000", "--plain", "/here", "/mnt", root, "--", "apptainer"]
        assert "--pid" not in toolbox.contained
    monkeypatch.setattr(tools_root, "is_root", lambda: False)
    assert Toolbox(None).words(["apptainer"], {}) == ["apptainer"]
    assert Toolbox(None).contained == ("--containall",)


WHOLE = "         0          0 4294967295\n"


@pytest.mark.parametrize(
    ("uid_map", "subuid", "base"),
    [
        (WHOLE, "", 0x6FFF0000),
        (WHOLE, "someone:100000:65536\n", 0x6FFF0000),
        (WHOLE, "someone:100000:65536\nroot:200000:65536\n", 200000),
        (WHOLE, "0:300000:131072\n", 300000),
        (WHOLE, "root:200000:1000\n", 0x6FFF0000),
        (WHOLE, "root:x:y\n\nroot\n", 0x6FFF0000),
        ("0 100000 65536\n", "root:200000:65536\n", 0),
    ],
)
def test_the_ids_of_what_is_foreign(uid_map: str, subuid: str, base: int) -> None:
    assert tools_root.id_base(uid_map, subuid) == base


def test_what_apptainer_says_last_is_the_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools_root, "is_root", lambda: False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    fake_apptainer(tmp_path, "echo INFO >&2; echo 'FATAL: no such file' >&2; exit 255")
    with pytest.raises(HpcstateError, match=r"(?s)apptainer inspect exited with 255.*FATAL: no such file"):
        Toolbox(None).apptainer(["--silent", "inspect", "x.sif"])


def test_the_users_own_variables_do_not_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools_root, "is_root", lambda: False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name in ("APPTAINER_BIND", "SINGULARITY_NV", "PYTHONPATH"):
        monkeypatch.setenv(name, "set")
    fake_apptainer(tmp_path, "env")
    said = Toolbox(None).apptainer(["version"]).stdout
    assert "set" not in [line.partition("=")[2] for line in said.splitlines()]
    assert "SOURCE_DATE_EPOCH=" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose rights are to be kept from it")
def test_an_apptainer_of_the_machine_has_none_of_roots_rights_on_it(tmp_path: Path) -> None:
    """With a shell in its place. The value that is written is the one that is there."""
    secret, shown, here = tmp_path / "key=1", tmp_path / "a=b c", tmp_path / "here"
    for folder in (shown, here):
        folder.mkdir(0o700)
    for file in (secret, shown / "file", here / "file"):
        file.write_text("said\n")
        file.chmod(0o600)
    pattern = "/proc/sys/kernel/core_pattern"
    script = f"""
        cat {OF_THE_HOST}/shown=1/file
        echo of the project >{OF_THE_HOST}/shown=1/new
        for file in /etc/shadow {OF_THE_HOST}/here/file; do head -c 1 $file && echo "harm: $file"; done
        read line <{pattern}; (echo "$line" >{pattern}) && echo "harm: {pattern}"
        (: >/etc/hpcstate-was-here) && echo "harm: /etc"
        mknod {OF_THE_HOST}/disk b 254 0 && echo "harm: a disk"
        true
    """
    words = entered(Path("/"), ["sh", "-c", script], {shown: "/shown=1"}, plain={here: "/here"})
    assert run(words).stdout == "said\n"
    assert (shown / "new").stat().st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user needs subordinate ids (subuid(5))")
def test_what_runs_in_it_ends_with_who_called_it(tmp_path: Path) -> None:
    """Also when that is killed: the change of ids takes back what unshare(1) had asked the kernel for."""
    words = entered(Path("/"), ["sh", "-c", "echo started; exec sleep 20"], {})
    with subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline() == b"started\n"
        began = time.monotonic()
        caller.kill()
        caller.wait(10)
        # The other end of the pipe is closed when the last of them has ended.
        assert caller.stdout.read() == b"" and time.monotonic() - began < 10
