"""backup.sh with stand-ins: slurmctld goes on, whatever becomes of the copies."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hpcstate import programs
from hpcstate.cluster import backup

STAND_IN = """#!/bin/sh
name=${0##*/}
echo "$name $*" >>"$FAKE/log"
case "$name $*" in "$BREAKS"*) [ -z "$BREAKS" ] || exit 1 ;; esac
case $name in
systemctl)
  case $* in
  '--quiet is-active slurmctld') [ -e "$FAKE/on" ] ;;
  'stop slurmctld') rm -f "$FAKE/on" ;;
  'start slurmctld') touch "$FAKE/on" ;;
  esac ;;
mariadb) case $4 in *information_schema*) echo "$HELD" ;; *) echo 7 ;; esac ;;
mariadb-dump)
  echo '-- Retrieving table structure for table acct_table...' >&2
  [ ! -e "$FAKE/on" ] || echo 'slurmctld ran' >"$FAKE/wrong"
  sleep 0.3
  echo 'CREATE TABLE' ;;
esac
"""


class Controller:
    """A controller in temporary folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("bin", "state"):
            (folder / name).mkdir()
        for name in ("systemctl", "mariadb", "mariadb-dump", "scontrol", "squeue", "slurmctld"):
            (folder / "bin" / name).write_text(STAND_IN)
            (folder / "bin" / name).chmod(0o755)
        (folder / "state" / "job_state").write_text("the queue")
        (folder / "on").touch()

    def run(self, *words: str, breaks: str = "", held: int = 1000) -> subprocess.CompletedProcess[bytes]:
        here = str(self.folder)
        text = programs.command(
            backup._PROGRAM,
            arguments=words,
            state=f"{here}/state",
            spool=f"{here}/spool/take",
            database="slurm_acct_db",
            cluster="lab",
            catalog=f"{here}/catalog",
        )
        environment = {
            "PATH": f"{here}/bin:/usr/bin:/bin",
            "FAKE": here,
            "BREAKS": breaks,
            "HELD": str(held),
        }
        return subprocess.run(["sh", "-c", text], env=environment, capture_output=True, check=False)

    @property
    def on(self) -> bool:
        return (self.folder / "on").exists()


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    return Controller(tmp_path)


def test_state_and_database_are_of_the_same_time(controller: Controller, tmp_path: Path) -> None:
    done = controller.run("take")
    assert done.returncode == 0, done.stderr
    assert {line.split()[0] for line in done.stdout.decode().splitlines()} == {"stopped", "taken"}
    assert controller.on and not (tmp_path / "wrong").exists()
    assert (tmp_path / "spool").stat().st_mode & 0o77 == 0
    state = controller.run("show", "state").stdout
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-x", "--zstd", "-C", tmp_path / "out"], input=state, check=True)
    assert (tmp_path / "out" / "job_state").read_text() == "the queue"
    dump = controller.run("show", "database").stdout
    assert subprocess.run(["zstd", "-dcq"], input=dump, capture_output=True, check=True).stdout == (
        b"CREATE TABLE\n"
    )
    assert controller.run("clear").returncode == 0
    assert list((tmp_path / "spool").iterdir()) == []


@pytest.mark.parametrize("breaks", ["mariadb-dump", "systemctl stop slurmctld"])
def test_slurmctld_goes_on_whatever_fails(controller: Controller, tmp_path: Path, breaks: str) -> None:
    assert controller.run("take", breaks=breaks).returncode != 0
    assert controller.on
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_slurmctld_that_was_off_stays_off(controller: Controller, tmp_path: Path) -> None:
    (tmp_path / "on").unlink()
    assert controller.run("take").returncode == 0
    assert not controller.on


def test_without_room_nothing_is_begun(controller: Controller, tmp_path: Path) -> None:
    done = controller.run("take", held=1 << 60)
    assert (done.returncode, b"no room for the copies" in done.stderr) == (1, True)
    assert "systemctl stop slurmctld" not in (tmp_path / "log").read_text()
    assert controller.on
