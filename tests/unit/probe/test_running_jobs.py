"""The jobs of a cluster, out of what squeue prints."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hpcstate.errors import HpcstateError
from hpcstate.probe.running_jobs import RunningJob, command, parse, seconds_left

SAID = "slurmctld\n12|bob|compute-[01-02]|1-00:00:10\n7|alice|compute-01|UNLIMITED\n\n"


def test_jobs_by_number_with_their_nodes() -> None:
    assert parse(SAID) == (
        RunningJob(7, "alice", ("compute-01",), None),
        RunningJob(12, "bob", ("compute-01", "compute-02"), 86410),
    )


@pytest.mark.parametrize("text", ["absent\n", "slurmctld\n", "slurmctld\n\n"])
def test_no_jobs(text: str) -> None:
    assert parse(text) == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("silent\n", "does not answer"),
        ("", "no answer about jobs"),
        ("bash: squeue: no such program", "no answer about jobs"),
        ("slurmctld\nslurm_load_jobs error", "no line of squeue"),
        ("slurmctld\n7|alice|compute-01|soon", "as the time that a job has left"),
        ("slurmctld\n7|alice|compute-[01|1:00", "not a hostlist|bracket"),
    ],
)
def test_what_nobody_can_tell_is_not_the_same_as_none(text: str, said: str) -> None:
    with pytest.raises(HpcstateError, match=said):
        parse(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0:59", 59), ("10:00", 600), ("1:00:00", 3600), ("2-00:00:00", 172800), ("INVALID", None)],
)
def test_times_as_squeue_writes_them(text: str, seconds: int | None) -> None:
    assert seconds_left(text) == seconds


@pytest.mark.parametrize(
    ("ping", "squeue", "deployed", "said"),
    [
        ("Slurmctld(primary) at c is UP", "echo '7|a|n|1:00'", True, "slurmctld\n7|a|n|1:00\n"),
        ("Slurmctld(primary) at c is UP", "exit 1", True, "silent\n"),
        ("Slurmctld(primary) at c is DOWN", "exit 1", True, "silent\n"),
        ("Slurmctld(primary) at c is DOWN", "exit 1", False, "absent\n"),
    ],
)
def test_the_program_says_who_answers(
    tmp_path: Path, ping: str, squeue: str, deployed: bool, said: str
) -> None:
    for name, text in (("scontrol", f"echo '{ping}'"), ("squeue", squeue)):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    if deployed:
        (tmp_path / "slurm.conf").touch()
    done = subprocess.run(
        ["sh", "-c", command(str(tmp_path))],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == said
