"""What records the jobs of a cluster: what is done on which controller; and its program, with stand-ins."""

from __future__ import annotations

import hashlib
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from hpcstate import paths, programs, schema
from hpcstate.slurm.accounting import APPLIED, CLIENT_CONF, CLUSTERNAME, MARIADB_CONF, SLURMDBD_CONF, files
from operations import accounting
from tests.operations.harness import Outcome, run

FACT = "facts.accounting.Accounting"
TABLES = "facts.accounting.Tables"
CLUSTER = schema.load(paths.ROOT / "tests" / "lab" / "cluster.yaml").clusters[0]
FILES = files(CLUSTER)
Change = Callable[[Any], object]
"""What somebody did to a controller."""


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def found(change: Change | None = None) -> dict[str, Any]:
    """A controller that has all of it, but for ``change``."""
    places = accounting.PLACES
    state = {
        "files": {
            path: {"sha256": digest(text), "mode": places[path][0], "owner": places[path][1]}
            for path, text in FILES.items()
        },
        "applied": {PurePosixPath(path).name: digest(FILES[path]) for path in (MARIADB_CONF, SLURMDBD_CONF)},
        "units": {
            name: {"installed": True, "active": True, "enabled": True} for name in ("mariadb", "slurmdbd")
        },
        "databases": ["slurm_acct_db"],
        "grants": list(accounting.GRANTS),
        "answers": True,
        "cluster_id": 954,
        "state": "lab|954",
    }
    if change:
        change(state)
    return state


def new(state: Any, **more: Any) -> None:
    """A controller of a fresh image, which has the packages, but for ``more``."""
    off = {"installed": True, "active": False, "enabled": False}
    state |= {
        "files": {},
        "applied": {},
        "units": {"mariadb": dict(off), "slurmdbd": dict(off)},
        "databases": [],
        "grants": [],
        "answers": False,
        "cluster_id": 0,
        "state": "",
        **more,
    }


OF_NOW = {"answers": True, "there": True, "version": 16, "code": 0, "said": "No conversion needed."}
"""Tables of the slurmdbd that is installed."""


def on(change: Change | None = None, **tables: Any) -> Outcome:
    facts = {FACT: {"*": found(change)}, TABLES: {"*": {**OF_NOW, **tables}}}
    return run(accounting.state, CLUSTER.name, FILES, facts=facts)


def steps(done: Outcome) -> list[str]:
    """Each command in words: the file that is staged, or the action of the program."""
    return [_step(command) for command in done.commands]


def _step(command: str | dict[str, Any]) -> str:
    if isinstance(command, str):
        return command.splitlines()[1].removeprefix("set -- ")
    if "function" in command:
        return str(command["function"])
    return "stage " + shlex.split(str(command["command"]).splitlines()[-1])[1].rpartition("/")[2]


DATABASE = ["stage 90-hpcstate.cnf", "database"]
DAEMON = ["stage slurmdbd.conf", "stage slurm.conf", "daemon"]
BEGUN = ["stage slurmdbd.conf", "stage slurm.conf", "configure", "daemon"]
"""Of a slurmdbd that does not run yet."""


def test_what_is_as_it_should_be_is_left_alone() -> None:
    done = on()
    assert (done.commands, len(done.noops)) == ([], 1)


def test_a_new_controller_gets_the_database_first() -> None:
    done = on(new)
    assert steps(done) == [*DATABASE, *BEGUN]
    texts = [command["_stdin"] for command in done.commands if isinstance(command, dict)]
    assert texts == [FILES[MARIADB_CONF], FILES[SLURMDBD_CONF], FILES[CLIENT_CONF]]


