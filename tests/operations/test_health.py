"""What watches a node goes without a trace, and only where it is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hpcstate import programs
from hpcstate.health.decide import PREFIX
from hpcstate.health.files import CONFIG, FOLDER, OWN
from hpcstate.paths import ROOT
from hpcstate.slurm.conf import EPILOG, PROLOG, TASK_PROLOG
from operations import health
from tests.operations.harness import run

FACT = "facts.text_files.TextFiles"
THERE = {CONFIG: {"mode": "644", "owner": "root:root", "sha256": "0", "pending": False}}


def test_where_nothing_is_nothing_is_done() -> None:
    done = run(health.off, "compute-01", facts={FACT: {"*": {}}})
    assert (done.commands, len(done.noops)) == ([], 1)


def test_it_goes_with_all_its_files_the_mark_last() -> None:
    done = run(health.off, "compute-01", (TASK_PROLOG,), facts={FACT: {"*": THERE}})
    (command,) = done.commands
    assert f"set -- {PROLOG} {EPILOG} {TASK_PROLOG} " in str(command)
    assert str(command).split("set -- ")[1].splitlines()[0].endswith(CONFIG)
    assert FOLDER in str(command) and OWN in str(command)


@pytest.mark.parametrize(
    ("state", "comment", "reason", "told"),
    [
        ("IDLE", "", "", []),
        ("IDLE", f"Comment={PREFIX}failing disk ", "", ["update nodename=a comment="]),
        (
            "IDLE+DRAIN",
            "",
            f" Reason={PREFIX}node: disk: full",
            ["update nodename=a state=resume reason=none"],
        ),
        ("IDLE", "", f" Reason={PREFIX}node: disk: full", []),
        ("IDLE+DRAIN", "Comment=rack 7 ", " Reason=fan", []),
        ("IDLE+DRAIN", "", " Reason=hpcstate: new files", []),
    ],
)
def test_slurmctld_is_told(tmp_path: Path, state: str, comment: str, reason: str, told: list[str]) -> None:
    log = tmp_path / "log"
    shown = f"NodeName=a State={state} {comment}{reason}"
    for name in ("folder", "records"):
        (tmp_path / name).mkdir()
    for name in ("folder/x", "records/events.jsonl", "records/events.jsonl.1.gz", "records/other", "a", "b"):
        (tmp_path / name).write_text("x")
    (tmp_path / "scontrol").write_text(
        f"#!/bin/sh\ncase $1 in --oneliner) echo '{shown}' ;; *) echo \"$*\" >>{log} ;; esac\n"
    )
    (tmp_path / "scontrol").chmod(0o755)
    text = programs.command(
        ROOT / "operations" / "health_off.sh",
        arguments=(tmp_path / "a", tmp_path / "b"),
        node="a",
        prefix=PREFIX,
        folders=f"{tmp_path}/folder {tmp_path}/never-there",
        records=f"{tmp_path}/records/events.jsonl",
    )
    path = f"{tmp_path}:{os.defpath}"
    for _ in range(2):
        subprocess.run(["dash", "-c", text], env={"PATH": path}, check=True, timeout=60)
    lines = log.read_text().splitlines() if log.exists() else []
    assert lines == told * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["records", "scontrol", *(["log"] if told else [])]
    )
    assert [path.name for path in (tmp_path / "records").iterdir()] == ["other"]


def test_what_is_no_more_is_tidied_up(tmp_path: Path) -> None:
    own, folder = tmp_path / "own", tmp_path / "folder"
    for path in (
        own / "kept",
        own / "gone",
        folder / "check",
        folder / "hpcstate/a.py",
        folder / "hpcstate/old.py",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    text = (
        health.tidy(["kept"], ["check", "hpcstate/a.py"]).replace(OWN, str(own)).replace(FOLDER, str(folder))
    )
    assert "/usr" not in text and "/etc" not in text
    subprocess.run(["dash", "-c", text], check=True, timeout=60)
    found = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert found == ["a.py", "check", "kept"]
    nothing = health.tidy([], ["check"]).replace(OWN, str(own)).replace(FOLDER, str(folder))
    subprocess.run(["dash", "-c", nothing], check=True, timeout=60)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["check"]
