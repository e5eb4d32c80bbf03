"""The operations on Apptainer: the package, and the subordinate numbers of users."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.command import FileUploadCommand

from hpcstate.errors import HpcstateError
from hpcstate.host import tools
from hpcstate.node.drift import NAMED
from hpcstate.probe import apptainer as probe
from operations import apptainer
from operations.util import commands
from tests.operations.harness import Outcome, run

HPC = {"user": "hpc", "start": 131072000, "count": 65536}
ADMIN = {"user": "admin", "start": 100000, "count": 65536}


def fact(version: str = "", subuid: Any = (), subgid: Any = ()) -> dict[str, Any]:
    return {**probe.parse(""), "version": version, "subuid": list(subuid), "subgid": list(subgid)}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the package file would be fetched to; a text file, which the harness can show."""
    file = tmp_path / "apptainer_1.4.5-2_amd64.deb"
    file.write_text("package\n")
    monkeypatch.setattr(tools, "deb_path", lambda deb: file)
    return file


def install(version: str) -> Outcome:
    return run(apptainer.installed, at_least="1.2", facts={"facts.apptainer.Apptainer": fact(version)})


@pytest.mark.parametrize("version", ["", "1.1.9-1"])
def test_a_missing_or_old_apptainer_is_installed_from_the_pinned_file(package: Path, version: str) -> None:
    fetched, folder, upload, update, installed = install(version).commands
    deb = tools.load().debs["apptainer"]
    assert fetched == {"function": "_fetch", "args": [deb], "kwargs": {}}
    there = f"{apptainer.FOLDER}/{package.name}"
    assert "install -d -m 700 -o root -g root" in str(folder)
    assert upload == {"upload": there, "content": "package\n"}
    assert "apt-get" in str(update)
    # The digest comes last before it is used, where no other user can write.
    assert f"set -- {there} {deb.sha256} -o Dpkg::Options::=--force-confold\n" in str(installed)


WRITABLE = ("/tmp/", "/var/tmp/", "/dev/shm/")


def test_root_reads_nothing_that_any_user_could_have_put_there(package: Path) -> None:
    """Neither at the end nor on the way: pyinfra would take /tmp/pyinfra-HASH, which can be known."""
    outcome = install("")
    uploads = [command for command in outcome.raw if isinstance(command, FileUploadCommand)]
    assert [command.remote_temp_filename for command in uploads] == [f".hpcstate-{package.name}"]
    assert not [name for command in outcome.commands for name in WRITABLE if name in str(command)]


@pytest.mark.parametrize("genuine", [True, False])
def test_a_package_with_another_digest_is_not_installed_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, genuine: bool
) -> None:
    monkeypatch.setattr(apptainer, "FOLDER", str(tmp_path / "folder"))
    apt = tmp_path / "apt"
    apt.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/installed\n')
    apt.chmod(0o755)
    monkeypatch.setattr(apptainer, "APT_GET", f"LC_ALL=C {apt}")
    (tmp_path / "folder").mkdir(0o700)
    (tmp_path / "folder/a.deb").write_bytes(b"package\n")
    sha256 = hashlib.sha256(b"package\n" if genuine else b"other\n").hexdigest()
    done = subprocess.run(["sh", "-c", apptainer._install(f"{tmp_path}/folder/a.deb", sha256)], check=False)
    assert (done.returncode == 0, (tmp_path / "installed").exists()) == (genuine, genuine)
    if genuine:
        words = (tmp_path / "installed").read_text()
        assert words.startswith("install --no-install-recommends -o Dpkg::Options::=--force-confold ")
        assert words.endswith(f" {tmp_path}/folder/a.deb\n")
    assert not (tmp_path / "folder").exists()


def test_what_apptainer_lacks_is_named_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_named", set())
    suid = "/usr/libexec/apptainer/bin/starter-suid"
    there = [name for name in probe.PROGRAMS if name != "squashfuse"]
    for found, names in (({"programs": there, "setuid": [suid]}, 2), ({"programs": list(probe.PROGRAMS)}, 0)):
        outcome = run(apptainer.named, facts={"facts.apptainer.Apptainer": {**fact("1.4.5"), **found}})
        assert (outcome.commands, len(outcome.noops), len(outcome.host.said)) == ([], 1, names)
        if names:
            assert outcome.host.said[0].startswith(f"{NAMED}squashfuse, which Apptainer starts")
            assert outcome.host.said[1].startswith(f"{NAMED}{suid} runs as root")


@pytest.mark.parametrize("version", ["1.2.0", "1.4.5-2", "1.5.0"])
def test_an_apptainer_that_is_new_enough_stays(version: str) -> None:
    outcome = install(version)
    assert (outcome.commands, outcome.noops) == ([], [f"Apptainer {version} is installed"])


def test_a_package_that_cannot_be_fetched_fails_the_host_with_the_reason(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(deb: tools.Deb) -> Path:
        raise HpcstateError("could not be fetched", where="tools.toml: debs.apptainer")

    monkeypatch.setattr(tools, "deb_file", refuse)
    outcome = install("")
    outcome.execute_functions()
    assert outcome.host.said == ["stops here: tools.toml: debs.apptainer: could not be fetched"]


def numbers(subuid: Any, subgid: Any, users: dict[str, int] | None = None) -> Outcome:
    return run(
        apptainer.subids,
        users=users if users is not None else {"hpc": 131072000},
        count=65536,
        facts={"facts.apptainer.Apptainer": fact("1.4.5-2", subuid, subgid)},
    )


def test_users_get_their_numbers_and_others_keep_theirs() -> None:
    first, second = numbers([ADMIN], []).commands
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert "/etc/subuid" in first["command"]
    assert first["_stdin"] == "admin:100000:65536\nhpc:131072000:65536\n"
    assert "/etc/subgid" in second["command"]
    assert second["_stdin"] == "hpc:131072000:65536\n"


def test_another_range_of_the_user_is_replaced_and_only_where_it_differs() -> None:
    (only,) = numbers([HPC, {**HPC, "start": 300000}], [ADMIN, HPC]).commands
    assert isinstance(only, dict)
    assert only["_stdin"] == "hpc:131072000:65536\n"


def test_right_numbers_are_left_alone() -> None:
    outcome = numbers([ADMIN, HPC], [HPC])
    assert (outcome.commands, outcome.noops) == ([], ["hpc have their subordinate numbers"])


@pytest.mark.parametrize("start", [131072000 - 65535, 131072000, 131072000 + 65535])
def test_numbers_that_somebody_else_has_stop_the_host(start: int) -> None:
    other = {"user": "eve", "start": start, "count": 65536}
    (command,) = numbers([other], []).commands
    assert isinstance(command, dict)
    assert command["function"] == "fail"
    assert f"eve:{start}:65536" in command["args"][0]


def test_neighbours_do_not_share_numbers() -> None:
    other = {"user": "eve", "start": 131072000 + 65536, "count": 65536}
    assert len(numbers([other], [other]).commands) == 2