def test_a_slurmctld_that_has_not_begun_has_no_number() -> None:
    assert steps(on(lambda state: state.update(state=""))) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda state: state["files"].pop(MARIADB_CONF), DATABASE),
        (lambda state: state["files"][MARIADB_CONF].update(sha256="0"), DATABASE),
        (lambda state: state["files"][MARIADB_CONF].update(mode="666"), DATABASE),
        (lambda state: state["applied"].pop("90-hpcstate.cnf"), DATABASE[1:]),
        (lambda state: state["units"]["mariadb"].update(active=False), DATABASE[1:]),
        (lambda state: state["units"]["mariadb"].update(enabled=False), DATABASE[1:]),
        (lambda state: state.update(databases=[]), DATABASE[1:]),
        (lambda state: state["grants"].pop(), DATABASE[1:]),
        (lambda state: state["files"][SLURMDBD_CONF].update(owner="root:root"), [DAEMON[0], DAEMON[2]]),
        (lambda state: state["files"].pop(CLIENT_CONF), DAEMON[1:]),
        (lambda state: state["applied"].update({"slurmdbd.conf": "0"}), DAEMON[2:]),
        (lambda state: state["units"]["slurmdbd"].update(active=False), BEGUN[2:]),
        (lambda state: state["units"]["slurmdbd"].update(enabled=False), DAEMON[2:]),
        (lambda state: state.update(answers=False), DAEMON[2:]),
        (lambda state: state.update(cluster_id=0), DAEMON[2:]),
        (lambda state: state.update(state="lab|17"), DAEMON[2:]),
    ],
)
def test_what_differs_is_done(change: Change, expected: list[str]) -> None:
    assert steps(on(change)) == expected


NEWER = "slurmdbd: fatal: Database schema is from a newer version of Slurm, downgrading is not possible."
DUE = "Slurm Database current version is '15' needs to be at '16'. Conversion needed."


def stopped(state: Any) -> None:
    state["units"]["slurmdbd"].update(active=False)


def test_tables_of_an_older_slurm_are_converted_before_it_starts() -> None:
    done = on(stopped, version=15, code=1, said=DUE)
    assert steps(done) == ["configure", "convert 15 16", "daemon"]


def test_tables_of_a_newer_slurm_end_the_run() -> None:
    *before, stop = on(stopped, version=17, code=1, said=NEWER).commands
    assert len(before) == 1
    assert isinstance(stop, dict) and stop["function"] == "fail"
    assert "(version 17) are of a newer Slurm" in stop["args"][0]


def test_a_slurmdbd_that_runs_has_its_tables() -> None:
    change = lambda state: state.update(answers=False)  # noqa: E731
    assert steps(on(change, version=15, code=1, said=DUE)) == ["daemon"]


def test_rights_that_somebody_added_stay() -> None:
    assert (
        steps(on(lambda state: state["grants"].append("GRANT SELECT ON `x`.* TO `slurm`@`localhost`"))) == []
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state["units"]["mariadb"].update(installed=False), "not installed: mariadb."),
        (lambda state: state.update(units={}), "not installed: mariadb and slurmdbd."),
    ],
)
def test_an_image_without_it_stops_the_host(change: Change, said: str) -> None:
    (stop,) = on(change).commands
    assert isinstance(stop, dict) and stop["function"] == "fail"
    assert said in stop["args"][0]


def off(change: Change | None = None) -> Outcome:
    return run(accounting.off, CLUSTER.name, facts={FACT: {"*": found(change)}})


def test_it_is_turned_off_once() -> None:
    assert steps(off()) == ["off"]
    done = off(new)
    assert (done.commands, len(done.noops)) == ([], 1)


@pytest.mark.parametrize(
    "left",
    [
        lambda state: state["units"]["mariadb"].update(enabled=True),
        lambda state: state["units"]["slurmdbd"].update(active=True),
        lambda state: state["files"].update(
            {SLURMDBD_CONF: {"sha256": "0", "mode": "600", "owner": "slurm:slurm"}}
        ),
        lambda state: state["applied"].update({"slurmdbd.conf": "0"}),
    ],
)
def test_what_was_left_of_it_goes(left: Change) -> None:
    def change(state: Any) -> None:
        new(state)
        left(state)

    assert steps(off(change)) == ["off"]


