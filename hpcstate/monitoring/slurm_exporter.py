"""Metrics of Slurm for Prometheus: a program of the controller, by Debian's Python and its prometheus_client.

The names are those of Slurm's own plugin, metrics/openmetrics (25.11 and 26.05: its openmetrics.c, and
src/slurmctld/statistics.c), so that this can go when it comes; all are gauges there, and here. What starts
with ``hpcstate_`` has no name there. Not told, since no command of 24.11 says it cheaply: effective CPUs and
memory, nodes by user and account, how many nodes a job that waits wants,
and the base state of a job that squeue shows by a flag (COMPLETING).

One squeue, one sinfo, one sdiag make an answer, and it is kept (hpcstate.monitoring.exporter). Never squeue's
JSON, which takes minutes for a long queue.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from hpcstate.monitoring.exporter import Sample, serve

MARK = "\x1f"
"""Between two fields: no name in Slurm has the unit separator."""

JOB_FIELDS = (
    "JobID",
    "State",
    "Partition",
    "UserName",
    "Account",
    "NumCPUs",
    "NumNodes",
    "Reason",
    "tres-alloc",
)
NODE_FIELDS = (
    "NodeList",
    "PartitionName",
    "StateComplete",
    "CPUsState",
    "Memory",
    "AllocMem",
    "FreeMem",
    "Gres",
    "GresUsed",
    "TimeStamp",
    "User",
    "Extra",
    "Reason",
)
COMMAND_SECONDS = 60


def fields(names: tuple[str, ...]) -> str:
    """``names`` for ``-O``: each whole (squeue(1): a size cuts), and a MARK behind it."""
    return ",".join(f"{name}:{MARK}" for name in names)


COMMANDS: Mapping[str, tuple[str, ...]] = {
    "squeue": ("squeue", "-ar", "-h", "-t", "all", "-O", fields(JOB_FIELDS)),
    "sinfo": ("sinfo", "-aN", "-h", "-O", fields(NODE_FIELDS)),
    "sdiag": ("sdiag", "--json"),
}


_JOB_STATES = {
    "PENDING": ("pending",),
    "RUNNING": ("running", "started"),
    "SUSPENDED": ("suspended", "started"),
    "STOPPED": ("running", "started"),
    "COMPLETED": ("completed", "started", "finished"),
    "CANCELLED": ("cancelled", "started", "finished"),
    "FAILED": ("failed", "started", "finished"),
    "TIMEOUT": ("timeout", "started", "finished"),
    "NODE_FAIL": ("node_failed", "started", "finished"),
    "PREEMPTED": ("preempted", "started", "finished"),
    "BOOT_FAIL": ("bootfail", "started", "finished"),
    "DEADLINE": ("deadline", "started", "finished"),
    "OUT_OF_MEMORY": ("outofmemory", "started", "finished"),
    # Flags, which squeue shows in the place of the state.
    "COMPLETING": ("completing", "started"),
    "CONFIGURING": ("configuring", "running", "started"),
    "RESIZING": ("resizing", "running", "started"),
    "SIGNALING": ("signaling", "running", "started"),
    "STAGE_OUT": ("stageout", "started"),
    "REQUEUED": ("requeued", "pending"),
    "REQUEUE_HOLD": ("requeued", "pending", "hold"),
    "REQUEUE_FED": ("fed_requeued",),
    "SPECIAL_EXIT": ("requeued", "pending", "hold"),
    "REVOKED": ("revoked",),
    "EXPEDITING": ("expediting", "pending"),
}
"""What each state counts as (slurm.h, JOB_STATE_BASE: whatever is more than pending has started)."""

JOB_COUNTS = tuple(dict.fromkeys(name for names in _JOB_STATES.values() for name in names))
_HELD = {"JobHeldUser", "JobHeldAdmin"}
_WAITS = {"Dependency", "BeginTime", "DependencyNeverSatisfied"}
_HOLDS = {"running", "suspended", "completing"}


class _Jobs:
    """Counts of jobs, as jobs_stats_t."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        self.total = self.cpus = self.gpus = self.memory = self.nodes = 0

    def add(self, counts: tuple[str, ...], held: bool, cpus: int, tres: str) -> None:
        self.total += 1
        self.count.update(counts)
        if held and "hold" not in counts:
            self.count["hold"] += 1
        if _HOLDS & set(counts):
            self.cpus += cpus
            self.gpus += _tres(tres, "gres/gpu")
            self.memory += _tres(tres, "mem")

    def samples(self, prefix: str, *labels: tuple[str, str]) -> Iterator[Sample]:
        yield Sample(f"{prefix}jobs", self.total, labels)
        for name in JOB_COUNTS:
            yield Sample(f"{prefix}jobs_{name}", self.count[name], labels)
        yield Sample(f"{prefix}jobs_cpus_alloc", self.cpus, labels)
        yield Sample(f"{prefix}jobs_gpus_alloc", self.gpus, labels)
        yield Sample(f"{prefix}jobs_memory_alloc", self.memory, labels)


