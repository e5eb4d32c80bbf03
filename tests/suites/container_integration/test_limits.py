"""What Slurm holds a job to, it holds a container of the job to: memory, and files as the user has them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hpcstate.check.jobs import Job, describe, new_name, on, srun
from hpcstate.check.plugin import StartJobs
from hpcstate.check.suite import CheckFailed, RecordProperty, fault
from hpcstate.node.ssh import Live
from tests.suites.breaking import Edit, edited, last_worker
from tests.suites.containers import in_container
from tests.suites.slurm import program, reports

CONTAINER = "mpi-minimal"
MEMORY_MB = 300
"""Apptainer and the driver of its file system count too: 60 MiB of it."""
FILL_MB = 600


@pytest.mark.needs(containers=(CONTAINER,))
def test_memory(live: Live, jobs: StartJobs, record_property: RecordProperty) -> None:
    """A container that takes more memory than its job asked for is killed, and reported so"""
    node = last_worker(live)
    options = (*on(live, node), "--ntasks=1", "--cpus-per-task=1", f"--mem={MEMORY_MB}M")
    # A little fits. It also leaves the container's files in the node's memory: a job that reads them itself
    # is charged for them, and reads again for minutes what it has to give up, before it is killed.
    little = srun(live, options, in_container(CONTAINER, *program("_fill.py", "1", "heap")), seconds=60)
    if [report["held_mb"] for report in reports(little)] != [1]:
        raise CheckFailed(f"1 MiB in a container with --mem={MEMORY_MB}M", little or "nothing")
    job = Job(options, in_container(CONTAINER, *program("_fill.py", str(FILL_MB), "heap")))
    with jobs({"filler": job}) as running:
        state = running.wait(
            lambda seen: seen["filler"].over, f"a container that takes {FILL_MB} MiB ends", seconds=120
        )["filler"]
    if state.state != "OUT_OF_MEMORY":
        raise CheckFailed(
            f"OUT_OF_MEMORY for {FILL_MB} MiB in a container with --mem={MEMORY_MB}M",
            describe(state),
            "ConstrainRAMSpace=yes in cgroup.conf; without swap limits, ConstrainSwapSpace=yes too",
        )
    record_property("observed", f"{node.name}: {FILL_MB} MiB with --mem={MEMORY_MB}M is {state.state}")


@pytest.mark.needs(containers=(CONTAINER,))
def test_files(live: Live, record_property: RecordProperty) -> None:
    """A container has the user's home, theirs to write, and nothing of its own can be written"""
    node = last_worker(live)
    name = new_name()
    script = (
        f'cd && echo "$APPTAINER_NAME" >{name} && stat -c "%U %a" {name} && cat {name} && rm {name}; '
        "for f in /usr/bin/env /etc/debian_version; do [ -e $f ] && ! (: >>$f) 2>/dev/null || echo $f; done"
    )
    said = srun(
        live,
        (*on(live, node), "--ntasks=1", "--mem=200M"),
        in_container(CONTAINER, "sh", "-c", script),
        seconds=60,
    ).split()
    if len(said) != 3 or said[0] != "hpc" or not said[2].startswith(CONTAINER):
        raise CheckFailed(
            f"a file of hpc's, written in {CONTAINER}",
            " ".join(said) or "nothing",
            "`mount home = yes` and `config passwd = yes` in /etc/apptainer/apptainer.conf",
        )
    record_property("observed", f"{node.name}: a file of {said[0]}, mode {said[1]}, written in {said[2]}")


@fault("a node's apptainer.conf keeps homes out of containers", "container-integration.files")
def no_home(live: Live) -> Iterator[None]:
    def change(text: str) -> str:
        return text.replace("\nmount home = yes", "\nmount home = no")

    with edited(live, [Edit(last_worker(live).name, "/etc/apptainer/apptainer.conf", change)]):
        yield