def test_a_node_without_the_packages_has_nothing_to_turn_off() -> None:
    assert off(lambda state: new(state, units={})).commands == []


# the program

STAND_IN = """#!/bin/sh
# systemd, MariaDB and slurmdbd in a folder: $FAKE/on/UNIT runs, $FAKE/boot/UNIT starts at boot.
name=${0##*/}
echo "$name $*" >>"$FAKE/log"
case "$name $*" in "$BREAKS"*) [ -z "$BREAKS" ] || exit 1 ;; esac
case $name in
systemctl)
  case $* in
  'enable --quiet '*) touch "$FAKE/boot/$3" ;;
  start* | restart*) touch "$FAKE/on/$2" ;;
  'disable --quiet --now '*) rm -f "$FAKE/boot/$4" "$FAKE/on/$4" ;;
  '--quiet is-active '*) [ -e "$FAKE/on/$3" ] ;;
  '--quiet is-failed '*) [ -e "$FAKE/failed" ] ;;
  esac ;;
chown) exit 0 ;;
mariadb-install-db) mkdir -p "$FAKE/mysql/mysql" ;;
mariadb-admin) [ -e "$FAKE/on/mariadb" ] ;;
mariadb)
  [ -e "$FAKE/on/mariadb" ] || exit 1
  case $4 in
  'SELECT COALESCE'*) echo 1000 ;;
  'SELECT version'*) cat "$FAKE/version" ;;
  SELECT*) cat "$FAKE/id" 2>/dev/null ;;
  esac ;;
mariadb-dump) echo "the tables, version $(cat "$FAKE/version")" ;;
setpriv)
  echo 'slurmdbd: pre-converting job table for lab'
  [ ! -e "$FAKE/fatal" ] || exit 1
  sleep 1
  echo 16 >"$FAKE/version"
  touch "$FAKE/on/slurmdbd"
  exec sleep 50 ;;
sacctmgr)
  [ "$SLURM_CONF" = "$FAKE/slurm.conf" ] || exit 9
  case $* in
  ping) [ -e "$FAKE/on/slurmdbd" ] && [ -e "$FAKE/on/mariadb" ] ;;
  *'show cluster'*) [ ! -s "$FAKE/id" ] || echo lab ;;
  *'add cluster'*) echo 954 >"$FAKE/id" ;;
  esac ;;
esac
"""