def jobs(text: str) -> Iterator[Sample]:
    """The samples of what squeue said. Raises ValueError for a line of another shape."""
    everything = _Jobs()
    users: dict[str, _Jobs] = defaultdict(_Jobs)
    accounts: dict[str, _Jobs] = defaultdict(_Jobs)
    partitions: dict[str, _Jobs] = defaultdict(_Jobs)
    dependent = eligible = 0
    for line in text.splitlines():
        number, state, names, user, account, cpus, _, reason, tres, _ = line.split(MARK)
        counts = _JOB_STATES.get(state.strip(), ())
        held = "pending" in counts and reason in _HELD
        if "pending" in counts:
            dependent += reason in ("Dependency", "DependencyNeverSatisfied")
            eligible += not held and reason not in _WAITS
        found = [everything, users[user], accounts[account]]
        # A job that waits may name several partitions.
        found += [partitions[name] for name in names.split(",")]
        for each in found:
            each.add(counts, held, _number(cpus), tres)
        if _HOLDS & set(counts):
            labels = (("jobid", number), ("user", user), ("account", _account(account)), ("partition", names))
            yield Sample("hpcstate_slurm_job_info", 1, labels)
    yield from everything.samples("slurm_")
    yield Sample("hpcstate_slurm_jobs_dependency", dependent)
    yield Sample("hpcstate_slurm_jobs_eligible", eligible)
    for name, each in users.items():
        # ``user`` is what dashboards of vpenso's exporter ask for.
        yield from each.samples("slurm_user_", ("username", name), ("user", name))
    for name, each in accounts.items():
        yield from each.samples("slurm_account_", ("account", _account(name)))
    for name, each in partitions.items():
        yield from each.samples("slurm_partition_", ("partition", name))


def _account(name: str) -> str:
    """Without accounting a job has none."""
    return "" if name == "(null)" else name


_NODE_STATES = {
    "down": "down",
    "mixed": "mixed",
    "allocated": "alloc",
    "idle": "idle",
    "unknown": "unknown",
    "future": "future",
}
"""Base states by sinfo's words."""

_NODE_FLAGS = {
    "completing": "completing",
    "blocked": "blocked",
    "cloud": "cloud",
    "drain": "drain",
    "dynamic_future": "dyn_future",
    "dynamic_norm": "dyn_normal",
    "external": "external",
    "fail": "fail",
    "invalid_reg": "invalid_reg",
    "maintenance": "maint",
    "not_responding": "noresp",
    "planned": "planned",
    "power_down": "power_down",
    "powering_up": "powering_up",
    "powered_down": "powered_down",
    "powering_down": "powering_down",
    "power_up": "power_up",
    "reboot_issued": "reboot_issued",
    "reboot_requested": "reboot_req",
    "reserved": "resv",
}
_NODE_COUNTS = (*_NODE_STATES.values(), *_NODE_FLAGS.values(), "drained", "draining")
_OF_PARTITION = {
    "completing": "cg",
    "noresp": "no_resp",
    "reboot_req": "reboot_requested",
}
"""The names of partitions' counts that differ from those of all nodes."""

