"""A job is held to the memory and the cores that it asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hpcstate.check import CheckFailed, check, fault
from hpcstate.live import Live
from tests.suites.breaking import CGROUP_CONF, Edit, edited, last_worker, set_key
from tests.suites.jobs import Job, Jobs, describe, on, srun, together
from tests.suites.slurm import program, reports

MEMORY_MB = 100
FILL_MB = 300


@check("limits.memory", "The kernel's limit on a job's memory is what the job asked for, on every node")
def memory_limit(live: Live) -> str:
    wanted = MEMORY_MB << 20
    seen = _look(live)
    bad = [report for report in seen if report["memory_bytes"] != wanted]
    if bad:
        raise CheckFailed(
            f"memory.max {wanted} for --mem={MEMORY_MB}M",
            "; ".join(f"{report['host']}: {report['memory_bytes'] or 'no limit'}" for report in bad),
            "ConstrainRAMSpace=yes in cgroup.conf, TaskPlugin=task/cgroup in slurm.conf",
        )
    return f"memory.max {wanted} on {', '.join(report['host'] for report in seen)}"


@check("limits.out_of_memory", "A job that takes more memory than it asked for is killed, and reported so")
def out_of_memory(live: Live) -> str:
    jobs = {
        node.name: Job(
            (*on(live, node), "--ntasks=1", "--cpus-per-task=1", f"--mem={MEMORY_MB}M"),
            program(__file__, "_fill.py", str(FILL_MB)),
        )
        for node in live.workers
    }
    with Jobs(live, jobs) as running:
        states = running.wait(
            lambda seen: all(state.over for state in seen.values()),
            f"jobs that take {FILL_MB} MiB with --mem={MEMORY_MB}M end",
        )
        bad = [
            f"{name}: {describe(state)}"
            for name, state in states.items()
            if state.state != "OUT_OF_MEMORY" or reports(state.output)
        ]
        silent = [name for name, state in states.items() if "out of memory" not in state.output.lower()]
        if bad or silent:
            raise CheckFailed(
                "OUT_OF_MEMORY for every job, and srun says so",
                "; ".join(bad) or f"srun says nothing of it on {', '.join(silent)}",
                "ConstrainRAMSpace=yes in cgroup.conf; without swap limits, ConstrainSwapSpace=yes too",
            )
        details = {name: running.details(state.job_id) for name, state in states.items()}
    return "; ".join(
        f"{name}: JobState={fields.get('JobState')} ExitCode={fields.get('ExitCode')}"
        for name, fields in details.items()
    )


@check("limits.cores", "A job with one core cannot run on the others, even when it tries", needs_cpus=2)
def cores(live: Live) -> str:
    seen = [report for report in _look(live) if report["cpus_of_node"] > report["cpus_of_job"]]
    if not seen:
        raise CheckFailed("a node where one core is not all", "every job was given all CPUs of its node")
    # Where a core has two threads, a task may be given one of them and widen to both: the core is the job's.
    bad = [report for report in seen if len(report["cpus_after_widening"]) > report["cpus_of_job"]]
    if bad:
        raise CheckFailed(
            "no more CPUs than Slurm gave, also after sched_setaffinity to all of the node",
            "; ".join(map(_cpus, bad)),
            "ConstrainCores=yes in cgroup.conf, TaskPlugin=task/cgroup,task/affinity in slurm.conf",
        )
    return "; ".join(map(_cpus, seen))


def _cpus(report: Mapping[str, Any]) -> str:
    widened = ",".join(map(str, report["cpus_after_widening"]))
    given = ",".join(map(str, report["cpus_given"]))
    total, count = report["cpus_of_node"], report["cpus_of_job"]
    return (
        f"{report['host']}: CPU {given}, {widened} after widening to all {total}, SLURM_CPUS_ON_NODE={count}"
    )


def _look(live: Live) -> list[dict[str, Any]]:
    """The limits that a job with one core meets, on every compute node."""
    seen = []
    for place in together(live, live.workers):
        arguments = (*place, "--ntasks-per-node=1", "--cpus-per-task=1", f"--mem={MEMORY_MB}M")
        seen += reports(srun(live, arguments, program(__file__, "_limits.py")))
    hosts = sorted(report["host"] for report in seen)
    if hosts != sorted(node.name for node in live.workers):
        raise CheckFailed("a report from every compute node", f"reports from {' '.join(hosts) or 'none'}")
    return sorted(seen, key=lambda report: str(report["host"]))


def _without(live: Live, *keys: str) -> Iterator[None]:
    def change(text: str) -> str:
        for key in keys:
            text = set_key(key, "no")(text)
        return text

    name = last_worker(live).name
    with edited(live, [Edit(name, CGROUP_CONF, change)], restart=[(name, "slurmd")]):
        yield


@fault(memory_limit, "ConstrainRAMSpace and ConstrainSwapSpace are no on a node")
def unlimited_memory(live: Live) -> Iterator[None]:
    # With either of them, Slurm sets memory.max: a limit on swap needs one on memory.
    yield from _without(live, "ConstrainRAMSpace", "ConstrainSwapSpace")


@fault(out_of_memory, "ConstrainRAMSpace and ConstrainSwapSpace are no on a node")
def unkilled(live: Live) -> Iterator[None]:
    # A limit on memory and swap together, as cgroup v1 has it, would kill the job all the same.
    yield from _without(live, "ConstrainRAMSpace", "ConstrainSwapSpace")


@fault(cores, "ConstrainCores is no on a node")
def unbound(live: Live) -> Iterator[None]:
    yield from _without(live, "ConstrainCores")
