"""What watches a cluster answers, answers nobody else, and knows whose a job is (docs/monitoring.md)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcstate import programs
from hpcstate.check.jobs import Job, on
from hpcstate.check.plugin import StartJobs
from hpcstate.check.suite import DEPLOY_AGAIN, CheckFailed, RecordProperty, fault
from hpcstate.model import Cluster
from hpcstate.monitoring import places, server
from hpcstate.node.base_files import FIREWALL
from hpcstate.node.ssh import JOB_USER, Live
from tests.suites.breaking import last_gpu_node, last_worker, moved, stopped
from tests.suites.prometheus import ask

KNOCK = Path(__file__).with_name("knock.sh")
SLOWEST = 30
"""Jobs of checks end after two minutes: with a longer interval a job is gone before it is told."""

POLL_SECONDS = 3


def _skip_without(cluster: Cluster) -> None:
    if not cluster.monitoring.on:
        pytest.skip("the cluster file has no monitoring: {enabled: true}")


def test_answers(live: Live, cluster: Cluster, record_property: RecordProperty) -> None:
    """Prometheus gets an answer from each exporter of each node"""
    _skip_without(cluster)
    expected = {
        (server.JOB_NAMES[watcher], node.name)
        for node in live.nodes
        for watcher in server.asked(cluster, node)
    }
    began = live.run(cluster.controller.name, "date +%s").stdout.strip()
    limit = time.monotonic() + 2 * cluster.monitoring.interval_s + 20
    while True:
        # What was asked before may be from before a fault.
        rows = ask(live, f"up and timestamp(up) > {began}")
        up = {(row.labels["job"], row.labels["instance"]): row.value for row in rows}
        if expected <= up.keys() or time.monotonic() > limit:
            break
        time.sleep(POLL_SECONDS)
    wrong = sorted(f"{name} of {node}" for name, node in expected if up.get((name, node)) != 1)
    if wrong:
        raise CheckFailed(
            f"{len(expected)} exporters answer",
            f"no answer: {', '.join(wrong)}",
            f"journalctl of that exporter's unit on the node; {DEPLOY_AGAIN}",
        )
    record_property("observed", f"{len(expected)} exporters of {len(live.nodes)} nodes")


@fault("an exporter is stopped on a node", "monitoring.answers")
def no_exporter(live: Live) -> Iterator[None]:
    _skip_without(live.cluster)
    with stopped(live, last_worker(live).name, places.PROCESS.unit):
        yield


def test_jobs(live: Live, cluster: Cluster, jobs: StartJobs, record_property: RecordProperty) -> None:
    """A job that runs is told with its memory, its user, its account and its node"""
    _skip_without(cluster)
    if cluster.monitoring.interval_s > SLOWEST:
        pytest.skip(
            f"monitoring.interval_s is more than {SLOWEST}: a job of this check ends before it is told"
        )
    node = last_worker(live)
    with jobs({"told": Job((*on(live, node), "--mem=64M"), ("sleep", "110"))}) as running:
        started = running.wait(lambda states: states["told"].state == "RUNNING", "a job that runs")
        number = started["told"].job_id
        limit = time.monotonic() + 3 * cluster.monitoring.interval_s + 15
        while not (rows := ask(live, f'job:memory_used_bytes{{jobid="{number}"}}')):
            if time.monotonic() > limit:
                raw = ask(live, f'cgroup_memory_used_bytes{{jobid="{number}"}}')
                info = ask(live, f'hpcstate_slurm_job_info{{jobid="{number}"}}')
                raise CheckFailed(
                    f"memory of job {number}",
                    f"{node.name} tells of it: {bool(raw)}; it is told whose it is: {bool(info)}",
                    f"journalctl -u {places.JOBS.unit} there, -u {places.SLURM.unit} on the controller",
                )
            time.sleep(POLL_SECONDS)
    wanted = {"instance": node.name, "user": JOB_USER}
    labels = rows[0].labels
    if len(rows) != 1 or labels | wanted != labels or rows[0].value <= 0:
        raise CheckFailed(f"one series with {wanted}, more than nothing", str(rows), DEPLOY_AGAIN)
    if cluster.accounting.on and not labels.get("account"):
        raise CheckFailed("the account of the job", str(labels), DEPLOY_AGAIN)
    told = f"job {number} of {labels['user']}, account {labels.get('account') or 'none'}"
    record_property("observed", f"{told}: {rows[0].value:.0f} bytes on {node.name}")


@fault("the exporter of jobs is stopped on a node", "monitoring.jobs")
def no_jobs(live: Live) -> Iterator[None]:
    _skip_without(live.cluster)
    with stopped(live, last_worker(live).name, places.JOBS.unit):
        yield


@fault("nothing says whose a job is", "monitoring.jobs")
def no_owner(live: Live) -> Iterator[None]:
    _skip_without(live.cluster)
    with stopped(live, live.cluster.controller.name, places.SLURM.unit):
        yield


GPUS_TOLD = ("DCGM_FI_DEV_GPU_TEMP", 'DCGM_FI_DEV_GPU_UTIL{simulated="true"}')
"""What each GPU tells of itself: a real one, split or not, and one that is a plain file."""


@pytest.mark.needs(gpus=1)
def test_gpus(live: Live, cluster: Cluster, record_property: RecordProperty) -> None:
    """Every GPU of every node tells of itself, and those that are simulated are marked"""
    _skip_without(cluster)
    if not cluster.monitoring.gpus:
        pytest.skip("the cluster file has no monitoring: {gpus: true}")
    expected = {
        (node.name, simulated): count
        for node in live.workers
        for simulated, count in ((False, places.real_gpus(node)), (True, places.simulated_gpus(node)))
        if count
    }
    began = live.run(cluster.controller.name, "date +%s").stdout.strip()
    query = " or ".join(f"({name} and timestamp({name}) > {began})" for name in GPUS_TOLD)
    limit = time.monotonic() + 2 * cluster.monitoring.interval_s + 20
    while True:
        # A GPU that MIG splits tells by each of its instances.
        each = {
            (row.labels["instance"], row.labels.get("simulated") == "true", row.labels["gpu"])
            for row in ask(live, query)
        }
        told = Counter((node, simulated) for node, simulated, _ in each)
        if told == expected or time.monotonic() > limit:
            break
        time.sleep(POLL_SECONDS)
    wrong = [
        f"{node}: {told[node, simulated]} of {expected.get((node, simulated), 0)}"
        f"{' simulated' if simulated else ''}"
        for node, simulated in sorted(expected.keys() | told.keys())
        if told[node, simulated] != expected.get((node, simulated), 0)
    ]
    if wrong:
        raise CheckFailed(
            f"{sum(expected.values())} GPUs tell of themselves",
            ", ".join(wrong),
            f"journalctl -u {places.GPUS.unit} there, -u {places.DCGM.unit} where DCGM runs; {DEPLOY_AGAIN}",
        )
    nodes = len({node for node, _ in expected})
    record_property("observed", f"{sum(expected.values())} GPUs of {nodes} nodes")


def _skip_without_gpus(live: Live) -> None:
    if not (live.cluster.monitoring.on and live.cluster.monitoring.gpus):
        pytest.skip("the cluster file has no monitoring: {enabled: true, gpus: true}")


@fault("the exporter of GPUs is stopped on a node", "monitoring.gpus", needs_gpus=1)
def no_gpus(live: Live) -> Iterator[None]:
    _skip_without_gpus(live)
    node = last_gpu_node(live)
    # Where DCGM tells, ours tells of the kernel's log alone.
    there = places.watchers(live.cluster, node)
    unit = (places.DCGM if places.DCGM in there else places.GPUS).unit
    with stopped(live, node.name, unit):
        yield


@fault("a GPU of a node is gone", "monitoring.gpus", needs_gpus=1)
def no_gpu(live: Live) -> Iterator[None]:
    _skip_without_gpus(live)
    # nvidia-smi does not see a real one either without its file.
    with moved(live, last_gpu_node(live).name, "/dev/nvidia0"):
        yield


@pytest.mark.needs(nodes=2)
def test_closed(live: Live, cluster: Cluster, record_property: RecordProperty) -> None:
    """The exporters of a node, Prometheus and Alertmanager answer no compute node"""
    _skip_without(cluster)
    ports = {
        node.name: [
            f"{node.address}:{watcher.port}" for watcher in places.watchers(cluster, node) if watcher.outside
        ]
        for node in live.nodes
    }
    asked = {
        node.name: programs.command(
            KNOCK, arguments=[at for name, there in ports.items() if name != node.name for at in there]
        )
        for node in live.workers
    }
    answers = live.run_each(asked, timeout=120)
    found = [
        f"{line.removeprefix('open ')} from {name}"
        for name, answer in answers.items()
        for line in answer.stdout.splitlines()
    ]
    if found:
        raise CheckFailed("no port that answers", ", ".join(found), f"{FIREWALL} there; {DEPLOY_AGAIN}")
    record_property("observed", f"{sum(map(len, ports.values()))} ports, from {', '.join(answers)}")


@fault("the firewall of a node lets everybody ask", "monitoring.closed")
def open_firewall(live: Live) -> Iterator[None]:
    _skip_without(live.cluster)
    name = last_worker(live).name
    try:
        rule = f"nft insert rule inet hpcstate input tcp dport {places.NODE.port} accept"
        live.run(name, rule, user="root")
        yield
    finally:
        live.run(name, f"nft -f {FIREWALL}", user="root")