_WORDS = {"maint": "maintenance", "no_respond": "not_responding", "allocating": "allocated"}


def node_states(text: str) -> set[str]:
    """What a node counts as, by its StateComplete (``mixed+drain``): base state, flags, drained, draining."""
    words = [word.strip("*~#!%$@^-") for word in text.lower().split("+")]
    words = [_WORDS.get(word, word) for word in words]
    found = {_NODE_STATES[word] for word in words if word in _NODE_STATES}
    found |= {_NODE_FLAGS[word] for word in words if word in _NODE_FLAGS}
    if "drain" in found:
        busy = found & {"alloc", "mixed", "completing"}
        found.add("draining" if busy else "drained")
    return found


def nodes(text: str, clock: Callable[[str], float]) -> Iterator[Sample]:
    """The samples of what sinfo said: a line for each node and each of its partitions. ``clock`` reads
    sinfo's times. Raises ValueError for a line of another shape."""
    seen: set[str] = set()
    total: Counter[str] = Counter()
    partitions: dict[str, Counter[str]] = defaultdict(Counter)
    for line in text.splitlines():
        # The reason is free text, and comes last.
        name, partition, state, cpus, memory, used, free, gres, gres_used, since, user, extra, reason = (
            line.split(MARK, len(NODE_FIELDS) - 1)
        )
        is_in = node_states(state)
        alloc, idle, _, all_cpus = (_number(number) for number in cpus.split("/"))
        megabytes = {"memory": _number(memory), "alloc": _number(used), "free": _number(free)}
        gpus, gpus_used = _gpus(gres), _gpus(gres_used)
        if partition:
            count = partitions[partition]
            count.update({"nodes": 1, "cpus": all_cpus, "gpus": gpus})
            count.update({f"nodes_{_OF_PARTITION.get(each, each)}": 1 for each in is_in})
            count.update({"nodes_cpus_alloc": alloc, "nodes_cpus_idle": idle})
            for ours, theirs in (("memory", "mem_tot"), ("alloc", "mem_alloc"), ("free", "mem_free")):
                count[f"nodes_{theirs}"] += megabytes[ours] << 20
        if name in seen:
            continue
        seen.add(name)
        total.update(is_in)
        total["busy"] += alloc > 0
        yield from _node(name, (all_cpus, alloc, idle), megabytes, (gpus, gpus_used))
        for each in sorted(is_in):
            yield Sample("hpcstate_slurm_node_state", 1, (("node", name), ("state", each)))
        if "drain" in is_in:
            labels = (("node", name), ("user", user), ("reason", reason.rstrip(MARK)))
            yield Sample("hpcstate_slurm_node_drained_since_timestamp_seconds", clock(since), labels)
        for key, value in _runs(extra):
            yield Sample("hpcstate_slurm_node_runs", 1, (("node", name), ("key", key), ("runs", value)))
    yield Sample("slurm_nodes", len(seen))
    for each in _NODE_COUNTS:
        if each != "powering_down":
            yield Sample(f"slurm_nodes_{each}", total[each])
    yield Sample("slurm_jobs_nodes_alloc", total["busy"])
    yield Sample("slurm_partitions", len(partitions))
    of_partition = sorted(
        {key for count in partitions.values() for key in count}
        | {f"nodes_{_OF_PARTITION.get(each, each)}" for each in _NODE_COUNTS}
    )
    for partition, count in partitions.items():
        for key in of_partition:
            yield Sample(f"slurm_partition_{key}", count[key], (("partition", partition),))


