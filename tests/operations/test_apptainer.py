"""The operations on Apptainer: the package, and the subordinate numbers of users."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpcstate import tools
from hpcstate.errors import HpcstateError
from hpcstate.probe import apptainer as probe
from operations import apptainer
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
    fetched, upload, check, update, installed = install(version).commands
    deb = tools.load().debs["apptainer"]
    assert fetched == {"function": "_fetch", "args": [deb], "kwargs": {}}
    assert upload == {"upload": f"/var/tmp/{package.name}", "content": "package\n"}
    assert str(check).startswith(
        f"echo {deb.sha256}  /var/tmp/{package.name} | sha256sum --check --quiet && "
    )
    assert "apt-get" in str(update)
    assert f"--force-confold /var/tmp/{package.name} && rm -f /var/tmp/{package.name}" in str(installed)


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
    assert outcome.host.said == ["tools.toml: debs.apptainer: could not be fetched"]


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
