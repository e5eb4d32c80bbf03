"""Metrics of jobs: trees as Slurm 24.11 makes them with cgroup v2, and what a node tells of them.

Files and their shapes are those of a node that ran Slurm with cgroup v2 (the fixtures of treydock's
cgroup_exporter, job_4), with pressure as a kernel with PSI has it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hpcstate.monitoring import files, places, units
from hpcstate.monitoring.job_exporter import ask
from tests.unit.monitoring.watched import cluster as watched

CPU = """usage_usec 126686
user_usec 49043
system_usec 77642
core_sched.force_idle_usec 0
nr_periods 0
nr_throttled 0
throttled_usec 0
"""
MEMORY = "anon 2260992\nfile 516096\nkernel 2756608\nshmem 0\ninactive_anon 2250000\n"
EVENTS = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"
PRESSURE = (
    "some avg10=0.00 avg60=1.50 avg300=0.30 total=2500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=4\n"
)
FILES = {
    "cpu.stat": CPU,
    "memory.stat": MEMORY,
    "memory.events": EVENTS,
    "memory.current": "5660672\n",
    "memory.peak": "7000000\n",
    "memory.max": "1835008000\n",
    "memory.swap.current": "0\n",
    "cpuset.cpus.effective": "0-3,8\n",
    "cpu.pressure": PRESSURE,
    "memory.pressure": PRESSURE,
    "io.pressure": PRESSURE,
}


def grow(root: Path, job: str, contents: dict[str, str], scope: str = "slurmstepd.scope") -> Path:
    """A job below ``root``, with two steps whose own files say other numbers."""
    folder = root / "system.slice" / scope / job
    for place in (folder, folder / "step_batch/user/task_special", folder / "step_0/user/task_0"):
        place.mkdir(parents=True)
        (place / "cpu.stat").write_text("usage_usec 999\n")
    for name, text in contents.items():
        (folder / name).write_text(text)
    return folder


def told(root: Path) -> dict[str, dict[str, float]]:
    """By job: names to values."""
    found: dict[str, dict[str, float]] = {}
    for name, value, labels in ask(root):
        job = dict(labels).get("jobid", "")
        assert name not in found.setdefault(job, {})
        found[job][name] = value
    return found


def test_a_job_is_told_by_the_numbers_of_its_own_group(tmp_path: Path) -> None:
    grow(tmp_path, "job_4", FILES)
    assert told(tmp_path)["4"] == {
        "cgroup_cpu_total_seconds": 0.126686,
        "cgroup_cpu_user_seconds": 0.049043,
        "cgroup_cpu_system_seconds": 0.077642,
        "cgroup_cpus": 5,
        "cgroup_memory_used_bytes": 5660672,
        "cgroup_memory_peak_bytes": 7000000,
        "cgroup_memory_total_bytes": 1835008000,
        "cgroup_memory_swap_bytes": 0,
        "cgroup_memory_rss_bytes": 2260992,
        "cgroup_memory_cache_bytes": 516096,
        "cgroup_memory_shmem_bytes": 0,
        "cgroup_memory_fail_count": 3,
        "cgroup_memory_oom_kills_total": 2,
        "cgroup_pressure_cpu_waiting_seconds_total": 2.5,
        "cgroup_pressure_cpu_stalled_seconds_total": 4e-06,
        "cgroup_pressure_memory_waiting_seconds_total": 2.5,
        "cgroup_pressure_memory_stalled_seconds_total": 4e-06,
        "cgroup_pressure_io_waiting_seconds_total": 2.5,
        "cgroup_pressure_io_stalled_seconds_total": 4e-06,
    }


def test_a_job_without_a_limit_and_a_kernel_without_pressure_leave_that_out(tmp_path: Path) -> None:
    contents = {name: text for name, text in FILES.items() if "pressure" not in name}
    grow(tmp_path, "job_4", {**contents, "memory.max": "max\n"})
    names = told(tmp_path)["4"]
    assert "cgroup_memory_total_bytes" not in names
    assert not [name for name in names if "pressure" in name]
    assert names["cgroup_memory_used_bytes"] == 5660672


def test_pressure_of_an_older_kernel_has_no_full_line_for_cpus(tmp_path: Path) -> None:
    """psi.rst: it has one since 5.13, for the sake of its readers."""
    grow(tmp_path, "job_4", {"cpu.pressure": PRESSURE.splitlines(keepends=True)[0]})
    names = [name for name in told(tmp_path)["4"] if "pressure" in name]
    assert names == ["cgroup_pressure_cpu_waiting_seconds_total"]


@pytest.mark.parametrize("scope", ["slurmstepd.scope", "compute-01_slurmstepd.scope"])
def test_jobs_are_found_whatever_slurmd_calls_its_scope(tmp_path: Path, scope: str) -> None:
    grow(tmp_path, "job_4", FILES, scope)
    grow(tmp_path, "job_12", FILES, scope)
    assert set(told(tmp_path)) == {"", "4", "12"}
    assert told(tmp_path)[""] == {"hpcstate_cgroup_jobs": 2}


@pytest.mark.parametrize("name", ["system", "job_", "job_4x", "job_4_old"])
def test_what_is_no_job_is_not_told(tmp_path: Path, name: str) -> None:
    grow(tmp_path, name, FILES)
    assert told(tmp_path) == {"": {"hpcstate_cgroup_jobs": 0}}


def test_a_node_without_slurm_or_with_cgroup_v1_has_no_jobs(tmp_path: Path) -> None:
    (tmp_path / "cpuacct/slurm/uid_2001/job_4").mkdir(parents=True)
    assert told(tmp_path) == {"": {"hpcstate_cgroup_jobs": 0}}


def test_a_job_that_ends_while_it_is_read_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(tmp_path, "job_4", FILES)
    grow(tmp_path, "job_5", FILES)
    read = Path.read_text

    def gone(path: Path, *words: object, **more: object) -> str:
        if path.parent.name == "job_4" and path.name.startswith("memory"):
            raise OSError(19, "No such device")
        return read(path, "ascii")

    monkeypatch.setattr(Path, "read_text", gone)
    found = told(tmp_path)
    assert "cgroup_memory_used_bytes" not in found["4"]
    assert found["5"]["cgroup_memory_used_bytes"] == 5660672


def test_only_nodes_that_run_jobs_tell_of_them(tmp_path: Path) -> None:
    of = watched(tmp_path)
    for node in of.nodes:
        assert (places.JOBS in places.watchers(of, node)) == (node.role == "compute")
        shown = {"--address=127.0.0.1", f"--address={node.address}"}
        for watcher in places.OURS:
            text = units.unit_files(of, node).get(units.drop_in(watcher), "")
            at = shown & set(text.split())
            assert len(at) == (watcher in places.watchers(of, node))
            assert not at or (f"--address={node.address}" in at) == watcher.outside


@pytest.mark.parametrize("watcher", places.OURS)
def test_a_program_starts_from_what_a_node_gets_and_nothing_else(
    tmp_path: Path, watcher: places.Watcher
) -> None:
    """By a Python that knows nothing of this tree: it comes as far as its own words, which it lacks."""
    of = watched(tmp_path, "    monitoring: {enabled: true, gpus: true}\n")
    python = shutil.which("python3", path="/usr/bin") or sys.executable
    for file in files.programs([watcher]):
        path = tmp_path / file.path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(re.sub(r"(?m)^    from prometheus_client.*\n", "", file.content))
    node = of.controller if watcher is places.SLURM else of.workers[0]
    unit = units.unit_files(of, node)[units.drop_in(watcher)]
    words = unit.partition("ExecStart=")[2].partition("\n[")[0].replace("\\\n", " ").split()
    assert words[:2] == ["/usr/bin/python3", "-I"] and words[2] == places.EXPORTERS
    folder = tmp_path / places.EXPORTERS.lstrip("/")
    own = [word for word in words[3:] if not word.startswith("--")]
    done = subprocess.run(
        [python, "-I", str(folder), *own], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "--certificate" in done.stderr and "ModuleNotFoundError" not in done.stderr