def _node(
    name: str, cpus: tuple[int, int, int], megabytes: Mapping[str, int], gpus: tuple[int, int]
) -> Iterator[Sample]:
    labels = (("node", name),)
    for metric, value in (
        ("cpus", cpus[0]),
        ("cpus_alloc", cpus[1]),
        ("cpus_idle", cpus[2]),
        ("gpus", gpus[0]),
        ("gpus_alloc", gpus[1]),
        ("memory_bytes", megabytes["memory"] << 20),
        ("memory_alloc_bytes", megabytes["alloc"] << 20),
        ("memory_free_bytes", megabytes["free"] << 20),
    ):
        yield Sample(f"slurm_node_{metric}", value, labels)


def _runs(extra: str) -> list[tuple[str, str]]:
    """What hpcstate noted that a node runs (hpcstate.node.runs): an object of JSON, or anything else."""
    try:
        found = json.loads(extra)
    except ValueError:
        return []
    if not isinstance(found, dict):
        return []
    return [(key, value) for key, value in sorted(found.items()) if isinstance(value, str)]


def _gpus(gres: str) -> int:
    """How many of ``gpu:simulated:2(S:0),gpu:1(IDX:0)``; shards are none."""
    return sum(int(number) for number in re.findall(r"(?:^|,)gpu(?::[^:,()]+)?:(\d+)", gres))


def _tres(text: str, name: str) -> int:
    """A number of ``cpu=2,mem=100M,node=1,gres/gpu=1``; memory in bytes."""
    for part in text.split(","):
        key, _, value = part.partition("=")
        if key == name:
            return _number(value, memory=name == "mem")
    return 0


_UNITS = {"K": 10, "M": 20, "G": 30, "T": 40, "P": 50}


def _number(text: str, *, memory: bool = False) -> int:
    """A number of Slurm's; 0 for N/A and (null). Memory has a unit, MiB where it has none."""
    found = re.match(r"\s*([0-9.]+)([KMGTP]?)", text)
    if found is None:
        return 0
    unit = _UNITS.get(found[2], 20 if memory else 0)
    if found[2] and not memory:
        # Of large numbers squeue shows thousands (src/common/slurm_protocol_api.c, convert_num_unit).
        unit = {"K": 10, "M": 20}.get(found[2], unit)
    return int(float(found[1]) * (1 << unit))


_DIAG = {
    "agent_count": "agent_cnt",
    "agent_queue_size": "agent_queue_size",
    "agent_thread_count": "agent_thread_cnt",
    "bf_depth_mean": "bf_depth_mean",
    "bf_cycle_mean": "bf_mean_cycle",
    "bf_table_size_mean": "bf_mean_table_sz",
    "bf_queue_len_mean": "bf_queue_len_mean",
    "bf_depth_mean_try": "bf_try_depth_mean",
    "bf_backfilled_het_jobs": "backfilled_het_jobs",
    "bf_backfilled_jobs": "backfilled_jobs",
    "bf_active": "bf_active",
    "bf_cycle_counter": "bf_cycle_cnt",
    "bf_cycle_last": "bf_cycle_last",
    "bf_cycle_max": "bf_cycle_max",
    "bf_cycle_sum": "bf_cycle_tot",
    "bf_depth_sum": "bf_depth_tot",
    "bf_depth_try_sum": "bf_depth_try_tot",
    "bf_last_depth": "bf_last_depth",
    "bf_last_depth_try": "bf_last_depth_try",
    "bf_queue_len": "bf_queue_len",
    "bf_queue_len_sum": "bf_queue_len_tot",
    "bf_table_size": "bf_table_size",
    "bf_table_size_sum": "bf_table_size_tot",
    "bf_when_last_cycle": "bf_when_last_cycle",
    "jobs_canceled": "sdiag_jobs_canceled",
    "jobs_completed": "sdiag_jobs_completed",
    "jobs_failed": "sdiag_jobs_failed",
    "jobs_pending": "sdiag_jobs_pending",
    "jobs_running": "sdiag_jobs_running",
    "jobs_started": "sdiag_jobs_started",
    "jobs_submitted": "sdiag_jobs_submitted",
    "job_states_ts": "sdiag_job_states_ts",
    "bf_last_backfilled_jobs": "last_backfilled_jobs",
    "gettimeofday_latency": "sdiag_latency",
    "schedule_cycle_total": "schedule_cycle_cnt",
    "schedule_cycle_depth": "schedule_cycle_depth",
    "schedule_cycle_last": "schedule_cycle_last",
    "schedule_cycle_max": "schedule_cycle_max",
    "schedule_cycle_sum": "schedule_cycle_tot",
    "schedule_queue_length": "schedule_queue_len",
    "schedule_cycle_mean": "sched_mean_cycle",
    "schedule_cycle_mean_depth": "sched_mean_depth_cycle",
    "server_thread_count": "server_thread_cnt",
    "dbd_agent_queue_size": "slurmdbd_queue_size",
    "req_time_start": "last_proc_req_start",
    "req_time": "sched_stats_timestamp",
}
"""Keys of ``statistics`` of sdiag's JSON, and the plugin's names without ``slurm_``."""

