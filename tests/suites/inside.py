"""What a user's task meets in a container: its rights, its namespaces, what it sees of the host, its GPUs.

Several checks read one report, so the job that makes it is run once in a run of checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from hpcstate.check.jobs import new_name, srun, together
from hpcstate.check.suite import CheckFailed
from hpcstate.node.ssh import Live
from tests.suites.containers import in_container
from tests.suites.job_view import JobView, look_command, views, whole_gpu_nodes
from tests.suites.slurm import reports

CONTAINER = "mpi-minimal"
"""The container in which the checks look around."""

HOST = "/mnt"
"""Where the task binds the whole host, as any user may."""

SECONDS = 90
"""How long such a job may take: Apptainer and an interpreter start slowly under software emulation."""

_ENTER = (
    "export HPCSTATE_OUTSIDE=\"$(readlink /proc/self/ns/* | tr '\\n' ' ')\" "
    f'HPCSTATE_SETUID="$($0 -u)" APPTAINER_BIND=/:{HOST}:ro; exec "$@"'
)


@dataclass(frozen=True)
class Inside:
    """The report of _inside.py from one node.

    ``container`` is Apptainer's name of the file, empty outside of any. ``capabilities`` are the sets of
    capabilities(7) in hexadecimal, ``uid_map`` the numbers of user_namespaces(7). ``setuid_inside`` and
    ``setuid_outside`` are the users as whom a program of root's with the setuid bit runs. ``namespaces`` are
    those inside, ``outside`` those of the task that entered the container. ``mounts`` are the mount points
    and their options; ``secrets`` files of the host that only root may read, and how opening them went;
    ``host_is_there`` whether the host was bound at all.
    """

    host: str
    container: str
    user: int
    capabilities: Mapping[str, str]
    no_new_privileges: str
    uid_map: list[str]
    setuid_inside: str
    setuid_outside: str
    namespaces: Mapping[str, str]
    outside: Mapping[str, str]
    mounts: Mapping[str, str]
    secrets: Mapping[str, str]
    host_is_there: bool


@pytest.fixture(scope="session")
def inside(live: Live) -> list[Inside]:
    """What a task of an ordinary user meets in a container, on every compute node, started by srun."""
    folder = f"/var/tmp/{new_name()}"
    setuid = f"{folder}/id"
    make = f"mkdir -m 711 {folder} && install -m 4755 /usr/bin/id {setuid}"
    names = [node.name for node in live.workers]
    text = Path(__file__).with_name("_inside.py").read_text()
    look = in_container(CONTAINER, "python3", "-E", "-S", "-c", text, setuid, HOST)
    seen: list[Inside] = []
    try:
        live.run_each(dict.fromkeys(names, make), user="root")
        for place in together(live, live.workers):
            arguments = (*place, "--ntasks-per-node=1", "--mem=300M", "--gres=none")
            said = srun(live, arguments, ("sh", "-c", _ENTER, setuid, *look), seconds=SECONDS)
            seen += [Inside(**report) for report in reports(said)]
    finally:
        live.run_each(dict.fromkeys(names, f"rm -rf {folder}"), user="root")
    demand_all(live, [view.host for view in seen])
    return sorted(seen, key=lambda view: view.host)


@pytest.fixture(scope="session")
def inside_with_gpu(live: Live) -> list[JobView]:
    """What a job with one GPU meets in a container, on every node that gives out whole GPUs."""
    seen: list[JobView] = []
    nodes = whole_gpu_nodes(live)
    for place in together(live, nodes):
        arguments = (*place, "--ntasks-per-node=1", "--cpus-per-task=1", "--mem=300M", "--gres=gpu:1")
        # The interpreter of the container; the report is that of the jobs outside of one.
        said = srun(live, arguments, in_container(CONTAINER, *look_command()), seconds=SECONDS)
        seen += views(said)
    hosts = sorted(view.host for view in seen)
    if hosts != sorted(node.name for node in nodes):
        raise CheckFailed("a report from every node with GPUs", f"reports from {' '.join(hosts) or 'none'}")
    return sorted(seen, key=lambda view: view.host)


def demand_all(live: Live, hosts: list[str]) -> None:
    """Raises CheckFailed unless every compute node has reported once."""
    if sorted(hosts) != sorted(node.name for node in live.workers):
        raise CheckFailed("a report from every node", f"reports from {' '.join(hosts) or 'none'}")
