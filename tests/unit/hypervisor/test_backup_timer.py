"""The timer that backs a cluster up: what is meant against what is there, and the program itself."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate.errors import HpcstateError
from hpcstate.hypervisor import backup_timer
from hpcstate.hypervisor.backup_timer import TimerUnit
from hpcstate.model import BackupSettings, Cluster
from hpcstate.programs import command
from tests.unit.fake_live import TWO

OWNER = "6d5e7c1e-0000-4000-8000-000000000001"
PROGRAM = Path(backup_timer.__file__).with_name("backup_timer.sh")
DAILY = replace(TWO, backup=BackupSettings("daily", Path("/mnt/nas")))
FILE = Path("/x/a b.yaml")


def made(cluster: Cluster = DAILY, *, on: bool = True, owner: str = OWNER) -> TimerUnit:
    """The timer of ``cluster`` as a start makes it, through what `look` prints of it."""
    written = backup_timer.texts(cluster, FILE, owner, "root")
    mark = written[0].splitlines()[0].removeprefix("# hpcstate backup: ")
    digest = hashlib.sha256("".join(written).encode()).hexdigest()
    (unit,) = backup_timer.parse(f"timer {'on' if on else 'off'} {digest} hpcstate-backup-test {mark}\n")
    return unit


def said(cluster: Cluster, *units: TimerUnit) -> list[str]:
    rows = backup_timer.differences_of(cluster, units, OWNER)
    return [f"{row.name}: {row.found or '-'} {row.wanted or '-'} {row.impact}" for row in rows]


def test_what_differs() -> None:
    weekly = replace(DAILY, backup=BackupSettings("weekly", Path("/mnt/nas")))
    assert said(DAILY) == ["backup: - daily live"]
    assert said(DAILY, made()) == []
    assert said(DAILY, made(on=False)) == ["backup: off daily live"]
    assert said(weekly, made()) == ["backup: daily weekly live"]
    assert said(TWO, made()) == ["backup: daily - live"]
    assert said(TWO) == said(TWO, made(owner="another")) == []


def test_the_texts() -> None:
    timer, service = backup_timer.texts(DAILY, Path("/x/50% a.yaml"), OWNER, "ann")
    assert "OnCalendar=daily\n" in timer and "Persistent=true\n" in timer
    assert "User=ann\n" in service
    assert '-m hpcstate backup "/x/50%% a.yaml" --scheduled\n' in service


def bring(monkeypatch: pytest.MonkeyPatch, cluster: Cluster, *seen: TimerUnit) -> list[tuple[str, ...]]:
    done: list[tuple[str, ...]] = []
    monkeypatch.setattr(backup_timer, "owner_of", lambda _: OWNER)
    monkeypatch.setattr(backup_timer, "look", lambda: seen)
    monkeypatch.setattr(backup_timer, "_user", lambda _: "root")
    monkeypatch.setattr(backup_timer, "_as_root", lambda *words: done.append(words[:2]))
    backup_timer.bring(cluster, FILE)
    return done


def test_it_is_brought_into_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HPCSTATE_BUILD", raising=False)
    put, gone = [("put", "hpcstate-backup-test")], [("remove", "hpcstate-backup-test")]
    assert bring(monkeypatch, DAILY) == put
    assert bring(monkeypatch, DAILY, made()) == []
    assert bring(monkeypatch, DAILY, made(on=False)) == put
    assert bring(monkeypatch, DAILY, replace(made(), digest="0")) == put
    assert bring(monkeypatch, TWO, made()) == gone
    assert bring(monkeypatch, TWO) == []
    assert backup_timer.going(TWO) == ()


def test_one_of_somebody_else_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HpcstateError, match="not made with the keys here"):
        bring(monkeypatch, DAILY, made(owner="another"))


def test_the_program_writes_finds_and_removes_it(tmp_path: Path) -> None:
    def program(*words: str) -> str:
        text = command(PROGRAM, arguments=words, ROOT=tmp_path)
        return subprocess.run(
            ["sh", "-c", text], capture_output=True, text=True, check=True, timeout=120
        ).stdout

    assert program("look") == ""
    written = backup_timer.texts(DAILY, FILE, OWNER, "root")
    program("put", "hpcstate-backup-test", *written)
    # Without systemd it is as if it were on: nothing more can be done there.
    assert backup_timer.parse(program("look")) == (made(),)
    program("remove", "hpcstate-backup-test")
    assert program("look") == ""


def test_a_unit_without_a_mark_is_nobodys() -> None:
    (unit,) = backup_timer.parse("timer on 0a hpcstate-backup-x \n")
    assert (unit.owner, unit.cluster, unit.on) == ("", "", True)
