"""What failed first: the cause before what followed from it, who is suspected, and nobody where nothing
failed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hpcstate.diagnose.decide import Diagnosis, diagnose
from hpcstate.diagnose.events import parse as parse_events
from hpcstate.diagnose.lines import LogLine, of_text
from hpcstate.diagnose.record import Ended, JobRecord, JobStep
from hpcstate.diagnose.rules import causes, rules
from hpcstate.diagnose.sources import of_this_job
from hpcstate.diagnose.text import as_dict, as_text
from tests.unit.diagnose.measure import macro_f1, samples

JOB = JobRecord(12, "train", "alice", states=("FAILED",), ended=Ended(1), nodes="n[1-2]", start=100, end=400)
WATCHDOG = (
    "[rank{rank}]:[E321 ProcessGroupNCCL.cpp:607] [Rank {rank}] Watchdog caught collective operation "
    "timeout: "
    "WorkNCCL(SeqNum={seq}, OpType={op}, NumelIn=4, NumelOut=4, Timeout(ms)=600000) ran for 600060 ms"
)


def of(text: str, record: JobRecord | None = None) -> Diagnosis:
    return diagnose(of_text(text, "out", "n1"), record)


def timeouts(ranks: list[int], op: str = "ALLREDUCE", seq: int = 7) -> str:
    return "\n".join(WATCHDOG.format(rank=rank, op=op, seq=seq) for rank in ranks)


CASES = {
    "one rank dies, the others lose it": (
        "[rank2]: Traceback (most recent call last):\n"
        '[rank2]:   File "train.py", line 30, in step\n'
        "[rank2]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n"
        "[rank0]: torch.distributed.DistBackendError: NCCL error, remote process exited\n"
        "[rank1]: BrokenPipeError: [Errno 32] Broken pipe\n",
        "gpu-memory",
        2,
    ),
    "an exception before the others time out": (
        "[rank1]: Traceback (most recent call last):\n"
        '[rank1]:   File "data.py", line 3, in <module>\n'
        "[rank1]: ValueError: shapes do not fit\n" + timeouts([0, 2, 3]),
        "program",
        1,
    ),
    "chained: the first is the cause": (
        "Traceback (most recent call last):\n"
        '  File "a.py", line 1, in <module>\n'
        "FileNotFoundError: [Errno 2] No such file or directory: 'weights.pt'\n\n"
        "The above exception was the direct cause of the following exception:\n\n"
        "Traceback (most recent call last):\n"
        '  File "b.py", line 9, in <module>\n'
        "RuntimeError: cannot start\n",
        "missing-file",
        None,
    ),
    "srun says which task": (
        "srun: error: n2: task 3: Segmentation fault (core dumped)\n"
        "srun: Terminating StepId=12.0\n"
        "slurmstepd: error: *** STEP 12.0 ON n1 CANCELLED AT 2026-01-01T00:00:00 ***\n"
        "srun: error: n1: tasks 0-2: Terminated\n",
        "crash",
        3,
    ),
    "the first of torchrun's table": (
        "Failures:\n[1]:\n  time      : 2026-01-01_10:00:09\n  host      : n2\n  rank      : 5 "
        "(local_rank: 1)\n  exitcode  : -11 (pid: 5)\nRoot Cause (first observed failure):\n[0]:\n"
        "  time      : 2026-01-01_10:00:04\n  host      : n1\n  rank      : 3 "
        "(local_rank: 3)\n  exitcode  : -11 (pid: 3)\n",
        "crash",
        3,
    ),
    "MPI_ABORT of a rank": (
        "MPI_ABORT was invoked on rank 2 in communicator MPI_COMM_WORLD\nwith errorcode 3.\n"
        "mpirun noticed that process rank 0 with PID 1 on node n1 exited on signal 15 (Terminated).\n",
        "program",
        2,
    ),
    "a progress bar in the same line": (
        "Epoch 1:  50%|█████     | 5/10 [00:05<00:05]\rEpoch 1:  60%|██████    | 6/10 [00:06<00:04]"
        "OSError: [Errno 28] No space left on device\n",
        "disk-full",
        None,
    ),
    "colours": (
        "\x1b[31mslurmstepd: error: Detected 1 oom_kill event\x1b[0m in StepId=12.0\n",
        "memory",
        None,
    ),
}


@pytest.mark.parametrize(("text", "cause", "rank"), CASES.values(), ids=CASES)
def test_the_first_cause_and_its_rank(text: str, cause: str, rank: int | None) -> None:
    found = of(text)
    assert (found.cause.name, found.rank) == (cause, rank)
    assert found.evidence[0].line.place.startswith("n1 out:")


@pytest.mark.parametrize(
    ("text", "rank", "words"),
    [
        ("world_size: 4\n" + timeouts([0, 1, 3]), 2, "others reported"),
        (
            "\n".join(
                f"[rank{rank}]:[E ProcessGroupNCCL.cpp:1785] [PG ID 0 PG GUID 0(default_pg) Rank {rank}] "
                f"Exception detected by watchdog at work: 7, last enqueued NCCL work: {last}, last completed "
                f"NCCL work: 6."
                for rank, last in ((0, 9), (1, 7), (2, 9), (3, 9))
            )
            + "\n"
            + timeouts([0, 1, 2, 3]),
            1,
            "had begun 7",
        ),
        (timeouts([0, 1]) + "\n" + timeouts([2], "BROADCAST"), 2, "ALLREDUCE"),
        (timeouts([0, 1, 2, 3]), None, "not to be told"),
    ],
    ids=["silent", "behind", "another operation", "nobody"],
)
def test_who_kept_the_others_waiting(text: str, rank: int | None, words: str) -> None:
    found = of(text)
    assert found.cause.name == "collective-timeout"
    assert found.rank == rank
    assert words in found.summary


RECORDS = [
    (replace(JOB, states=("OUT_OF_MEMORY",), ended=Ended(0, 125)), "", "memory", "certain"),
    (
        replace(JOB, steps=(JobStep("0", ("OUT_OF_MEMORY",), Ended(0, 9), "n2", 4),)),
        "Killed\n",
        "memory",
        "certain",
    ),
    (replace(JOB, states=("TIMEOUT",), limit_s=60), "step 3 of 10\n", "time-limit", "certain"),
    (replace(JOB, states=("TIMEOUT",)), timeouts([0, 1]), "collective-timeout", "likely"),
    (replace(JOB, states=("NODE_FAIL",), failed_node="n2"), "BrokenPipeError\n", "node-failure", "certain"),
    (replace(JOB, states=("PREEMPTED",)), "srun: Job step aborted\n", "preempted", "certain"),
    (replace(JOB, states=("CANCELLED",), killed_by="bob"), "KeyboardInterrupt\n", "cancelled", "certain"),
    (replace(JOB, ended=Ended(7)), "so long\n", "exit-code", "possible"),
    (replace(JOB, ended=Ended(139)), "", "crash", "likely"),
    (replace(JOB, ended=Ended(127)), "", "missing-software", "likely"),
    (replace(JOB, ended=Ended(0, 53)), "", "missing-file", "likely"),
    (replace(JOB, states=("COMPLETED",), ended=Ended()), "Killed\nCUDA out of memory\n", "none", "certain"),
    (replace(JOB, states=("RUNNING",), ended=Ended()), "Traceback\n", "none", "certain"),
    (replace(JOB, states=("PENDING",), reason="Resources", ended=Ended()), "", "none", "certain"),
    (
        replace(JOB, states=("PENDING",), reason="launch_failed_requeued_held", ended=Ended()),
        "",
        "launch",
        "certain",
    ),
]


@pytest.mark.parametrize(
    ("record", "text", "cause", "sure"), RECORDS, ids=[f"{row[2]} {n}" for n, row in enumerate(RECORDS)]
)
def test_what_slurm_recorded(record: JobRecord, text: str, cause: str, sure: str) -> None:
    found = of(text, record)
    assert (found.cause.name, found.sure) == (cause, sure)


def kernel(*texts: str) -> list[LogLine]:
    return [LogLine(text, "kernel", "kernel log", node="n2", time=200.0) for text in texts]


def test_an_xid_of_the_time_is_the_cause_and_its_node_the_place() -> None:
    log = kernel("NVRM: Xid (PCI:0000:06:00): 79, pid=7, name=python3, GPU has fallen off the bus.")
    found = diagnose([*log, *of_text("RuntimeError: CUDA error: unspecified launch failure", "out")], JOB)
    assert (found.cause.name, found.node, found.sure) == ("gpu-hardware", "n2", "certain")
    assert "Xid 79" in found.evidence[0].origin


def test_an_xid_of_the_programs_own_fault_is_no_hardware() -> None:
    found = diagnose(kernel("NVRM: Xid (PCI:0000:06:00): 31, pid=7, name=python3, MMU Fault"), JOB)
    assert found.cause.name == "gpu-program"


def test_the_kill_of_another_job_is_not_this_ones() -> None:
    of_other = (
        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=step_0,mems_allowed=0,oom_memcg=/x/job_13,"
        "task_memcg=/system.slice/slurmstepd.scope/job_13/step_0/user/task_0,task=a.out,pid=9,uid=1000",
        "Memory cgroup out of memory: Killed process 9 (a.out) total-vm:1kB",
    )
    assert of_this_job(kernel(*of_other), 12) == []
    own = [text.replace("job_13", "job_12") for text in of_other]
    found = diagnose(of_this_job(kernel(*own), 12), JOB)
    assert (found.cause.name, found.node, found.sure) == ("memory", "n2", "certain")


def test_a_prolog_that_failed_by_its_node() -> None:
    row = (
        '{"time": "2026-01-01T00:00:00Z", "event": "prolog", "job": 12, "node": "n2", "checks": '
        '[{"check": "home", "result": "failed", "detail": "/home is not mounted", "blame": "node"}]}'
    )
    rows = [(1, "not json"), (2, row), (3, row.replace('"job": 12', '"job": 13')), (4, row[:40])]
    events = parse_events(rows, 12)
    assert len(events) == 1
    found = diagnose([], JOB, events)
    assert (found.cause.name, found.node) == ("launch", "n2")
    assert "/home is not mounted" in as_text(found)


def test_ten_healthy_jobs_are_not_accused() -> None:
    """Not with their record, which says that they were well, and not by their words alone."""
    well = replace(JOB, states=("COMPLETED",), ended=Ended())
    found = samples("healthy")
    assert len(found) == 10
    for sample in found:
        assert of(sample.text, well).cause.name == "none", sample.source
        assert of(sample.text).cause.name == "unknown", sample.source


def test_unknown_stays_unknown() -> None:
    found = of("hello\nworld\n")
    assert (found.cause.name, found.sure, found.evidence) == ("unknown", "unknown", ())


def test_every_rule_has_its_source_and_a_known_cause() -> None:
    for rule in rules():
        assert rule.origin, rule.pattern.pattern
        assert rule.tier in ("cause", "program", "effect", "end")
        assert rule.sure in ("certain", "likely", "possible")
        assert rule.within <= {"job", "kernel", "slurm"}
    for cause in causes().values():
        assert cause.blame in ("user", "node", "cluster", "unknown")
        assert cause.steps


def test_both_forms_say_the_same() -> None:
    found = of("slurmstepd: error: Detected 1 oom_kill event in StepId=12.0\n", JOB)
    told = as_dict(found)
    assert told["cause"] == "memory" and told["job"] == "12"
    assert told["evidence"][0]["line"] == 1 and told["evidence"][0]["file"] == "out"
    text = as_text(found)
    assert "[memory]" in text and "n1 out:1:" in text and "seff 12" in text


def test_the_measurement_sees_what_is_wrong() -> None:
    assert macro_f1([("a", "a"), ("b", "b")]) == 1
    assert macro_f1([("a", "b"), ("b", "b")]) == pytest.approx((0 + 2 / 3) / 2)


@pytest.mark.parametrize(("half", "least"), [("dev", 0.95), ("test", 0.84)])
def test_the_samples_are_read_as_well_as_they_were(half: str, least: float) -> None:
    from tests.unit.diagnose.measure import said

    rows = [(sample.cause, said(sample)) for sample in samples(half)]
    assert macro_f1(rows) >= least
