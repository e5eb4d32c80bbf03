"""What a job meets on each node: its GPUs, its devices, its control group, and what is left after it.

Several checks read one report, so the job that makes it is run once in a run of checks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from hpcstate import programs
from hpcstate.check.jobs import srun, together
from hpcstate.check.suite import CheckFailed
from hpcstate.model import Node
from hpcstate.node.ssh import Live
from tests.suites.slurm import program, reports

MEMORY_MB = 100
"""What the reporting jobs ask for (MiB)."""

REFUSED = "EPERM"
"""The answer of the kernel's device filter (Documentation/admin-guide/cgroup-v2.rst, Device controller)."""

SCOPES = "/sys/fs/cgroup/system.slice/*slurmstepd.scope"
"""The control group in which slurmd puts all jobs of a node (Slurm, cgroup_v2.html, Hierarchy overview), as a
pattern: built for several slurmd on one machine, as Debian's is, Slurm puts the node's name before it."""

LOOK_SECONDS = 60
"""How long a reporting job may take: an interpreter starts slowly under software emulation."""

GONE_SECONDS = 10
"""How long a job's last processes and its control group may take to go, once srun has returned."""

_LEFT = "hpcstate-left-behind"


@dataclass(frozen=True)
class JobView:
    """The report of _look.py from one node.

    ``gpus`` and ``visible`` are what Slurm and CUDA call the job's GPUs. ``gpu_files``, ``open`` and
    ``closed`` are devices and how opening them went (``OK`` or the error). ``cgroup`` is the task's control
    group from the mount point, ``is_member`` whether the task is listed there.
    Limits are bytes, None for none. ``left_behind`` is the number of the daemon that the job started and
    ``left_behind_in`` its control group; 0 and empty when there was none.
    """

    host: str
    job: str
    gpus: str
    visible: str
    gpu_files: Mapping[str, str]
    smi: Sequence[str]
    open: Mapping[str, str]
    closed: Mapping[str, str]
    cgroup: str
    is_member: bool
    memory_bytes: int | None
    swap_bytes: int | None
    cpus_of_group: str
    cpus_of_node: int
    cpus_of_job: int
    cpus_given: Sequence[int]
    cpus_after_widening: Sequence[int]
    left_behind: int
    left_behind_in: str

    @property
    def reached(self) -> list[str]:
        """The GPU device files that the kernel's device filter let through."""
        return [path for path, answer in self.gpu_files.items() if answer != REFUSED]

    def __str__(self) -> str:
        answers = ", ".join(f"{path} {answer}" for path, answer in self.gpu_files.items()) or "no device file"
        return f"{self.host}: {answers} (GPU {self.gpus or 'none'}, CUDA_VISIBLE_DEVICES={self.visible})"


def views(text: str) -> list[JobView]:
    """The views reported in what a job printed."""
    return [JobView(**report) for report in reports(text)]


def own_device_problem(node: Node, view: JobView) -> str:
    """Why ``view`` is not that of a job with one GPU of ``node``: exactly one device passes the filter, all
    others are refused. Empty when it is."""
    accepted = {"OK"} if node.simulated_gpus is None else {"OK", "ENXIO"}
    if len(view.gpu_files) != len(node.gres_types):
        return f"{len(view.gpu_files)} device files for {len(node.gres_types)} declared GPUs: {view}"
    if len(view.reached) != 1:
        return f"{len(view.reached)} devices pass the filter: {view}"
    if view.gpu_files[view.reached[0]] not in accepted:
        return f"the job's own device does not open: {view}"
    if not re.fullmatch(r"\d+", view.gpus) or not re.fullmatch(r"\d+", view.visible):
        return f"Slurm does not name one GPU: {view}"
    return ""


def look_command(stay_seconds: int = 0, *, leave: str = "") -> tuple[str, ...]:
    """The command that reports and stays for ``stay_seconds``; ``leave`` names a daemon to leave behind."""
    return program("_look.py", str(stay_seconds), *([leave] if leave else []))


@pytest.fixture(scope="session")
def without_gpu(live: Live) -> list[JobView]:
    """What a job with one CPU and no GPU meets, on every compute node; it leaves a daemon behind."""
    return _look(live, live.workers, "--gres=none", leave=_LEFT)


@pytest.fixture(scope="session")
def with_gpu(live: Live) -> list[JobView]:
    """What a job with one CPU and one GPU meets, on every node that gives out whole GPUs."""
    return _look(live, whole_gpu_nodes(live), "--gres=gpu:1")


def gpu_nodes(live: Live, least: int = 1) -> list[Node]:
    """The compute nodes with at least ``least`` GPUs."""
    return [node for node in live.workers if len(node.gres_types) >= least]


def whole_gpu_nodes(live: Live, least: int = 1) -> list[Node]:
    """Those of :func:`gpu_nodes` that give out their GPUs as a whole: there a device file is a GPU. A MIG
    instance has three files, one of them shared, which is not looked at here.

    Skips the check when there are none.
    """
    nodes = [node for node in gpu_nodes(live, least) if not any(device.mig for device in node.passthrough)]
    if not nodes:
        pytest.skip("all GPUs are split into MIG instances, whose device files are not told apart here")
    return nodes


def _look(live: Live, nodes: Sequence[Node], gres: str, *, leave: str = "") -> list[JobView]:
    seen = []
    for place in together(live, nodes):
        arguments = (*place, "--ntasks-per-node=1", "--cpus-per-task=1", f"--mem={MEMORY_MB}M", gres)
        seen += views(srun(live, arguments, look_command(leave=leave), seconds=LOOK_SECONDS))
    hosts = sorted(view.host for view in seen)
    if hosts != sorted(node.name for node in nodes):
        raise CheckFailed("a report from every node", f"reports from {' '.join(hosts) or 'none'}")
    return sorted(seen, key=lambda view: view.host)


@dataclass(frozen=True)
class Remains:
    """What was on a node once the job of :func:`without_gpu` had ended: whether its ``daemon`` was alive, and
    the control ``groups`` of jobs that have no process of Slurm any more."""

    host: str
    daemon: bool
    groups: tuple[str, ...]


@pytest.fixture(scope="session")
def remains(live: Live, without_gpu: list[JobView]) -> list[Remains]:
    """What a job left behind on every compute node. What still was there after 10 s is ended, to leave
    nothing of ours."""
    scripts = {view.host: _remains_script(view.left_behind) for view in without_gpu}
    answers = live.run_each(scripts, user="root")
    return [parse_remains(name, answer.stdout) for name, answer in answers.items()]


def _remains_script(process: int) -> str:
    """The program job_remains.sh: wait until what a job left is gone, and tell what is there."""
    words = (process, _LEFT, SCOPES, GONE_SECONDS)
    return programs.command(Path(__file__).with_name("job_remains.sh"), arguments=words)


def parse_remains(host: str, text: str) -> Remains:
    """What the script said of the node ``host``."""
    return Remains(
        host, "daemon" in text.splitlines(), tuple(re.findall(r"^group (\S+)$", text, re.MULTILINE))
    )
