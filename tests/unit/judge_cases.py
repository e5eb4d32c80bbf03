"""What slurmctld and slurmd 24.11.5 of Debian 13 said of good and of broken files, and what we make of it.

tests/unit/judge/*.json are recordings by hpcstate.judge with the image hpc-base: the files, and all output of
the daemons. tests/images/test_judge_in_image.py lets the daemons of the present image say it again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from hpcstate import paths
from hpcstate.artifact.store import Manifest
from hpcstate.errors import Problem
from hpcstate.files import write_atomically
from hpcstate.judge.case import Configuration
from hpcstate.judge.inside import Hearing

Expected = tuple[str, int, str, str, str]
"""File, line, severity, place, and the end of the message."""

_FEWER = (
    "slurm.conf",
    12,
    "error",
    "NodeName=compute-[01-02] Gres",
    "INVALID_REG: gres/gpu count reported lower than configured ({} < 2)",
)
_FILE_LESS = "slurmd: warning: Ignoring file-less GPU gpu:simulated from final GRES list"

CASES: Mapping[str, tuple[Expected, ...]] = {
    "good": (),
    "unknown-key-slurm": (
        (
            "slurm.conf",
            8,
            "error",
            "TCPTimeot",
            "slurmctld: error: Parsing error at unrecognized key: TCPTimeot",
        ),
    ),
    "unknown-key-cgroup": (
        (
            "cgroup.conf",
            5,
            "error",
            "TaskAffinity",
            "slurmctld: error: Parsing error at unrecognized key: TaskAffinity",
        ),
    ),
    "unknown-key-gres": (
        (
            "gres.conf of compute-01",
            2,
            "error",
            "NodeName=compute-01 Tipe",
            'Parse error in file /etc/slurm/gres.conf line 2: " Tipe=simulated File=/dev/nvidia1"',
        ),
        (
            "gres.conf of compute-01",
            2,
            "error",
            "NodeName=compute-01 Tipe",
            "slurmd: error: Parsing error at unrecognized key: Tipe",
        ),
    ),
    "bad-value-slurm": (
        (
            "slurm.conf",
            8,
            "error",
            "TCPTimeout",
            'slurmctld: error: TCPTimeout value "many" is not a valid number',
        ),
    ),
    "bad-value-cgroup": (
        (
            "cgroup.conf",
            3,
            "error",
            "ConstrainCores",
            'slurmctld: error: "maybe" is not a valid option for "ConstrainCores"',
        ),
    ),
    "bad-value-gres": (
        (
            "gres.conf of compute-01",
            2,
            "error",
            "NodeName=compute-01 File",
            "slurmd: fatal: Invalid GRES record for gpu, count does not match File value",
        ),
    ),
    "bad-flag-slurm": (
        ("slurm.conf", 15, "error", "TaskPluginParam", "slurmctld: error: Bad TaskPluginParam: Sched"),
    ),
    "unknown-node-in-partition": (
        ("slurm.conf", 14, "error", "PartitionName=debug", 'error: lookup failure for node "compute-03"'),
        ("slurm.conf", 14, "error", "PartitionName=debug", "fatal: Invalid node names in partition debug"),
    ),
    "cpus-do-not-fit": (("slurm.conf", 12, "warning", "NodeName=compute-[01-02] CPUs", "Resetting CPUs."),),
    "other-gres-type": (
        (
            "gres.conf of compute-01",
            1,
            "warning",
            "NodeName=compute-01",
            "GRES gpu:a100 has 1 more configured than expected in slurm.conf. Ignoring extra GRES.",
        ),
        (*_FEWER[:4], _FEWER[4].format(0)),
        ("slurm.conf", 12, "warning", "NodeName=compute-[01-02] Gres", _FILE_LESS),
    ),
    "fewer-devices": (
        ("gres.conf of compute-01", 1, "warning", "NodeName=compute-01 File", _FILE_LESS),
        (*_FEWER[:4], _FEWER[4].format(1)),
    ),
    "more-memory-than-this-machine": (),
    "unknown-cgroup-plugin": (
        ("cgroup.conf", 1, "error", "CgroupPlugin", "name for cgroup/v3 looking at all files"),
        ("cgroup.conf", 1, "error", "CgroupPlugin", "cannot create cgroup context for cgroup/v3"),
        ("cgroup.conf", 1, "error", "CgroupPlugin", "cannot find cgroup plugin for cgroup/v3"),
    ),
    "unknown-plugin-of-slurmd": (
        ("slurm.conf", 10, "error", "ProctrackType", "name for proctrack/cgrup looking at all files"),
        ("slurm.conf", 10, "error", "ProctrackType", "cannot create proctrack context for proctrack/cgrup"),
        ("slurm.conf", 10, "error", "ProctrackType", "cannot find proctrack plugin for proctrack/cgrup"),
    ),
    "unknown-plugin-of-slurmctld": (
        ("slurm.conf", 0, "error", "slurmctld", "error: failed to initialize sched plugin"),
        ("slurm.conf", 0, "error", "slurmctld", "fatal: Failed to initialize the various schedulers"),
        ("slurm.conf", 15, "error", "SchedulerType", "name for sched/wiki looking at all files"),
        ("slurm.conf", 15, "error", "SchedulerType", "cannot create sched context for sched/wiki"),
        ("slurm.conf", 15, "error", "SchedulerType", "cannot find sched plugin for sched/wiki"),
    ),
    "tres-without-slurmdbd": (
        ("slurm.conf", 15, "error", "AccountingStorageTRES", "or remove this TRES from your configuration."),
    ),
    "file-that-is-no-device": (
        (
            "gres.conf of compute-01",
            2,
            "error",
            "NodeName=compute-01 File",
            "slurmd: error: Waiting for gres.conf file nvidia1",
        ),
    ),
    "include-that-is-missing": (
        ("slurm.conf", 15, "error", "Include", "No such file or directory, retrying in 1sec up to 60sec"),
    ),
    "given-twice": (
        ("slurm.conf", 8, "warning", "TCPTimeout", "1 specified more than once, latest value used"),
    ),
    # More of a disk than this machine has is no fault of the files, either.
    "job-container": (),
    "unknown-key-job-container": (
        (
            "job_container.conf",
            2,
            "error",
            "Sharing",
            "slurmd: error: Parsing error at unrecognized key: Sharing",
        ),
    ),
    "slurmdbd-elsewhere": (),
    "user-root": (),
    "autodetect": (),
}
"""Each recording, and the problems that it comes to."""


def load(name: str) -> tuple[Configuration, Hearing]:
    """The files and the words of a recording."""
    data = json.loads((Path(__file__).parent / "judge" / f"{name}.json").read_text())
    return Configuration(data["files"], data["gres"]), Hearing.from_json(json.dumps(data["hearing"]))


def seen(problems: Mapping[str, tuple[Problem, ...] | list[Problem]]) -> list[tuple[str, int, str, str, str]]:
    """Problems as ``CASES`` has them, but for the message, which is whole."""
    return [
        (name, problem.line, problem.severity, problem.place, problem.message)
        for name, some in problems.items()
        for problem in some
    ]


def agrees(found: list[tuple[str, int, str, str, str]], expected: tuple[Expected, ...]) -> bool:
    """Whether ``found`` is ``expected``, in any order."""
    left = list(found)
    for row in expected:
        match = next((same for same in left if same[:4] == row[:4] and same[4].endswith(row[4])), None)
        if match is None:
            return False
        left.remove(match)
    return not left


def build_image(key: str = "k1") -> None:
    """An image as far as the judge looks at it: a file with a sidecar."""
    image = paths.image("hpc-base")
    image.parent.mkdir(parents=True, exist_ok=True)
    image.write_bytes(b"qcow2")
    write_atomically(paths.sidecar(image), Manifest(key, "d", 5, 1.0).to_json())
