"""Slurm has the nodes that the cluster file declares, reaches them, and has noted what they run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence

import pytest

from hpcstate.check.jobs import on, srun, together
from hpcstate.check.suite import DEPLOY_AGAIN, CheckFailed, RecordProperty, fault
from hpcstate.model import Cluster, Node
from hpcstate.node import runs
from hpcstate.node.base_files import LOGROTATE
from hpcstate.node.ssh import Live
from hpcstate.probe import node_runs
from hpcstate.probe.slurm import SlurmNode
from hpcstate.slurm.change import REASON_PREFIX
from hpcstate.slurm.conf import job_record, keeps_record, real_memory_mb
from tests.suites.breaking import (
    GRES_CONF,
    SLURM_CONF,
    Edit,
    edited,
    last_gpu_node,
    last_worker,
    set_key,
    stopped,
    wait_idle,
)
from tests.suites.slurm import gres_counts, slurm_nodes, usable


def test_registered(live: Live, cluster: Cluster, record_property: RecordProperty) -> None:
    """Every declared node is registered with its CPUs, memory and GPUs, and takes jobs"""
    nodes = slurm_nodes(live)
    declared = {node.name for node in cluster.workers}
    findings = [finding for node in live.workers for finding in differences(node, nodes.get(node.name))]
    findings += sorted(f"{name} is not in the cluster file" for name in nodes.keys() - declared)
    if findings:
        raise CheckFailed(
            f"{', '.join(sorted(_names(live)))} as declared, taking jobs",
            "; ".join(findings),
            next_step(live.workers, nodes),
        )
    record_property("observed", "; ".join(_summary(node.name, nodes[node.name]) for node in live.workers))


def next_step(declared: Sequence[Node], nodes: Mapping[str, SlurmNode]) -> str:
    """What brings the nodes back: first for those that somebody drained, because no deploy resumes these."""
    drained = [
        node.name
        for node in declared
        if (seen := nodes.get(node.name))
        and "DRAIN" in seen["states"]
        and not seen["reason"].startswith(REASON_PREFIX)
        # What Slurm drained a deploy may mend; to the reason of somebody Slurm adds " : " and its own.
        and (seen["reason_user"] != "slurm" or " : " in seen["reason"])
    ]
    steps = [
        f"somebody drained {', '.join(drained)}, and it stays so: when that is over, "
        f"`sudo scontrol update nodename={','.join(drained)} state=resume` on the controller"
    ] * bool(drained)
    others = [node for node in declared if node.name not in drained]
    if not drained or any(differences(node, nodes.get(node.name)) for node in others):
        steps.append(
            "`./hpc up FILE` makes machine and Slurm what the file says; journalctl -u slurmd on a node says "
            "why it does not register"
        )
    return "; ".join(steps)


def differences(declared: Node, observed: SlurmNode | None) -> list[str]:
    """What of ``observed`` is not as ``declared``, one sentence each."""
    if observed is None:
        return [f"{declared.name} is not registered"]
    found = []
    if not usable(observed["states"]):
        reason = f" ({observed['reason']})" if observed["reason"] else ""
        found.append(f"{declared.name} is {'+'.join(observed['states'])}{reason}")
    if observed["cpus"] != declared.cpu_cores:
        found.append(f"{declared.name} has {observed['cpus']} CPUs, declared are {declared.cpu_cores}")
    memory_mb = real_memory_mb(declared.memory_mb)
    if observed["memory_mb"] != memory_mb:
        found.append(
            f"{declared.name} gives jobs {observed['memory_mb']} MiB, {memory_mb} MiB are due to "
            f"{declared.memory_mb} MiB"
        )
    if gres_counts(observed["gres"]) != gres_counts(declared.gres):
        found.append(
            f"{declared.name} has GRES {observed['gres'] or 'none'}, declared is {declared.gres or 'none'}"
        )
    return found


def _names(live: Live) -> set[str]:
    return {node.name for node in live.workers}


def _summary(name: str, node: SlurmNode) -> str:
    gres = "".join(f", {kind}:{count}" for kind, count in gres_counts(node["gres"]).items())
    return f"{name} {'+'.join(node['states'])}, {node['cpus']} CPUs, {node['memory_mb']} MiB{gres}"


@fault("a node is drained", "nodes.registered")
def drained(live: Live) -> Iterator[None]:
    name, controller = last_worker(live).name, live.cluster.controller.name
    try:
        live.run(
            controller, f"scontrol update nodename={name} state=drain reason='hpcstate: fault'", user="root"
        )
        yield
    finally:
        wait_idle(live)


@fault(
    "gres.conf of a node names no device",
    "nodes.registered",
    "gpu-gres.shown",
    "gpu-gres.slurmd",
    needs_gpus=1,
)
def without_devices(live: Live) -> Iterator[None]:
    name = last_gpu_node(live).name
    with edited(live, [Edit(name, GRES_CONF, lambda _: "# no device\n")], restart=[(name, "slurmd")]):
        yield


def test_srun(live: Live, nodes: tuple[Node, ...], record_property: RecordProperty) -> None:
    """srun starts a task on every compute node"""
    expected = sorted(_names(live))
    hosts = []
    for place in together(live, nodes):
        arguments = (*place, "--ntasks-per-node=1", "--cpus-per-task=1", "--mem=32M")
        hosts += srun(live, arguments, ["hostname"]).split()
    if sorted(hosts) != expected:
        raise CheckFailed(f"hosts {' '.join(expected)}", f"hosts {' '.join(sorted(hosts)) or 'none'}")
    record_property("observed", f"hosts {' '.join(sorted(hosts))}")


@fault("slurmd is stopped on a node", "nodes.srun")
def slurmd_stopped(live: Live) -> Iterator[None]:
    with stopped(live, last_worker(live).name, "slurmd"):
        yield


def test_record(live: Live, nodes: tuple[Node, ...], record_property: RecordProperty) -> None:
    """A job that ended is in Slurm's record of jobs, with its state"""
    if not keeps_record(live.cluster):
        pytest.skip("slurm_config.parameters says where jobs are recorded")
    controller, record = live.cluster.controller.name, job_record(live.cluster)
    arguments = (*on(live, nodes[0]), "--ntasks=1", "--mem=32M")
    number = int(srun(live, arguments, ["printenv", "SLURM_JOB_ID"]))
    # The line is written when the job's epilog has ended, a moment after srun. Numbers begin anew some day.
    line = f"grep '^JobId={number} ' {record} | tail -n 1"
    look = f'for _ in $(seq 40); do [ -z "$({line})" ] || break; sleep 0.25; done; {line}'
    found = live.run(controller, look).stdout.strip()
    if " JobState=COMPLETED " not in found or " ExitCode=0:0" not in found:
        raise CheckFailed(
            f"a line of job {number} in {record}, completed with exit code 0",
            found or "no line of it",
            f"{DEPLOY_AGAIN}; journalctl -u slurmctld on {controller} says what it could not write",
        )
    record_property("observed", found)


