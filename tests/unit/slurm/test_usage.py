"""What sacct says of jobs, as sums and as one job. Jobs 12 and 13 were recorded with Slurm 24.11.5; the
columns from JobID on were added by hand."""

from __future__ import annotations

import pytest

from hpcstate.errors import HpcstateError
from hpcstate.slurm.job_use import cpu_seconds, tres_counts
from hpcstate.slurm.usage import Usage, job_command, parse_job, parse_sums, starttime, sums_command

SUMS = """\
5|root|root|7200|billing=1,cpu=1,gres/gpu:simulated=1,gres/gpu=1,mem=100M,node=1
7|alice|ml|3600|billing=1,cpu=1,gres/gpu:simulated=1,gres/gpu=1,mem=100M,node=1
9|alice|ml|1800|billing=2,cpu=2,mem=50M,node=1
10|alice|ml|5400|billing=1,cpu=1,gres/gpu:simulated=2,gres/gpu=2,mem=100M,node=1
10|alice|ml|3600|billing=1,cpu=1,mem=100M,node=1
13|bob|root|36000|billing=1,cpu=1,mem=20M,node=1
14|bob|root|0|
"""

JOB_12 = """\
12|alice|ml|COMPLETED|2|1|billing=1,cpu=1,mem=20M,node=1|00:00.012||12_2|lab|alice|0:0|1
12.batch||ml|COMPLETED|2||cpu=1,mem=20M,node=1|00:00.010|energy=0|12_2.batch|lab||0:0|1
12.0||ml|COMPLETED|1||cpu=1,mem=20M,node=1|00:00.002|energy=0|12_2.0|lab||0:0|1
11|alice|ml|COMPLETED|1|1|billing=1,cpu=1,mem=20M,node=1|00:00.011||12_1|lab|alice|0:0|1
11.batch||ml|COMPLETED|1||cpu=1,mem=20M,node=1|00:00.009|energy=0|12_1.batch|lab||0:0|1
"""
JOB_13 = """\
13|bob|root|COMPLETED|100|5|billing=1,cpu=1,mem=20M,node=1|00:00.002||13|lab|bob|0:0|1
13.batch||root|COMPLETED|100||cpu=1,mem=20M,node=1|00:00.002|cpu=00:00:00,energy=0,fs/disk=8427,mem=3436K,pages=0,vmem=5700K|13.batch|lab||0:0|1
"""


def test_sums_have_the_most_gpus_first() -> None:
    assert parse_sums(SUMS) == [
        Usage("ml", "alice", jobs=4, cpu_hours=4.5, gpu_hours=4.0),
        Usage("root", "root", jobs=1, cpu_hours=2.0, gpu_hours=2.0),
        Usage("root", "bob", jobs=1, cpu_hours=10.0, gpu_hours=0.0),
    ]
    assert parse_sums("") == []


@pytest.mark.parametrize(
    "line", ["5|root|root|7200", "5|root|root|many|cpu=1", "sacct: error: Connection refused", "5||||||"]
)
def test_what_is_no_answer_is_no_usage(line: str) -> None:
    with pytest.raises(HpcstateError, match=r"no answer of sacct") as raised:
        parse_sums(f"{SUMS}{line}\n")
    assert line in raised.value.message


def test_one_job_of_an_array() -> None:
    """sacct answers for the whole array when asked for its number, which is that of its last task."""
    first, last = parse_job(JOB_12, 12), parse_job(JOB_12, 11)
    assert first and last
    assert (first.cpu_s, last.cpu_s) == (0.012, 0.011)
    assert (first.elapsed_s, first.limit_s, first.cpus, first.gpus) == (2, 60, 1, 0)
    assert first.memory_used is None and first.memory_share is None
    assert parse_job(JOB_12, 1) is None and parse_job("", 12) is None


def test_what_a_job_used() -> None:
    found = parse_job(JOB_13, 13)
    assert found
    assert (found.memory, found.memory_used) == (20 << 20, 3436 << 10)
    assert found.cpu_share == pytest.approx(0.00002)
    assert found.memory_share == pytest.approx(0.1678, abs=1e-4)


def test_a_job_that_has_not_begun_used_nothing() -> None:
    found = parse_job("14|bob|root|PENDING|0|UNLIMITED||00:00:00||14|lab|bob|0:0|1\n", 14)
    assert found and (found.cpus, found.limit_s, found.cpu_share, found.memory_share) == (0, None, None, None)


def test_a_cut_answer_about_a_job() -> None:
    with pytest.raises(HpcstateError, match=r"no answer of sacct"):
        parse_job("13|bob|root|COMPLETED\n", 13)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("00:00:00", 0),
        ("00:01.250", 1.25),
        ("02:03.5", 123.5),
        ("01:02:03", 3723),
        ("2-00:00:01", 172801),
        ("", 0),
        ("INVALID", 0),
    ],
)
def test_times_of_cpus(text: str, seconds: float) -> None:
    assert cpu_seconds(text) == pytest.approx(seconds)


def test_counts() -> None:
    text = "cpu=2,mem=1.50G,gres/gpu:a=1,gres/gpu=1,fs/disk=12M,energy=?,cpu2=00:01"
    assert tres_counts(text) == {
        "cpu": 2,
        "mem": 1610612736,
        "gres/gpu:a": 1,
        "gres/gpu": 1,
        "fs/disk": 12 << 20,
    }
    assert tres_counts("") == {}


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ("12h", "now-12hours"),
        ("30d", "now-30days"),
        ("2w", "now-2weeks"),
        ("2026-11-01", "2026-11-01"),
        ("2026-11-01T08:00", "2026-11-01T08:00"),
    ],
)
def test_times(since: str, expected: str) -> None:
    assert starttime(since) == expected


@pytest.mark.parametrize("since", ["", "30", "d", "-1d", "yesterday", "2026-11", "30d; true", "٣d"])
def test_what_is_no_time(since: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        starttime(since)


def test_commands_are_quoted_and_bounded() -> None:
    everybody = sums_command("now-30days")
    assert everybody.startswith("timeout 120 sacct ") and "--allusers" in everybody
    some = sums_command("now-30days", ["alice", "b c"], ["ml"])
    assert "'--user=alice,b c' --accounts=ml" in some and "--allusers" not in some
    assert job_command(12).endswith("--allusers --jobs=12")
