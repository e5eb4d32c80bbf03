"""Nodes watch themselves, and what was seen beside jobs is recorded (docs/health.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from hpcstate.check.jobs import on, srun
from hpcstate.check.suite import DEPLOY_AGAIN, CheckFailed, RecordProperty, fault
from hpcstate.health.files import RECORDS
from hpcstate.model import Cluster
from hpcstate.node.ssh import Live
from hpcstate.slurm.conf import EPILOG, HEALTH_PROGRAM, PROLOG, TASK_PROLOG
from tests.suites.breaking import Edit, edited, last_worker, moved, stopped

EVENTS = RECORDS[0]
MEMORY = "/var/lib/hpcstate/health/memory.json"
WAIT = 20
"""Seconds that an epilog may take to record."""


def _skip_without(cluster: Cluster) -> None:
    if not cluster.health.on:
        pytest.skip("the cluster file has no health: {enabled: true}")


def test_sound(live: Live, cluster: Cluster, record_property: RecordProperty) -> None:
    """Every check of health passes on every compute node, and none is broken"""
    _skip_without(cluster)
    asked = {node.name: f"{HEALTH_PROGRAM} --look" for node in live.workers}
    said = live.run_each(asked, user="root", timeout=90, check=False)
    wrong: list[str] = []
    count = 0
    for name, answer in said.items():
        try:
            looks = json.loads(answer.stdout)
        except ValueError:
            wrong.append(f"{name}: {answer.stderr.strip() or answer.stdout.strip() or answer.code}")
            continue
        count += len(looks)
        wrong += [
            f"{name}: {each['check']} {each['result']}: {each['detail']}"
            for each in looks
            if each["result"] != "ok"
        ]
    if wrong or not count:
        raise CheckFailed("all checks of all nodes ok", "; ".join(wrong) or "no check ran", DEPLOY_AGAIN)
    record_property("observed", f"{count} checks on {', '.join(said)}")


@fault("a daemon that jobs need is stopped on a node", "health.sound")
def no_daemon(live: Live) -> Iterator[None]:
    _skip_without(live.cluster)
    with stopped(live, last_worker(live).name, "chrony"):
        yield


def test_watched(live: Live, cluster: Cluster, record_property: RecordProperty) -> None:
    """slurmd looks at every compute node again and again"""
    _skip_without(cluster)
    most = 2 * cluster.health.interval_s + 120
    ask = f"echo $(($(date +%s) - $(stat -c %Y {MEMORY} || echo 0))); test -x {HEALTH_PROGRAM}"
    said = live.run_each({node.name: ask for node in live.workers}, user="root", check=False)
    late = [
        f"{name}: {'the program is not there' if answer.code else f'{answer.stdout.strip()} s ago'}"
        for name, answer in said.items()
        if answer.code or int(answer.stdout.strip() or 1 << 40) > most
    ]
    if late:
        raise CheckFailed(
            f"a look at most {most} s ago on each node",
            "; ".join(late),
            "`scontrol show config | grep HealthCheck`; journalctl -u slurmd on the node; " + DEPLOY_AGAIN,
        )
    record_property("observed", ", ".join(f"{name} {a.stdout.strip()} s ago" for name, a in said.items()))


@fault("the program that looks is not there", "health.watched")
def no_program(live: Live) -> Iterator[None]:
    _skip_without(live.cluster)
    with moved(live, last_worker(live).name, HEALTH_PROGRAM):
        yield


def test_events(live: Live, cluster: Cluster, record_property: RecordProperty) -> None:
    """A job leaves a line of its prolog, of its first task and of its epilog, and no process"""
    _skip_without(cluster)
    node = last_worker(live)
    printed = srun(live, (*on(live, node), "--mem=50M"), ("sh", "-c", "echo job $SLURM_JOB_ID"))
    job = int(next(line.split()[1] for line in printed.splitlines() if line.startswith("job ")))
    ask = (
        f'for try in $(seq {WAIT}); do grep -q \'"epilog", "job": {job},\' {EVENTS} && break; sleep 1; done; '
        f"stat -c '%a %U:%G' {EVENTS}; grep '\"job\": {job},' {EVENTS}"
    )
    said = live.run(node.name, ask, user="root", timeout=60 + WAIT, check=False).stdout.splitlines()
    if wrong := wrongs(said):
        raise CheckFailed(
            f"prolog, task_prolog and epilog of job {job} in {EVENTS}, root:adm 640",
            "; ".join(wrong),
            f"{PROLOG} and {EPILOG} on {node.name}, slurmd.log there; " + DEPLOY_AGAIN,
        )
    record_property("observed", f"job {job} on {node.name}: prolog, task_prolog, epilog")


def wrongs(said: Sequence[str]) -> list[str]:
    """What is wrong with the record of a job: mode and owner first, then its lines."""
    found = [] if said and said[0] == "640 root:adm" else [f"it is {said[0] if said else 'not there'}"]
    events: dict[str, Any] = {}
    for line in said[1:]:
        try:
            event = json.loads(line)
        except ValueError:
            found.append(f"no JSON: {line[:80]}")
            continue
        events[event["event"]] = event
    found += [f"no {name}" for name in ("prolog", "task_prolog", "epilog") if name not in events]
    for name, event in events.items():
        found += [f"{name}: {each}" for each in event["remains"]]
        found += [
            f"{name}: {each['check']} {each['result']}" for each in event["checks"] if each["result"] != "ok"
        ]
    return found


@fault("the prolog records nothing", "health.events")
def no_prolog(live: Live) -> Iterator[None]:
    yield from _quiet(live, PROLOG)


@fault("the epilog records nothing", "health.events")
def no_epilog(live: Live) -> Iterator[None]:
    yield from _quiet(live, EPILOG)


@fault("tasks record nothing", "health.events")
def no_task(live: Live) -> Iterator[None]:
    yield from _quiet(live, TASK_PROLOG)


def _quiet(live: Live, path: str) -> Iterator[None]:
    _skip_without(live.cluster)
    silent = Edit(last_worker(live).name, path, lambda text: "#!/bin/sh\nexit 0\n" + text)
    with edited(live, [silent]):
        yield