_EXITS = {
    "schedule_exit": (
        "sched_exit",
        {
            "end_job_queue": "end",
            "default_queue_depth": "max_depth",
            "max_job_start": "max_job_start",
            "licenses": "lic",
            "max_rpc_cnt": "rpc_cnt",
            "max_sched_time": "timeout",
        },
    ),
    "bf_exit": (
        "bf_exit",
        {
            "end_job_queue": "end",
            "bf_max_job_start": "max_job_start",
            "bf_max_job_test": "max_job_test",
            "state_changed": "state_changed",
            "bf_node_space_size": "table_limit",
            "bf_max_time": "timeout",
        },
    ),
}


def scheduler(text: str) -> Iterator[Sample]:
    """The samples of what ``sdiag --json`` said. Raises ValueError for what is no such answer."""
    try:
        found = dict(json.loads(text)["statistics"])
    except (KeyError, TypeError) as error:
        raise ValueError("no statistics in it") from error
    for key, name in _DIAG.items():
        if key in found:
            yield Sample(f"slurm_{name}", _value(found[key]))
    for key, (prefix, names) in _EXITS.items():
        for theirs, ours in names.items():
            if theirs in found.get(key, {}):
                yield Sample(f"slurm_{prefix}_{ours}", _value(found[key][theirs]))


def _value(found: Any) -> float:
    """A number of Slurm's JSON: plain, or an object that says whether it is one."""
    return float(found.get("number", 0) if isinstance(found, dict) else found)


def _clock(text: str) -> float:
    """sinfo's time (``2026-11-28T06:26:39``, by the clock of this machine) in seconds since 1970."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


READERS: Mapping[str, Callable[[str], Iterator[Sample]]] = {
    "squeue": jobs,
    "sinfo": lambda text: nodes(text, _clock),
    "sdiag": scheduler,
}


def ask() -> list[Sample]:
    """All samples, and of each command whether it answered and how long it took. One that fails has no
    samples: they end in Prometheus, and nothing old is told as new."""
    found: list[Sample] = []
    for name, command in COMMANDS.items():
        began = time.monotonic()
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=True, errors="replace"
            )
            samples = list(READERS[name](done.stdout))
            answers = 1
        except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
            said = getattr(error, "stderr", "") or str(error)
            print(f"{name}: {str(said).strip().splitlines()[-1:]}", file=sys.stderr, flush=True)
            samples, answers = [], 0
        labels = (("command", name),)
        found += samples
        found.append(Sample("hpcstate_slurm_answers", answers, labels))
        found.append(Sample("hpcstate_slurm_asked_seconds", time.monotonic() - began, labels))
    return found


def main() -> None:
    """Answer Prometheus until somebody ends it."""
    serve(ask)
