"""Metrics of the jobs on a compute node for Prometheus, from their control groups (cgroup v2).

slurmd puts a job into ``SLICE/slurmstepd.scope/job_N``, each step below it into ``step_M/user/task_K``
(24.11: src/plugins/cgroup/v2/cgroup_v2.c; with several slurmd on a machine ``NODE_slurmstepd.scope``): the
kernel adds up in a group what is below it, so the job's own is enough. What each file says: the kernel's
Documentation/admin-guide/cgroup-v2.rst; pressure: Documentation/accounting/psi.rst.

Names are those of treydock's cgroup_exporter and Princeton's jobstats, which published dashboards ask for;
pressure has node exporter's. ``rss`` is anonymous memory alone. The files are for everybody to read: this
needs no rights, asks no daemon, and looks into no process, whose environment a user could forge. Whose a job
is says Slurm's exporter; a rule of Prometheus' brings the two together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from hpcstate.monitoring.exporter import Sample, serve

ROOT = Path("/sys/fs/cgroup")
_JOBS = "*.slice/*slurmstepd.scope/job_*"
_MICROSECONDS = 1e6

_CPU = {
    "usage_usec": "cgroup_cpu_total_seconds",
    "user_usec": "cgroup_cpu_user_seconds",
    "system_usec": "cgroup_cpu_system_seconds",
}
_NUMBERS = {
    "memory.current": "cgroup_memory_used_bytes",
    "memory.peak": "cgroup_memory_peak_bytes",
    "memory.max": "cgroup_memory_total_bytes",
    "memory.swap.current": "cgroup_memory_swap_bytes",
}
_MEMORY = {
    "anon": "cgroup_memory_rss_bytes",
    "file": "cgroup_memory_cache_bytes",
    "shmem": "cgroup_memory_shmem_bytes",
}
_EVENTS = {
    "oom": "cgroup_memory_fail_count",
    "oom_kill": "cgroup_memory_oom_kills_total",
}
_PRESSURE = {"some": "waiting", "full": "stalled"}


def ask(root: Path = ROOT) -> list[Sample]:
    """All samples of the jobs below ``root``, where the control groups are mounted."""
    found: list[Sample] = []
    count = 0
    for folder in sorted(root.glob(_JOBS)):
        if (job := re.fullmatch(r"job_([0-9]+)", folder.name)) is None:
            continue
        count += 1
        labels = (("jobid", job[1]),)
        found += [Sample(name, value, labels) for name, value in _of_job(folder)]
    return [Sample("hpcstate_cgroup_jobs", count), *found]


def _of_job(folder: Path) -> Iterator[tuple[str, float]]:
    """Names and values of a job. What its kernel or Slurm's settings do not give it is left out, and what
    goes away while it is read: the job has ended."""
    cpu = _keyed(_text(folder / "cpu.stat"))
    yield from ((name, cpu[key] / _MICROSECONDS) for key, name in _CPU.items() if key in cpu)
    if cpus := _count(_text(folder / "cpuset.cpus.effective")):
        yield "cgroup_cpus", cpus
    for file, name in _NUMBERS.items():
        # A limit may be the word ``max``.
        if (text := _text(folder / file).strip()).isdecimal():
            yield name, int(text)
    for file, names in (("memory.stat", _MEMORY), ("memory.events", _EVENTS)):
        numbers = _keyed(_text(folder / file))
        yield from ((name, numbers[key]) for key, name in names.items() if key in numbers)
    for resource in ("cpu", "memory", "io"):
        text = _text(folder / f"{resource}.pressure")
        for kind, total in re.findall(r"(?m)^(some|full) .*\btotal=(\d+)$", text):
            yield f"cgroup_pressure_{resource}_{_PRESSURE[kind]}_seconds_total", int(total) / _MICROSECONDS


def _text(path: Path) -> str:
    """What is in the file ``path``; nothing where there is none (ENOENT), or its group has gone (ENODEV)."""
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _keyed(text: str) -> dict[str, int]:
    """The numbers of lines like ``usage_usec 126686``."""
    return {key: int(number) for key, number in re.findall(r"(?m)^(\S+) (\d+)$", text)}


def _count(text: str) -> int:
    """How many there are in ``0-3,8``."""
    ranges = re.findall(r"(\d+)(?:-(\d+))?", text)
    return sum(int(last or first) - int(first) + 1 for first, last in ranges)


def main() -> None:
    """Answer Prometheus until somebody ends it."""
    serve(ask)
