"""seff, the folder of modules and the message of the day, run as a node runs them."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from hpcstate import paths, schema
from hpcstate.node import work_files

CLUSTER = schema.load(paths.ROOT / "inventories" / "gpu.yaml").clusters[0]
FILES = work_files.files(CLUSTER, CLUSTER.controller)
WORKERS = work_files.files(CLUSTER, CLUSTER.workers[0])

JOB = (
    "17|alice|ml|CANCELLED by 0|100|5|billing=4,cpu=4,mem=2G,node=2|00:01:20||12_3|lab|alice|1:0|2\n"
    "17.batch||ml|COMPLETED|100||cpu=4,mem=2G,node=2|00:01:20|cpu=00:01:20,mem=512M|12_3.batch|lab||1:0|1\n"
)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder on PATH; what lies there stands in for Slurm's programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


def put(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text)
    file.chmod(0o755)
    return file


def run(folder: Path, *words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder), **more}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)


def sacct(folder: Path, text: str, code: int = 0) -> Path:
    stream = "" if code == 0 else " >&2"
    put(
        folder,
        "sacct",
        f"#!/bin/sh\necho \"$*\" >{folder}/asked\ncat{stream} <<'end'\n{text}end\nexit {code}\n",
    )
    return put(folder, "seff", FILES[work_files.SEFF])


def test_seff_says_what_its_users_know(programs: Path) -> None:
    seff = sacct(programs, JOB)
    for job in ("17", "12_3"):
        assert run(programs, seff, job).stdout.splitlines() == [
            "Job ID: 17",
            "Array Job ID: 12_3",
            "Cluster: lab",
            "User/Group: alice/alice",
            "State: CANCELLED (exit code 1)",
            "Nodes: 2",
            "Cores per node: 2",
            "CPU Utilized: 00:01:20",
            "CPU Efficiency: 20.00% of 00:06:40 core-walltime",
            "Job Wall-clock time: 00:01:40",
            "Memory Utilized: 512.00 MB",
            "Memory Efficiency: 25.00% of 2.00 GB",
        ]
        assert f"--jobs={job}" in (programs / "asked").read_text()


@pytest.mark.parametrize(
    ("text", "code", "job", "ends", "said"),
    [
        ("14|bob|root|PENDING|0|5||00:00:00||14|lab|bob|0:0|1\n", 0, "14", 0, "in the PENDING state"),
        ("14|bob|root|RUNNING|5|5|cpu=1,mem=1G|00:00:00||14|lab|bob|0:0|1\n", 0, "14", 0, "the job runs"),
        ("14|bob|root|COMPLETED|5|5|cpu=1,mem=1G|00:01||14|lab|bob|0:0|1\n", 0, "14", 0, "not measured"),
        ("", 0, "99", 1, "job 99 is not recorded"),
        ("Slurm accounting storage is disabled\n", 1, "99", 2, "storage is disabled"),
        ("nonsense\n", 0, "99", 2, "no answer of sacct"),
        ("", 0, "1;id", 2, "usage: seff"),
    ],
)
def test_seff_of_other_jobs(programs: Path, text: str, code: int, job: str, ends: int, said: str) -> None:
    done = run(programs, sacct(programs, text, code), job)
    assert done.returncode == ends
    assert said in done.stdout + done.stderr and "Traceback" not in done.stderr


def test_seff_runs_nothing_of_who_calls_it(programs: Path) -> None:
    (programs / "re.py").write_text("raise SystemExit('taken')\n")
    assert run(programs, sacct(programs, JOB), "17", PYTHONPATH=str(programs)).returncode == 0


def test_long_times_and_small_sizes() -> None:
    from hpcstate.slurm.seff import clock, percent, size

    assert [clock(seconds) for seconds in (0, 59.6, 86399, 100000)] == [
        "00:00:00",
        "00:01:00",
        "23:59:59",
        "1-03:46:40",
    ]
    assert [size(count) for count in (0, 2048, 3 << 30, 5 << 60)] == [
        "0.00 KB",
        "2.00 KB",
        "3.00 GB",
        "5120.00 PB",
    ]
    assert percent(None) == "0.00%"


def motd(folder: Path, sinfo: str, squeue: str) -> str:
    put(folder, "sinfo", f"#!/bin/sh\n{sinfo}\n")
    put(folder, "squeue", f"#!/bin/sh\n{squeue}\n")
    program = put(folder, "cluster-state", FILES[work_files.STATE_PROGRAM])
    return run(folder, program).stdout


def test_the_message_of_the_day_has_partitions_nodes_and_own_jobs(programs: Path) -> None:
    said = motd(
        programs, "echo 'gpu* 1/2/1/4'; echo 'debug 0/1/0/1'", "echo RUNNING; echo PENDING; echo PENDING"
    )
    assert [line.split() for line in said.splitlines()] == [
        ["PARTITION", "NODES", "IDLE", "ALLOC", "DOWN"],
        ["gpu*", "4", "2", "1", "1"],
        ["debug", "1", "1", "0", "0"],
        ["Your", "jobs:", "2", "pending,", "1", "running", "(squeue", "--me)"],
    ]


def test_a_login_waits_two_seconds_for_a_slurmctld_that_hangs(programs: Path) -> None:
    began = time.monotonic()
    said = motd(programs, "sleep 20", "sleep 20")
    assert time.monotonic() - began < 8
    assert said.splitlines() == [
        "slurmctld does not answer within 2 s: jobs that run go on, new ones have to wait."
    ]


def test_only_a_terminal_gets_the_message(programs: Path, tmp_path: Path) -> None:
    put(programs, "state", "#!/bin/sh\necho the state\n")
    file = tmp_path / "motd.sh"
    file.write_text(FILES[work_files.MOTD].replace(work_files.STATE_PROGRAM, str(programs / "state")))
    assert run(programs, "bash", "-c", f". {file}").stdout == ""
    assert run(programs, "bash", "--norc", "-ic", f". {file}").stdout == "the state\n"
    (programs / ".hushlogin").touch()
    assert run(programs, "bash", "--norc", "-ic", f". {file}").stdout == ""


def test_it_is_where_people_log_in() -> None:
    assert set(FILES) - set(WORKERS) == {work_files.MOTD, work_files.STATE_PROGRAM}


@pytest.mark.parametrize(
    ("home", "before", "after"),
    [
        ("/home/alice", "", work_files.MODULES),
        ("/home/alice", "/opt/modules", f"{work_files.MODULES}:/opt/modules"),
        ("/home/alice", work_files.MODULES, work_files.MODULES),
        # The way in for who mends a server of homes that is away.
        ("/var/lib/hpcstate/admin", "", ""),
    ],
)
def test_the_folder_of_modules_comes_first_and_once(
    programs: Path, home: str, before: str, after: str
) -> None:
    script = f'{WORKERS[work_files.MODULES_PROFILE]}printf %s "${{LMOD_SITE_MODULEPATH-}}"'
    more = {"LMOD_SITE_MODULEPATH": before} if before else {}
    assert run(programs, "dash", "-c", script, **{**more, "HOME": home}).stdout == after


def test_lmod_reads_its_folder_after_ours() -> None:
    assert work_files.MODULES_PROFILE < "/etc/profile.d/lmod.sh"
