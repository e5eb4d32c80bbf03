"""accounting.sh for real, with stand-ins for systemd, MariaDB and slurmdbd."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from hpcstate.probe import accounting
from hpcstate.probe.accounting import AccountingState
from tests.facts.machine import AWKWARD, programs, run, stand_in

TOOLS = ("sh", "sha256sum", "cut", "stat", "sed", "cat", "timeout")

SYSTEMCTL = """
[ "$1 $2" = "show --property=LoadState,ActiveState,UnitFileState" ] || exit 1
case $3 in
mariadb.service) printf 'LoadState=loaded\\nActiveState=active\\nUnitFileState=enabled\\n' ;;
*) printf 'LoadState=not-found\\nActiveState=inactive\\nUnitFileState=\\n' ;;
esac
"""
MARIADB = """
case $4 in
"SHOW DATABASES LIKE 'slurm_acct_db'") echo slurm_acct_db ;;
"SHOW GRANTS FOR 'slurm'@'localhost'") echo 'GRANT USAGE ON *.* TO `slurm`@`localhost`' ;;
*"WHERE name = 'lab' AND deleted = 0") echo 954 ;;
esac
"""


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    folder = programs(tmp_path / "tools", TOOLS)
    stand_in(folder, "systemctl", SYSTEMCTL)
    stand_in(folder, "mariadb", MARIADB)
    stand_in(folder, "sacctmgr", '[ "$SLURM_CONF $1" = "$PWD/client.conf ping" ]')
    return folder


def ask(tools: Path, *files: Path) -> AccountingState:
    here = tools.parent
    question = accounting.command(
        "lab",
        [str(file) for file in files],
        database="slurm_acct_db",
        user="slurm",
        client=f"{here}/client.conf",
        applied=f"{here}/applied",
        clustername=f"{here}/clustername",
    )
    return accounting.parse(run(question, tools, here))


def test_all_of_it(tools: Path, tmp_path: Path) -> None:
    (tmp_path / "client.conf").write_text("")
    (tmp_path / "clustername").write_text("lab|954")
    (tmp_path / "applied").mkdir()
    (tmp_path / "applied/slurmdbd.conf").write_text("old\n")
    file = tmp_path / AWKWARD
    file.write_text("new\n")
    file.chmod(0o600)
    found = ask(tools, file, tmp_path / "absent")
    mine = f"{file.owner()}:{file.group()}"
    assert found == {
        "files": {str(file): {"sha256": hashlib.sha256(b"new\n").hexdigest(), "mode": "600", "owner": mine}},
        "applied": {"slurmdbd.conf": hashlib.sha256(b"old\n").hexdigest()},
        "units": {
            "mariadb": {"installed": True, "active": True, "enabled": True},
            "slurmdbd": {"installed": False, "active": False, "enabled": False},
        },
        "databases": ["slurm_acct_db"],
        "grants": ["GRANT USAGE ON *.* TO `slurm`@`localhost`"],
        "answers": True,
        "cluster_id": 954,
        "state": "lab|954",
    }


def test_a_database_that_is_silent_and_a_slurmdbd_that_refuses(tools: Path, tmp_path: Path) -> None:
    (tmp_path / "client.conf").write_text("")
    stand_in(tools, "mariadb", "echo no socket >&2; exit 1")
    stand_in(tools, "sacctmgr", "echo DOWN; exit 1")
    found = ask(tools)
    assert (found["databases"], found["grants"], found["answers"], found["cluster_id"]) == ([], [], False, 0)


def test_without_our_files_sacctmgr_is_not_asked(tools: Path, tmp_path: Path) -> None:
    stand_in(tools, "sacctmgr", f"touch {tmp_path}/asked")
    assert not ask(tools)["answers"] and not (tmp_path / "asked").exists()


def test_a_node_that_has_nothing(tmp_path: Path) -> None:
    tools = programs(tmp_path / "tools", TOOLS)
    absent = {"installed": False, "active": False, "enabled": False}
    assert ask(tools) == {
        **accounting.parse(""),
        "units": dict.fromkeys(("mariadb", "slurmdbd"), absent),
    }