@fault("slurmctld keeps no record of jobs", "nodes.record")
def no_record(live: Live) -> Iterator[None]:
    name = live.cluster.controller.name
    without = Edit(name, SLURM_CONF, set_key("JobCompType", "jobcomp/none"))
    with edited(live, [without], restart=[(name, "slurmctld")]):
        yield


def test_rotation(live: Live, controller: Node, record_property: RecordProperty) -> None:
    """Slurm's record of jobs is rotated: logrotate takes it, and its timer is on"""
    if not keeps_record(live.cluster):
        pytest.skip("slurm_config.parameters says where jobs are recorded")
    script = f"systemctl is-active logrotate.timer; logrotate --debug {LOGROTATE} 2>&1"
    timer, _, said = live.run(controller.name, script, user="root", check=False).stdout.partition("\n")
    record = job_record(live.cluster)
    wrong = [line for line in said.splitlines() if line.startswith("error:")]
    if f"considering log {record}" not in said:
        wrong.append(f"logrotate does not take {record}")
    if timer != "active":
        wrong.append(f"logrotate.timer is {timer}")
    if wrong:
        raise CheckFailed(
            f"{record} rotated by logrotate, whose timer is on",
            "; ".join(wrong),
            f"{DEPLOY_AGAIN}; an image of before has no logrotate: `hpcstate status FILE` tells what is old",
        )
    record_property("observed", f"{record}; logrotate.timer is on")


@fault("the timer of logrotate is stopped", "nodes.rotation")
def no_timer(live: Live) -> Iterator[None]:
    with stopped(live, live.cluster.controller.name, "logrotate.timer"):
        yield


def test_runs(live: Live, record_property: RecordProperty) -> None:
    """Slurm has noted the image, the configuration and the containers that each compute node has"""
    for node in live.workers:
        live.demand(node.name)
    paths = {node.name: runs.paths(live.cluster, node) for node in live.workers}
    scripts = {name: node_runs.command(of) for name, of in paths.items()}
    known = slurm_nodes(live)
    findings = []
    for name, answer in live.run_each(scripts, user="root").items():
        there = runs.running(node_runs.parse(answer.stdout), paths[name])
        noted = runs.noted(known[name]["extra"]) if name in known else {}
        findings += [
            f"{name}: {key} is {there.get(key, 'not there')}, noted is {noted.get(key, 'nothing')}"
            for key in sorted(there.keys() | noted.keys())
            if there.get(key) != noted.get(key)
        ]
    if findings:
        raise CheckFailed(
            "Slurm's Extra of each node says what is there",
            "; ".join(findings),
            f"{DEPLOY_AGAIN}: it mends the files, then Slurm notes what the node runs",
        )
    record_property("observed", f"{len(paths)} nodes, each as noted")


@fault("Slurm has another image noted for a node", "nodes.runs")
def other_image(live: Live) -> Iterator[None]:
    name, controller = last_worker(live).name, live.cluster.controller.name
    before = slurm_nodes(live)[name]["extra"]
    other = json.dumps({"image": "hpc-base-000000000000"})
    try:
        live.run(controller, runs.note_command(name, other), user="root")
        yield
    finally:
        restore = f"scontrol update nodename={name} extra={shlex.quote(before)}"
        live.run(controller, restore, user="root")
