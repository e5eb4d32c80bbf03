"""Accounts, users and QOS of slurmdbd: what the operation yields; and its program, with a stand-in."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from hpcstate import programs
from hpcstate.slurm.associations import RECORD, Wanted
from operations import associations
from tests.operations.harness import Outcome, run

FACT = "facts.associations.Associations"
ML = Wanted("lab", {"account ml": {}, "association ml": {"Parent": "root", "GrpTRES cpu": "4"}})
SOUND: dict[str, Any] = {
    "record": {
        "account ml": {"made": True, "set": []},
        "association ml": {"made": True, "set": ["GrpTRES cpu", "Parent"]},
    },
    "things": {"account ml": {}, "association ml": {"Parent": "root", "GrpTRES cpu": "4"}},
    "tres": ["cpu"],
    "nobody": [],
    "elsewhere": [],
    "jobs": [],
    "answers": True,
}
EMPTY: dict[str, Any] = {**SOUND, "record": {}, "things": {}}


def state(found: dict[str, Any], wants: Wanted = ML, *, ahead: bool = False) -> Outcome:
    return run(associations.state, facts={FACT: {"*": found}}, wanted=wants, ahead=ahead)


def lines(outcome: Outcome) -> list[list[str]]:
    """What the program is told."""
    (command,) = outcome.raw
    return [line.split("\x1f") for line in command.connector_arguments["_stdin"].splitlines()]  # type: ignore[attr-defined]


def test_create_writes_the_record_first() -> None:
    record, add = lines(state(EMPTY))
    assert record[0] == "record" and json.loads(record[1]) == SOUND["record"]
    assert add == ["add", "account", "name=ml", "cluster=lab", "Parent=root", "GrpTRES=cpu=4"]


def test_change() -> None:
    other = {**SOUND, "things": {**SOUND["things"], "association ml": {"Parent": "root", "GrpTRES cpu": "9"}}}
    assert lines(state(other))[1:] == [
        ["modify", "account", "where", "name=ml", "cluster=lab", "set", "GrpTRES=cpu=4"]
    ]


def test_remove_ends_with_the_record() -> None:
    before, remove, after = lines(state(SOUND, Wanted("lab")))
    assert json.loads(before[1]) == SOUND["record"]
    assert remove == ["remove", "account", "where", "name=ml"]
    assert after == ["record", "{}"]


def test_noop() -> None:
    for ahead in (False, True):
        done = state(SOUND, ahead=ahead)
        assert (done.commands, done.noops) == ([], ["accounts, users and QOS are as they should be"])


def test_nothing_declared_and_nothing_made() -> None:
    done = state({**EMPTY, "answers": False}, Wanted("lab"))
    assert done.noops == ["the cluster file says nothing of accounts, users and QOS"]


def test_what_jobs_need_is_named_and_nothing_is_done() -> None:
    found = {**SOUND, "jobs": [{"account": "ml", "user": "zoe", "qos": "normal"}]}
    done = state(found, Wanted("lab"))
    assert done.commands == [] and any("jobs of zoe run or wait" in text for text in done.host.said)


SACCTMGR = """#!/bin/sh
[ "$1" = ping ] && exit
printf '<%s>' "$@" >>"$calls"
echo >>"$calls"
case $* in *name=bad*) echo 'no such thing'; exit 1 ;; esac
"""


def program(tmp_path: Path, text: str) -> subprocess.CompletedProcess[str]:
    tools = tmp_path / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "sacctmgr").write_text(SACCTMGR.replace("$calls", str(tmp_path / "calls")))
    (tools / "sacctmgr").chmod(0o755)
    script = programs.command(
        programs.REPLACE, associations.PROGRAM, client="/none", record=tmp_path / "state" / "record"
    )
    environment = {"PATH": f"{tools}:/usr/sbin:/usr/bin:/sbin:/bin"}
    return subprocess.run(
        ["sh", "-c", script],
        input=text,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_words_reach_sacctmgr_as_they_are(tmp_path: Path) -> None:
    awkward = """Description="a 'b' $(touch x) `y` * \\ = ü\""""
    record = ("record", '{"account ml": {"made": true}}')
    text = associations.said([record, ("add", "account", "name=ml", awkward, "Preempt=")])
    done = program(tmp_path, text)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "calls").read_text() == f"<--immediate><add><account><name=ml><{awkward}><Preempt=>\n"
    assert (tmp_path / "state" / "record").read_text() == f"{record[1]}\n"


def test_the_first_failure_ends_it_and_is_said(tmp_path: Path) -> None:
    done = program(tmp_path, associations.said([("add", "qos", "name=bad"), ("add", "qos", "name=b")]))
    assert done.returncode == 1 and "no such thing" in done.stderr and "name=bad" in done.stderr
    assert len((tmp_path / "calls").read_text().splitlines()) == 1


def test_the_record_lies_where_slurmctlds_state_does() -> None:
    assert RECORD.startswith("/var/lib/slurm/slurmctld/")
