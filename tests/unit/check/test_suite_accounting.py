"""The checks of accounting, against nodes that answer from a table."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate.check.runner import load_suites, run_check
from hpcstate.check.suite import CheckResult
from hpcstate.hypervisor import backup_timer
from hpcstate.model import AccountingSettings, BackupSettings, Cluster
from tests.unit.fake_live import TWO, Answer, FakeLive, a_cluster, a_node, failing

SUITES = load_suites()

SOUND = """\
unit loaded active enabled mariadb
unit loaded active enabled slurmdbd
database slurm_acct_db
answers
cluster 954
state test|954
"""


def run_named(name: str, answer: Answer, cluster: Cluster = TWO) -> CheckResult:
    (check,) = SUITES.select(name=f"accounting.{name}")
    return run_check(check, FakeLive(answer, cluster))


def test_it_answers() -> None:
    done = run_named("answers", lambda node, script: SOUND)
    assert (done.outcome, "test has the number 954" in done.observed) == ("passed", True)


@pytest.mark.parametrize(
    ("line", "instead", "words"),
    [
        ("unit loaded active enabled mariadb", "unit loaded failed enabled mariadb", "mariadb does not run"),
        ("unit loaded active enabled slurmdbd", "unit loaded inactive - slurmdbd", "slurmdbd does not run"),
        ("answers\n", "", "slurmdbd does not answer"),
        ("database slurm_acct_db\n", "", "no database slurm_acct_db"),
        ("cluster 954\n", "", "does not know the cluster test"),
    ],
)
def test_what_does_not_answer_is_said(line: str, instead: str, words: str) -> None:
    done = run_named("answers", lambda node, script: SOUND.replace(line, instead))
    assert (done.outcome, words in done.observed) == ("failed", True)


LISTENING = "LISTEN 0 4096 0.0.0.0:6819 0.0.0.0:*\nLISTEN 0 128 *:22 *:*\n"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (f"600 slurm:slurm\n{LISTENING}", "passed"),
        (f"644 slurm:slurm\n{LISTENING}", "failed"),
        (f"600 root:root\n{LISTENING}", "failed"),
        (f"600 slurm:slurm\n{LISTENING}LISTEN 0 80 0.0.0.0:3306 0.0.0.0:*\n", "failed"),
        ("", "failed"),
    ],
)
def test_closed(answer: str, outcome: str) -> None:
    assert run_named("closed", lambda node, script: answer).outcome == outcome


GPU = "COMPLETED|billing=1,cpu=1,gres/gpu:simulated=1,gres/gpu=1,mem=32M,node=1\n"


@pytest.mark.parametrize(
    ("record", "outcome", "words"),
    [
        (GPU, "passed", "job 7 COMPLETED, billing=1,cpu=1,gres/gpu:simulated=1"),
        ("COMPLETED|billing=1,cpu=1,mem=32M,node=1\n", "failed", "it is COMPLETED, with billing=1,cpu=1"),
        ("COMPLETED|cpu=1,gres/gpu=1,mem=32M,node=1\n", "failed", "and without gres/gpu:simulated"),
        (GPU.replace("COMPLETED", "FAILED"), "failed", "it is FAILED"),
        ("COMPLETED|\n", "failed", "with nothing"),
    ],
)
def test_recorded(record: str, outcome: str, words: str) -> None:
    done = run_named("recorded", lambda node, script: "7\n" if script.startswith("srun") else record)
    assert (done.outcome, words in done.observed) == (outcome, True), done


def test_a_cluster_without_gpus_has_none_to_record() -> None:
    record = "COMPLETED|billing=1,cpu=1,mem=32M,node=1\n"
    without = a_cluster(a_node("compute-01", 11, gpus=0))
    done = run_named("recorded", lambda node, script: "7\n" if script.startswith("srun") else record, without)
    assert done.outcome == "passed"


def test_a_sacct_that_fails_is_not_asked_again() -> None:
    live = FakeLive(
        lambda node, script: "7\n" if script.startswith("srun") else failing(1, "sacct: Connection refused")
    )
    done = run_check(SUITES.select(name="accounting.recorded")[0], live)
    assert (done.outcome, "Connection refused" in done.observed) == ("failed", True)
    assert len([script for _, _, script in live.scripts if "sacct" in script]) == 1


@pytest.mark.parametrize(
    ("record", "words"), [("", "does not know it"), ("RUNNING|cpu=1\n", "still RUNNING")]
)
def test_a_record_that_does_not_come(monkeypatch: pytest.MonkeyPatch, record: str, words: str) -> None:
    (check,) = SUITES.select(name="accounting.recorded")
    monkeypatch.setattr("tests.suites.accounting.test_records.RECORD_SECONDS", 0)
    done = run_check(check, FakeLive(lambda node, script: "7\n" if script.startswith("srun") else record))
    assert (done.outcome, words in done.observed) == ("failed", True)


SDIAG = "Agent queue size: 3\nAgent count:      0\nDBD Agent queue size: {}\n\nJobs submitted: 5\n"


def in_turn(*sizes: int) -> Answer:
    """sdiag with one of ``sizes`` after the other, the last one for ever."""
    left = list(sizes)
    return lambda node, script: SDIAG.format(left.pop(0) if len(left) > 1 else left[0])


@pytest.mark.parametrize(
    ("answer", "outcome", "words"),
    [
        (in_turn(0), "passed", "0 messages wait"),
        (in_turn(40, 40, 12), "passed", "12 messages wait, 40 did before"),
        (in_turn(4), "failed", "4 wait"),
        (lambda node, script: failing(1, "Unable to contact slurm controller"), "failed", "it does not"),
    ],
)
def test_messages_that_wait(
    monkeypatch: pytest.MonkeyPatch, answer: Answer, outcome: str, words: str
) -> None:
    seconds = 60 if outcome == "passed" else 0
    monkeypatch.setattr("tests.suites.accounting.test_records.RECORD_SECONDS", seconds)
    monkeypatch.setattr("tests.suites.accounting.test_records.POLL_SECONDS", 0)
    done = run_named("sent", answer)
    assert (done.outcome, words in done.observed) == (outcome, True), done


@pytest.mark.parametrize("name", ["answers", "closed", "recorded", "sent"])
def test_a_cluster_without_accounting_is_not_a_broken_one(name: str) -> None:
    off = replace(TWO, accounting=AccountingSettings(on=False))
    assert run_named(name, lambda node, script: "", off).outcome == "skipped"


@pytest.mark.parametrize(
    ("hours", "on", "outcome", "words"),
    [
        (1, True, "passed", "1.0 hours old"),
        (60, True, "failed", "is 60 hours old"),
        (1, False, "failed", "the timer of this machine is off"),
        (None, True, "failed", "no archive of test"),
    ],
)
def test_backups(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    hours: int | None,
    on: bool,
    outcome: str,
    words: str,
) -> None:
    there = backup_timer.TimerUnit("hpcstate-backup-test", "", "", "daily", "", on)
    monkeypatch.setattr(backup_timer, "look", lambda: (there,))
    (tmp_path / "test-2-2026-01-01T000000.tar").touch()
    if hours is not None:
        archive = tmp_path / "test-2026-01-01T000000.tar.gpg"
        archive.touch()
        at = time.time() - hours * 3600
        os.utime(archive, (at, at))
    cluster = replace(TWO, backup=BackupSettings("daily", tmp_path))
    done = run_named("backup", lambda node, script: "", cluster)
    assert (done.outcome, words in done.observed) == (outcome, True), done
    assert run_named("backup", lambda node, script: "").outcome == "skipped"
