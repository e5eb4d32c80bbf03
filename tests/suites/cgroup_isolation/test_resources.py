"""A job is held to the memory and the cores that it asked for, and ends with all its processes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pytest

from hpcstate import hostlist
from hpcstate.check.jobs import Job, Jobs, JobState, describe, on, together
from hpcstate.check.plugin import StartJobs
from hpcstate.check.suite import CheckFailed, RecordProperty, fault
from hpcstate.model import Cluster, Node
from hpcstate.node.ssh import Live
from hpcstate.slurm.conf import cgroup_conf
from hpcstate.slurm.read import meaning
from tests.suites.breaking import last_worker
from tests.suites.job_view import MEMORY_MB, JobView, Remains
from tests.suites.refusals import Answer, demand_refused
from tests.suites.slurm import program, reports

FILL_MB = 200
FILL_SECONDS = 60
HOLD_SECONDS = "100"
SMALL_MB = 32

_WHERE = {"heap": "memory of its own", "shm": "/dev/shm"}


def test_memory(without_gpu: list[JobView], record_property: RecordProperty) -> None:
    """The kernel's limit on a job's memory is what the job asked for, on every node"""
    wanted = MEMORY_MB << 20
    bad = [view for view in without_gpu if view.memory_bytes != wanted]
    if bad:
        raise CheckFailed(
            f"memory.max {wanted} for --mem={MEMORY_MB}M",
            "; ".join(f"{view.host}: {_limit(view.memory_bytes)}" for view in bad),
            "ConstrainRAMSpace=yes in cgroup.conf, TaskPlugin=task/cgroup in slurm.conf",
        )
    record_property("observed", f"memory.max {wanted} on {', '.join(view.host for view in without_gpu)}")


def test_swap(cluster: Cluster, without_gpu: list[JobView], record_property: RecordProperty) -> None:
    """A job has as much swap beyond its memory as cgroup.conf allows, on every node"""
    wanted = swap_bytes(cgroup_conf(cluster), MEMORY_MB << 20)
    bad = [view for view in without_gpu if view.swap_bytes != wanted]
    if bad:
        raise CheckFailed(
            f"memory.swap.max {_limit(wanted)} for --mem={MEMORY_MB}M",
            "; ".join(f"{view.host}: {_limit(view.swap_bytes)}" for view in bad),
            "ConstrainSwapSpace and AllowedSwapSpace in cgroup.conf",
        )
    record_property(
        "observed", f"memory.swap.max {_limit(wanted)} on {', '.join(view.host for view in without_gpu)}"
    )


def swap_bytes(conf: str, memory_bytes: int) -> int | None:
    """The limit on swap of a job with that much memory, None for none: AllowedSwapSpace is a percentage of
    it, 0 when left out (cgroup.conf(5))."""
    keys = meaning(conf, "cgroup.conf").parameters
    if keys.get("constrainswapspace", "no").lower() != "yes":
        return None
    return int(memory_bytes * float(keys.get("allowedswapspace", "0").rstrip("%")) / 100)


def _limit(limit: int | None) -> str:
    return "no limit" if limit is None else str(limit)


@dataclass(frozen=True)
class Overflow:
    """A job that took more memory than it asked for, and its ``fields`` of scontrol show job."""

    where: str
    nodes: tuple[str, ...]
    state: JobState
    fields: Mapping[str, str]

    def problems(self) -> list[str]:
        """Why this is not a job whose tasks on all ``nodes`` were killed for their memory, with srun saying
        so; empty when it is."""
        survived = {report["host"] for report in reports(self.state.output)}
        if survived:
            return [f"{name}: {FILL_MB} MiB were taken" for name in sorted(survived)]
        if self.state.state != "OUT_OF_MEMORY":
            return [describe(self.state)]
        # srun names the task that was killed first; slurmstepd tells of its own node.
        said = [line for line in self.state.output.splitlines() if re.search("oom_kill|Out Of Memory", line)]
        return [
            f"{name}: srun says nothing of it"
            for name in self.nodes
            if not any(name in line for line in said)
        ]


@pytest.fixture(scope="session")
def overflows(live: Live) -> list[Overflow]:
    """What becomes of jobs that take too much memory, of each kind, on all compute nodes."""
    places = together(live, live.workers)
    jobs = {
        f"{where}{number}": Job(
            (*place, "--ntasks-per-node=1", "--cpus-per-task=1", f"--mem={MEMORY_MB}M"),
            program("_fill.py", str(FILL_MB), where),
        )
        for where in _WHERE
        for number, place in enumerate(places)
    }
    with Jobs(live, jobs) as running:
        states = running.wait(
            lambda seen: all(state.over for state in seen.values()),
            f"jobs that take {FILL_MB} MiB with --mem={MEMORY_MB}M end",
            FILL_SECONDS,
        )
        return [_overflow(running, label, state) for label, state in states.items()]


def _overflow(running: Jobs, label: str, state: JobState) -> Overflow:
    fields = running.details(state.job_id) if state.job_id else {}
    nodes = hostlist.expand(fields["NodeList"]) if fields.get("NodeList", "(null)") != "(null)" else ()
    return Overflow(label.rstrip("0123456789"), tuple(nodes), state, fields)


def test_out_of_memory(
    nodes: tuple[Node, ...], overflows: list[Overflow], record_property: RecordProperty
) -> None:
    """A job that takes more memory than it asked for is killed, and reported so"""
    record_property("observed", _killed(nodes, overflows, "heap"))


def test_shared_memory(
    nodes: tuple[Node, ...], overflows: list[Overflow], record_property: RecordProperty
) -> None:
    """What a job writes to /dev/shm counts as its memory"""
    record_property("observed", _killed(nodes, overflows, "shm"))


def _killed(nodes: Sequence[Node], overflows: Sequence[Overflow], where: str) -> str:
    seen = [overflow for overflow in overflows if overflow.where == where]
    problems = [problem for overflow in seen for problem in overflow.problems()]
    missing = {node.name for node in nodes}.difference(*(overflow.nodes for overflow in seen))
    problems += [f"{name}: no job ran there" for name in sorted(missing)]
    if problems:
        raise CheckFailed(
            f"OUT_OF_MEMORY for {FILL_MB} MiB of {_WHERE[where]} with --mem={MEMORY_MB}M, and srun says so",
            "; ".join(problems),
            "ConstrainRAMSpace=yes in cgroup.conf; without swap limits, ConstrainSwapSpace=yes too",
        )
    return "; ".join(
        f"{FILL_MB} MiB of {_WHERE[where]} on {' '.join(overflow.nodes)}: "
        f"JobState={overflow.fields.get('JobState')} ExitCode={overflow.fields.get('ExitCode')}"
        for overflow in seen
    )


@pytest.mark.needs(cpus=2)
def test_cores(without_gpu: list[JobView], record_property: RecordProperty) -> None:
    """A job with one core cannot run on the others, even when it tries"""
    seen = [view for view in without_gpu if view.cpus_of_node > view.cpus_of_job]
    if not seen:
        raise CheckFailed("a node where one core is not all", "every job was given all CPUs of its node")
    # Where a core has two threads, a task may be given one of them and widen to both: the core is the job's.
    bad = [view for view in seen if len(view.cpus_after_widening) > view.cpus_of_job]
    if bad:
        raise CheckFailed(
            "no more CPUs than Slurm gave, also after sched_setaffinity to all of the node",
            "; ".join(map(_cpus, bad)),
            "ConstrainCores=yes in cgroup.conf, TaskPlugin=task/cgroup,task/affinity in slurm.conf",
        )
    record_property("observed", "; ".join(map(_cpus, seen)))


def _cpus(view: JobView) -> str:
    widened, given = (",".join(map(str, cpus)) for cpus in (view.cpus_after_widening, view.cpus_given))
    return (
        f"{view.host}: CPU {given}, {widened} after widening to all {view.cpus_of_node}, "
        f"cpuset.cpus.effective {view.cpus_of_group}, SLURM_CPUS_ON_NODE={view.cpus_of_job}"
    )


def test_cpus_wait(live: Live, jobs: StartJobs, record_property: RecordProperty) -> None:
    """When all CPUs of a node are taken, the next job waits for one

    On the last node only: it is slurmctld that counts the CPUs, not the nodes.
    """
    node = last_worker(live)
    holder, waiter = (
        Job(
            (*on(live, node), "--ntasks=1", f"--cpus-per-task={cpus}", f"--mem={SMALL_MB}M"),
            ("sleep", HOLD_SECONDS),
        )
        for cpus in (node.cpu_cores, 1)
    )
    with jobs({"holder": holder}) as running:
        running.wait(
            lambda states: states["holder"].state == "RUNNING", f"a job with all CPUs of {node.name} runs"
        )
        running.start({"waiter": waiter})
        states = running.wait(
            lambda states: not states["waiter"].waiting or states["waiter"].reason != "None",
            "the second job is queued",
        )
        running.demand_alone(node)
    second = states["waiter"]
    if not (second.waiting and second.reason in ("Resources", "Priority")):
        raise CheckFailed(
            "the second job is PENDING for Resources",
            f"it is {describe(second)}",
            "OverSubscribe=NO for the partition and SelectTypeParameters=CR_Core_Memory in slurm.conf",
        )
    record_property(
        "observed",
        f"{node.name}: all {node.cpu_cores} CPUs held, the next was {second.state} ({second.reason})",
    )


def test_too_much(live: Live, answers: dict[str, Answer], record_property: RecordProperty) -> None:
    """A job that asks for more CPUs or memory than any node has is refused"""
    record_property("observed", demand_refused(live, answers, "cpus", "memory"))


def test_descendants(
    without_gpu: list[JobView], remains: list[Remains], record_property: RecordProperty
) -> None:
    """A job's processes end with it, also one that has left its session and its parent"""
    processes = {view.host: view.left_behind for view in without_gpu}
    bad = [leftover.host for leftover in remains if leftover.daemon]
    if bad:
        raise CheckFailed(
            "no process of the job once it has ended",
            "; ".join(f"{name}: the daemon {processes[name]} lives" for name in bad),
            "ProctrackType=proctrack/cgroup in slurm.conf",
        )
    record_property(
        "observed", "; ".join(f"{name}: daemon {number} is gone" for name, number in processes.items())
    )


@fault("jobs share the CPUs of a partition", "cgroup-isolation.cpus_wait")
def shared(live: Live) -> Iterator[None]:
    partition = on(live, last_worker(live))[0].partition("=")[2]
    update = f"scontrol update partitionname={partition} oversubscribe="
    controller = live.cluster.controller.name
    try:
        live.run(controller, f"{update}FORCE:4", user="root")
        yield
    finally:
        live.run(controller, f"{update}NO", user="root")
