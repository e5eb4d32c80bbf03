"""Whether a backup may be put back on a cluster as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hpcstate.cluster.backup_archive import BackupManifest, Part
from hpcstate.cluster.backup_decide import SlurmRecord, newer, parse, releases_between, verdict
from tests.unit.cluster.test_backup_archive import manifest

DATABASE = Part("database.sql.zst", "the record of jobs", 10, "0")
TAKEN = replace(manifest(), parts=(DATABASE,))

SAID = """\
slurm 24.11.5
next 12
jobs 1 CANCELLED
jobs 2 PENDING
jobs 1 RUNNING
state 73728
room 78570872832
mariadb 11.8.9
created 1795799428
recorded 11
since 3
associations 4
"""
NOW = SlurmRecord("24.11.5", "11.8.3", 8, {"PENDING": 1}, 7, 0, TAKEN.taken_s - 999, 3, 1, 1)


def test_what_the_controller_says() -> None:
    """Slurm 24.11.5, MariaDB 11.8.9, as the program printed it."""
    found = parse(SAID)
    assert found == SlurmRecord(
        slurm="24.11.5",
        mariadb="11.8.9",
        next=12,
        jobs={"CANCELLED": 1, "PENDING": 2, "RUNNING": 1},
        recorded=11,
        since=3,
        created=1795799428,
        associations=4,
        state=73728,
        room=78570872832,
    )
    assert found.running == 1


@pytest.mark.parametrize("text", ["", "slurm\nnext twelve\njobs x PENDING\nstrange 7\nslurm $(reboot)\n"])
def test_what_is_no_answer_is_left_out(text: str) -> None:
    assert parse(text) == SlurmRecord()


def test_the_same_cluster_as_it_was() -> None:
    found = verdict(TAKEN, "lab", True, NOW)
    assert (found.refused, found.only_forced) == ((), ())
    assert found.lost == ("1 job of the queue as it is now",)


@pytest.mark.parametrize(
    ("archive", "now", "words"),
    [
        (replace(TAKEN, cluster="gpu"), NOW, "a backup of the cluster 'gpu', and this is 'lab'"),
        (replace(TAKEN, slurm="25.05.1"), NOW, "of Slurm 25.05.1, and the controller has 24.11.5"),
        (replace(TAKEN, slurm="22.05.8"), NOW, "4 releases before the controller's 24.11.5"),
        (replace(TAKEN, mariadb="12.1.2"), NOW, "of MariaDB 12.1.2, and the controller has 11.8.3"),
        (TAKEN, replace(NOW, mariadb=""), "MariaDB does not answer"),
        (TAKEN, replace(NOW, slurm=""), "not installed"),
    ],
)
def test_what_is_refused_whatever_is_said(archive: BackupManifest, now: SlurmRecord, words: str) -> None:
    (reason,) = verdict(archive, "lab", True, now).refused
    assert words in reason


@pytest.mark.parametrize("slurm", ["24.11.9", "24.11.0", "23.02.8", "24.05.2"])
def test_versions_that_go_together(slurm: str) -> None:
    assert verdict(replace(TAKEN, slurm=slurm), "lab", True, NOW).refused == ()


def test_a_database_needs_accounting() -> None:
    (reason,) = verdict(TAKEN, "lab", False, NOW).refused
    assert "accounting: {enabled: false}" in reason
    assert verdict(manifest(), "lab", False, replace(NOW, mariadb="")).refused == ()


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (replace(NOW, jobs={"RUNNING": 2, "COMPLETING": 1}), "3 jobs on the nodes now"),
        (replace(NOW, since=4), "4 jobs recorded here since"),
        (replace(NOW, next=30), "the next job here is 30, that of the backup 8"),
    ],
)
def test_what_only_force_does(now: SlurmRecord, words: str) -> None:
    found = verdict(TAKEN, "lab", True, now)
    assert (found.refused, len(found.only_forced), words in found.only_forced[0]) == ((), 1, True)


def test_a_new_cluster_has_nothing_to_lose() -> None:
    """What `./hpc up` proved it with ran after the backup, as did the first start of its slurmdbd."""
    now = replace(NOW, since=60, next=61, created=TAKEN.taken_s + 5, jobs={})
    found = verdict(TAKEN, "lab", True, now)
    assert (found.refused, found.only_forced) == ((), ())
    assert found.lost == ("60 jobs recorded here since the backup was taken",)


def test_versions() -> None:
    assert newer("24.11.10", "24.11.9") and not newer("24.11", "24.11.0")
    assert releases_between("23.11.4", "24.11.5") == 2
    assert releases_between("24.11.5", "31.05.1") == 0