class Controller:
    """A controller in temporary folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        bin_ = folder / "bin"
        for path in (bin_, folder / "on", folder / "boot", folder / "new", folder / "mysql"):
            path.mkdir()
        names = (
            "systemctl",
            "chown",
            "mariadb-install-db",
            "mariadb-admin",
            "mariadb",
            "sacctmgr",
            "journalctl",
            "mariadb-dump",
            "setpriv",
        )
        for name in names:
            (bin_ / name).write_text(STAND_IN)
            (bin_ / name).chmod(0o755)
        self.note = folder / "clustername"

    def stage(self, name: str, text: str) -> None:
        (self.folder / "new").mkdir(exist_ok=True)
        (self.folder / "new" / name).write_text(text)

    def run(self, *action: object, breaks: str = "", wait_s: int = 5) -> subprocess.CompletedProcess[str]:
        (self.folder / "log").write_text("")
        here = str(self.folder)
        text = programs.command(
            programs.REPLACE,
            accounting.PROGRAM,
            arguments=action,
            database="slurm_acct_db",
            user="slurm",
            cluster="lab",
            mariadb_conf=f"{here}/90-hpcstate.cnf",
            slurmdbd_conf=f"{here}/slurmdbd.conf",
            client_conf=f"{here}/slurm.conf",
            data=f"{here}/mysql",
            dumps=f"{here}/dumps",
            fresh=f"{here}/new",
            applied=f"{here}/applied",
            clustername=str(self.note),
            wait_s=wait_s,
        )
        environment = {"PATH": f"{here}/bin:/usr/bin:/bin", "FAKE": here, "BREAKS": breaks}
        return subprocess.run(
            ["sh", "-c", text], env=environment, capture_output=True, text=True, check=False, timeout=300
        )

    def all_on(self) -> None:
        self.stage("90-hpcstate.cnf", "pool\n")
        assert self.run("database").returncode == 0
        self.stage("slurmdbd.conf", "host\n")
        self.stage("slurm.conf", "client\n")
        done = self.run("daemon")
        assert done.returncode == 0, done.stderr

    def calls(self, name: str) -> list[str]:
        lines = (self.folder / "log").read_text().splitlines()
        return [line.removeprefix(f"{name} ") for line in lines if line.startswith(f"{name} ")]

    def there(self, folder: str) -> set[str]:
        return {path.name for path in (self.folder / folder).iterdir()}


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    return Controller(tmp_path)


def test_an_empty_folder_gets_a_database(controller: Controller) -> None:
    controller.stage("90-hpcstate.cnf", "pool\n")
    done = controller.run("database")
    assert done.returncode == 0, done.stderr
    assert controller.calls("mariadb-install-db")
    assert (controller.folder / "90-hpcstate.cnf").read_text() == "pool\n"
    assert (controller.there("on"), controller.there("boot")) == ({"mariadb"}, {"mariadb"})
    (statements,) = (controller.folder / "log").read_text().split("mariadb --batch")[1:]
    assert "CREATE DATABASE IF NOT EXISTS `slurm_acct_db`" in statements
    assert "IDENTIFIED VIA unix_socket" in statements and "PASSWORD" not in statements


def test_a_database_that_is_there_is_kept(controller: Controller) -> None:
    controller.all_on()
    assert controller.run("database").returncode == 0
    assert not controller.calls("mariadb-install-db")
    assert "start mariadb" in controller.calls("systemctl")


def test_a_new_file_restarts_its_daemon_and_no_other(controller: Controller) -> None:
    controller.all_on()
    controller.stage("90-hpcstate.cnf", "more\n")
    controller.run("database")
    assert "restart mariadb" in controller.calls("systemctl")
    controller.run("daemon")
    assert "start slurmdbd" in controller.calls("systemctl")


def test_a_run_that_was_cut_off_restarts_what_has_not_read_its_file(controller: Controller) -> None:
    controller.all_on()
    controller.stage("slurmdbd.conf", "other\n")
    assert controller.run("daemon", breaks="systemctl restart").returncode == 1
    assert (controller.folder / "slurmdbd.conf").read_text() == "other\n"
    controller.run("daemon")
    assert "restart slurmdbd" in controller.calls("systemctl")
    controller.run("daemon")
    assert "start slurmdbd" in controller.calls("systemctl")


def test_slurmdbd_learns_of_the_cluster_once(controller: Controller) -> None:
    controller.all_on()
    assert "--immediate add cluster lab" in controller.calls("sacctmgr")
    assert (controller.folder / "slurmdbd.conf").stat().st_mode & 0o777 == 0o600
    assert not (controller.folder / "new").exists()
    controller.run("daemon")
    assert not [call for call in controller.calls("sacctmgr") if "add" in call]


@pytest.mark.parametrize(
    ("note", "after"),
    [("lab|2967", "lab|954"), ("lab|954", "lab|954"), ("other|2967", "other|2967"), ("lab", "lab|954")],
)
def test_the_number_of_a_cluster_that_began_without_it(controller: Controller, note: str, after: str) -> None:
    controller.note.write_text(note)
    controller.all_on()
    assert controller.note.read_text() == after


def test_a_slurmctld_that_has_not_begun_gets_no_note(controller: Controller) -> None:
    controller.all_on()
    assert not controller.note.exists()


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        ("systemctl start slurmdbd", "slurmdbd does not start"),
        ("systemctl restart slurmdbd", "slurmdbd does not start"),
        ("sacctmgr ping", "slurmdbd does not answer after 1 s"),
        ("sacctmgr --immediate", ""),
    ],
)
def test_a_slurmdbd_that_fails_is_not_recorded(controller: Controller, breaks: str, said: str) -> None:
    controller.stage("90-hpcstate.cnf", "pool\n")
    controller.run("database")
    controller.stage("slurmdbd.conf", "host\n")
    controller.stage("slurm.conf", "client\n")
    if breaks == "systemctl start slurmdbd":
        (controller.folder / "applied/slurmdbd.conf").write_text("host\n")
    done = controller.run("daemon", breaks=breaks, wait_s=1)
    assert done.returncode != 0 and said in done.stderr
    assert breaks == "systemctl start slurmdbd" or "slurmdbd.conf" not in controller.there("applied")


def test_a_daemon_that_gave_up_is_not_waited_for(controller: Controller) -> None:
    controller.stage("90-hpcstate.cnf", "pool\n")
    (controller.folder / "failed").touch()
    done = controller.run("database", breaks="mariadb-admin", wait_s=600)
    assert done.returncode == 1 and "mariadb does not stay up" in done.stderr


def test_off_leaves_the_database(controller: Controller) -> None:
    controller.all_on()
    done = controller.run("off")
    assert done.returncode == 0, done.stderr
    assert (controller.there("on"), controller.there("boot")) == (set(), set())
    assert not {"slurmdbd.conf", "90-hpcstate.cnf", "slurm.conf", "applied"} & controller.there(".")
    assert (controller.folder / "mysql/mysql").is_dir()
    assert controller.run("off").returncode == 0


def test_a_daemon_that_does_not_stop_is_said(controller: Controller) -> None:
    controller.all_on()
    done = controller.run("off", breaks="systemctl disable --quiet --now slurmdbd")
    assert done.returncode == 1 and "slurmdbd does not stop" in done.stderr
    assert (controller.folder / "slurmdbd.conf").exists()


def test_the_paths_are_those_of_the_probe() -> None:
    (command,) = off().commands
    assert isinstance(command, str)
    given = dict(word.split("=", 1) for word in shlex.split(command.splitlines()[0]))
    assert (given["applied"], given["clustername"]) == (APPLIED, CLUSTERNAME)
    assert (given["slurmdbd_conf"], given["client_conf"]) == (SLURMDBD_CONF, CLIENT_CONF)


# a conversion


def dumped(controller: Controller) -> str:
    at = controller.folder / "dumps" / "slurm_acct_db-version-15.sql.zst"
    return subprocess.run(["zstd", "-dcq", at], capture_output=True, text=True, check=True).stdout


def test_the_tables_are_dumped_and_converted(controller: Controller) -> None:
    controller.all_on()
    (controller.folder / "on" / "slurmdbd").unlink()
    (controller.folder / "version").write_text("15\n")
    done = controller.run("convert", 15, 16)
    assert done.returncode == 0, done.stderr
    assert "converted in" in done.stdout
    assert dumped(controller) == "the tables, version 15\n"
    assert (controller.folder / "dumps").stat().st_mode & 0o77 == 0
    assert any(call.endswith("slurmdbd -D") for call in controller.calls("setpriv"))


def test_a_conversion_that_ends_early_keeps_the_dump_of_before(controller: Controller) -> None:
    controller.all_on()
    (controller.folder / "on" / "slurmdbd").unlink()
    (controller.folder / "version").write_text("15\n")
    (controller.folder / "fatal").touch()
    done = controller.run("convert", 15, 16)
    assert done.returncode == 1
    assert "pre-converting job table for lab" in done.stderr and "those of before" in done.stderr
    (controller.folder / "fatal").unlink()
    (controller.folder / "version").write_text("half\n")
    assert controller.run("convert", 15, 16).returncode == 0
    assert dumped(controller) == "the tables, version 15\n"


def test_without_a_dump_nothing_is_converted(controller: Controller) -> None:
    controller.all_on()
    (controller.folder / "version").write_text("15\n")
    done = controller.run("convert", 15, 16, breaks="mariadb-dump")
    assert (done.returncode, "it is not converted" in done.stderr) == (1, True)
    assert not controller.calls("setpriv")
