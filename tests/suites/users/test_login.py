"""Who gets in by SSH: on a login node (the controller where there is none) everybody, on a compute node who
has a job there, and inside it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hpcstate.check.jobs import POLL_SECONDS, Job, new_name, on, skip_if_busy
from hpcstate.check.plugin import StartJobs
from hpcstate.check.suite import DEPLOY_AGAIN, CheckFailed, RecordProperty, fault
from hpcstate.model import Node
from hpcstate.node.base_files import CLOSED, PAM_SERVICE, SSHD
from hpcstate.node.ssh import JOB_USER, Live
from hpcstate.run import at_once
from hpcstate.terminal import plural
from tests.suites.breaking import SLURM_CONF, Edit, edited, last_worker, moved
from tests.suites.login import REFUSAL, login, login_node

_HINT = (
    f"{DEPLOY_AGAIN}. `sshd -T` on the node must say pamservicename {PAM_SERVICE}, and its image must have "
    "libpam-slurm-adopt"
)
_SUBMIT_SECONDS = 120
_END_SECONDS = 60
"""How long what was started by SSH may stay when its job has been cancelled."""


def test_without_job(live: Live, record_property: RecordProperty) -> None:
    """One who has no job on a compute node is refused there, and gets in on the login node"""
    door = login_node(live)
    ask = f"squeue --noheader --user={JOB_USER} --format=%N | xargs -r -n 1 scontrol show hostnames"
    busy = live.run(door.name, ask).stdout.split()
    free = [node.name for node in live.workers if node.name not in busy]
    if not free:
        pytest.skip(f"{JOB_USER} has a job on every compute node")
    for name in free:
        live.demand(name)
    answers = at_once(lambda name: login(live, live.node(name), "true"), free)
    if inside := [name for name, answer in answers.items() if answer.code == 0]:
        said = f"it is in on {', '.join(inside)}"
        raise CheckFailed(f"{JOB_USER} is refused where it has no job", said, _HINT)
    if others := {name: answer.stderr for name, answer in answers.items() if REFUSAL not in answer.stderr}:
        said = "; ".join(f"{name}: {text.strip() or 'nothing'}" for name, text in others.items())
        raise CheckFailed(f"the refusal says {REFUSAL!r}", said, _HINT)
    there = login(live, door, "id -un")
    if there.stdout.strip() != JOB_USER:
        raise CheckFailed(
            f"{JOB_USER} gets in on {door.name}",
            there.stderr.strip() or f"it is {there.stdout.strip()!r}",
            DEPLOY_AGAIN,
        )
    record_property("observed", f"{plural(len(free), 'compute node')} refused it, {door.name} did not")


def test_login_node(live: Live, controller: Node, record_property: RecordProperty) -> None:
    """One who logs in on a login node submits there and gets the output; a controller beside it refuses"""
    doors = [node for node in live.nodes if node in live.cluster.login_nodes]
    name = new_name()
    for node in doors:
        live.demand(node.name)
        if live.cluster.home == "local":  # the output of a batch job lies where it ran
            script = f"srun --quiet --job-name={name} --mem=100M echo {name}"
        else:
            submit = f"sbatch --quiet --wait --job-name={name} --mem=100M --output={name}.txt"
            script = f"cd; {submit} --wrap 'echo {name}'; cat {name}.txt; rm -f {name}.txt"
        answer = login(live, node, script, seconds=_SUBMIT_SECONDS)
        if answer.stdout.strip() != name:
            skip_if_busy(live)
            raise CheckFailed(
                f"a job of {JOB_USER}, submitted on {node.name}, prints {name}",
                answer.stderr.strip() or answer.stdout.strip() or f"ssh ended with {answer.code}",
                f"`sinfo` on {node.name}; {DEPLOY_AGAIN}",
            )
    observed = f"a job from {', '.join(node.name for node in doors)}"
    if not live.cluster.is_closed(controller):
        record_property("observed", observed)
        return
    refused = login(live, controller, "true")
    if refused.code == 0 or CLOSED not in refused.stderr:
        said = refused.stderr.strip() or f"{JOB_USER} is in"
        raise CheckFailed(f"{controller.name} refuses {JOB_USER}: {CLOSED} …", said, _HINT)
    record_property("observed", f"{observed}; {controller.name}: {CLOSED} …")


def test_with_job(live: Live, jobs: StartJobs, record_property: RecordProperty) -> None:
    """One who has a job on a node gets in, is in the control group of the job, and ends with it"""
    node = last_worker(live)
    stays = Job((*on(live, node), "--ntasks=1", "--mem=100M"), ("sh", "-c", "echo here; sleep 100"))
    with jobs({"stays": stays}) as running:
        state = running.wait(lambda states: "here" in states["stays"].output, "the job runs")["stays"]
        answer = login(live, node, "sleep 987 >/dev/null 2>&1 & echo $!; cat /proc/self/cgroup")
        process, _, cgroup = answer.stdout.partition("\n")
        group = f"/job_{state.job_id}/step_extern/"
        try:
            if answer.code != 0 or not process.isdecimal() or group not in f"{cgroup.strip()}/":
                raise CheckFailed(
                    f"{JOB_USER} gets in on {node.name}, in …{group}",
                    cgroup.strip() or answer.stderr.strip() or f"ssh ended with {answer.code}",
                    _HINT,
                )
            running.cancel("stays")
            _demand_ended(live, node, process)
        finally:
            if process.isdecimal():
                live.run(node.name, f"kill {process} 2>/dev/null || :", user="hpc")
    record_property("observed", f"{node.name}: in …{group.rstrip('/')}; what it started ended with the job")


def _demand_ended(live: Live, node: Node, process: str) -> None:
    """Wait until ``process`` of the job user is gone from ``node``. Raises CheckFailed when it stays."""
    limit = time.monotonic() + _END_SECONDS
    while live.run(node.name, f"ps -o user= -p {process} || :").stdout.strip() == JOB_USER:
        if time.monotonic() > limit:
            raise CheckFailed(
                "what was started by SSH ends with the job", f"it is there after {_END_SECONDS} s", _HINT
            )
        time.sleep(POLL_SECONDS)


@fault("a compute node lets people in by Debian's rules", "users.without_job", "users.with_job")
def debians_rules(live: Live) -> Iterator[None]:
    with _debians_rules(live, last_worker(live).name):
        yield


@fault("the controller beside login nodes lets people in by Debian's rules", "users.login_node")
def open_controller(live: Live) -> Iterator[None]:
    if not live.cluster.is_closed(live.cluster.controller):
        pytest.skip("the cluster file has no login_nodes: people log in on the controller")
    with _debians_rules(live, live.cluster.controller.name):
        yield


@fault("where people log in there is no slurm.conf", "users.login_node")
def without_configuration(live: Live) -> Iterator[None]:
    with moved(live, live.cluster.login_nodes[-1].name, SLURM_CONF):
        yield


@contextmanager
def _debians_rules(live: Live, name: str) -> Iterator[None]:
    read = "systemctl reload ssh"
    without = Edit(name, SSHD, lambda text: text.replace("\nPAMServiceName", "\n#PAMServiceName"))
    try:
        with edited(live, [without]):
            live.run(name, read, user="root")
            yield
    finally:
        live.run(name, read, user="root")
