"""What watches a host: its user of the database; and that nothing is left of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hpcstate import programs
from hpcstate.monitoring import places
from hpcstate.paths import ROOT
from operations import monitoring
from tests.operations.harness import Outcome, run

GRANTS = list(monitoring.GRANTS)


def user(found: list[str]) -> Outcome:
    return run(monitoring.database_user, facts={"facts.monitoring.DatabaseGrants": {"*": found}})


def off(found: dict[str, object]) -> Outcome:
    return run(
        monitoring.off,
        [places.PROMETHEUS, "/etc/systemd/system/prometheus.service.d/hpcstate.conf"],
        [places.DATA],
        ["prometheus.service"],
        facts={"facts.text_files.TextFiles": {"*": found}},
    )


def test_the_user_of_the_database_is_made_without_a_password() -> None:
    (command,) = user([]).commands
    assert "IDENTIFIED VIA unix_socket" in str(command)
    assert "BY PASSWORD" not in str(command)


def test_a_user_with_other_rights_is_made_anew() -> None:
    (command,) = user([*GRANTS, "GRANT SELECT ON `x`.* TO `prometheus`@`localhost`"]).commands
    assert str(command).index("DROP USER") < str(command).index("GRANT PROCESS")


def test_a_right_user_is_left_alone() -> None:
    done = user(GRANTS)
    assert (done.commands, len(done.noops)) == ([], 1)


def test_where_nothing_watches_nothing_is_done() -> None:
    done = off({})
    assert (done.commands, len(done.noops)) == ([], 1)


def test_what_is_left_of_another_file_goes() -> None:
    state = {"sha256": "0", "mode": "644", "owner": "root:root", "pending": False}
    (command,) = map(str, off({places.PROMETHEUS: state}).commands)
    assert f"set -- {places.PROMETHEUS} " in command
    assert "units=prometheus.service" in command and f"folders={places.DATA}" in command


def test_the_user_of_the_database_stays_where_its_exporter_does() -> None:
    state = {"sha256": "0", "mode": "644", "owner": "root:root", "pending": False}
    done = run(
        monitoring.off,
        *([places.MAIL_PASSWORD], [], []),
        database=False,
        facts={"facts.text_files.TextFiles": {"*": {places.MAIL_PASSWORD: state}}},
    )
    (command,) = map(str, done.commands)
    assert command.startswith("drop='' ")


@pytest.mark.parametrize("database", [True, False])
def test_the_units_go_first_and_the_files_last(tmp_path: Path, database: bool) -> None:
    """With a systemctl that knows one of two units."""
    log = tmp_path / "log"
    there = tmp_path / "x.service.d" / "hpcstate.conf"
    other = tmp_path / "y.service.d" / "hpcstate.conf"
    for path in (there, other, other.with_name("of-somebody-else.conf"), tmp_path / "data" / "wal"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    programs_of_the_host = {
        "systemctl": f'test -e {there} || echo late >>{log}; echo "$*" >>{log}; case $* in *is-active*) '
        f"exit {0 if database else 3};; *cat*gone*) exit 1;; esac",
        "mariadb": f'echo "mariadb $*" >>{log}',
    }
    for name, text in programs_of_the_host.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    text = programs.command(
        ROOT / "operations" / "monitoring_off.sh",
        arguments=(there, other),
        drop="DROP USER x",
        units="prometheus.service gone.service",
        folders=f"{tmp_path}/data {tmp_path}/never-there",
    )
    env = {"PATH": f"{tmp_path}:{os.defpath}"}
    subprocess.run(["dash", "-c", text], env=env, check=True, timeout=60)
    assert log.read_text().splitlines() == [
        "--quiet cat prometheus.service",
        "disable --quiet --now prometheus.service",
        "--quiet cat gone.service",
        "--quiet is-active mariadb",
        *(["mariadb --execute DROP USER x"] if database else []),
        "late",
        "daemon-reload",
    ]
    assert not there.parent.exists() and not (tmp_path / "data").exists()
    assert [each.name for each in other.parent.iterdir()] == ["of-somebody-else.conf"]
