"""Slurm holds jobs in control groups of version 2: what is configured, and what the kernel really has."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hpcstate.check.suite import DEPLOY_AGAIN, CheckFailed, RecordProperty, fault
from hpcstate.model import Cluster
from hpcstate.node.ssh import Live
from hpcstate.slurm.conf import cgroup_conf, slurm_conf
from hpcstate.slurm.lint import conf as slurm_lint
from hpcstate.slurm.read import meaning
from tests.suites.breaking import CGROUP_CONF, Edit, append, edited, last_worker, mode
from tests.suites.job_view import SCOPES, JobView, Remains
from tests.suites.node_state import NodeState, owned_by_root
from tests.suites.slurm import ControllerView

CONTROLLERS = ("cpu", "cpuset", "memory")
"""What Slurm needs to hold a job to its cores and its memory. Devices are not one of them in version 2: there
the filter is a BPF program (cgroup-v2.rst, Device controller)."""

REQUIRED = {"ProctrackType": "proctrack/cgroup", "TaskPlugin": "task/cgroup"}
"""Without these slurm.conf does not use cgroup.conf at all (cgroup.conf(5), DESCRIPTION)."""

_TASK = re.compile(r"/system\.slice/([\w.-]+_)?slurmstepd\.scope/job_(?P<job>\d+)/step_\w+/user/task_\d+")


def test_cgroup_conf(
    cluster: Cluster, node_states: dict[str, NodeState], record_property: RecordProperty
) -> None:
    """cgroup.conf of every node is as rendered, only root may write it, and Slurm uses each of its keys"""
    wanted = cgroup_conf(cluster)
    findings = [finding for state in node_states.values() for finding in cgroup_conf_findings(state, wanted)]
    if findings:
        raise CheckFailed(
            f"{CGROUP_CONF} as rendered, root:root 644",
            "; ".join(findings),
            f"{DEPLOY_AGAIN}; `hpcstate lint` says what Slurm makes of a file",
        )
    keys = meaning(wanted, "cgroup.conf")
    given = (f"{keys.spelling[key]}={value}" for key, value in keys.parameters.items())
    record_property("observed", f"{', '.join(given)} on {', '.join(node_states)}")


def cgroup_conf_findings(state: NodeState, wanted: str) -> list[str]:
    """What is wrong with the cgroup.conf of a node, one sentence each."""
    found = state.contents.get("cgroup.conf", "")
    findings = list(owned_by_root(state, CGROUP_CONF))
    findings += [
        f"{state.name}: {problem.place} {problem.message}" for problem in slurm_lint.lint(found, "cgroup")
    ]
    different = sorted(set(wanted.splitlines()) ^ set(found.splitlines()))
    if wanted != found:
        findings.append(f"{state.name}: {CGROUP_CONF} differs in {' / '.join(different) or 'its order'}")
    return findings


def test_in_force(live: Live, controller_view: ControllerView, record_property: RecordProperty) -> None:
    """slurmctld runs with the cgroup.conf that is rendered, and with the plugins that make use of it"""
    running = controller_view.config
    rendered = meaning(cgroup_conf(live.cluster), "cgroup.conf")
    wanted = {rendered.spelling[key]: value for key, value in rendered.parameters.items()}
    cluster = meaning(slurm_conf(live.cluster), "slurm.conf")
    wanted |= {
        cluster.spelling[key]: value
        for key, value in cluster.parameters.items()
        if key in ("proctracktype", "taskplugin", "jobacctgathertype")
    }
    findings = [
        f"{key} is {running.get(key) or 'not set'}, rendered is {value}"
        for key, value in wanted.items()
        # A value may be followed by its unit: SystemdTimeout = 30000 ms.
        if (running.get(key, "").split() or [""])[0].lower() != value.lower()
    ]
    findings += [
        f"{key}={running.get(key) or 'none'} lacks {plugin}"
        for key, plugin in REQUIRED.items()
        if plugin not in running.get(key, "").split(",")
    ]
    if findings:
        raise CheckFailed(
            "what is rendered, with proctrack/cgroup and task/cgroup",
            "; ".join(findings),
            "`scontrol show config` on the controller; slurmctld reads cgroup.conf when it starts",
        )
    record_property("observed", ", ".join(f"{key}={running[key]}" for key in wanted))


def test_controllers(node_states: dict[str, NodeState], record_property: RecordProperty) -> None:
    """Every node has control groups of version 2, and Slurm's own has the controllers for cores and memory"""
    findings = [finding for state in node_states.values() for finding in scope_findings(state)]
    if findings:
        raise CheckFailed(
            f"a cgroup2 file system, a delegated scope with {', '.join(CONTROLLERS)} for its children",
            "; ".join(findings),
            "slurmd makes its scope when it starts: does it run (nodes.daemons)? `systemctl restart slurmd`; "
            "version 1 comes only with systemd.unified_cgroup_hierarchy=0 on the kernel's command line",
        )
    record_property(
        "observed",
        "; ".join(
            f"{state.name}: {state.mounted}, scope delegated, {' '.join(state.scope['subtree_control'])}"
            for state in node_states.values()
        ),
    )


def scope_findings(state: NodeState) -> list[str]:
    """What Slurm lacks of control groups on a node, one sentence each."""
    if state.mounted != "cgroup2fs":
        return [f"{state.name} has {state.mounted or 'nothing'} at /sys/fs/cgroup"]
    if not state.scope["version"]:
        return [f"{state.name} has no slurmstepd.scope"]
    # Handed down with the first job since the node booted; until then it counts that they can be.
    handed = state.scope["subtree_control"] or state.scope["controllers"]
    missing = [name for name in CONTROLLERS if name not in handed]
    findings = [f"{state.name}: no {', '.join(missing)} for jobs"] if missing else []
    if not state.delegated:
        findings.append(f"{state.name}: systemd has not delegated the scope to Slurm")
    return findings


def test_hierarchy(without_gpu: list[JobView], record_property: RecordProperty) -> None:
    """The processes of a job are in a control group of its own: job, step and task below Slurm's scope"""
    findings = [finding for view in without_gpu for finding in group_findings(view)]
    if findings:
        raise CheckFailed(
            "…slurmstepd.scope/job_N/step_N/user/task_N for every process",
            "; ".join(findings),
            "ProctrackType=proctrack/cgroup and TaskPlugin=task/cgroup in slurm.conf",
        )
    record_property("observed", "; ".join(f"{view.host}: {view.cgroup}" for view in without_gpu))


def group_findings(view: JobView) -> list[str]:
    """What is wrong with the control groups of the processes of a job on one node, one sentence each."""
    group = _TASK.fullmatch(view.cgroup)
    if group is None or group["job"] != view.job:
        return [f"{view.host}: the task of job {view.job} is in {view.cgroup or 'no group'}"]
    findings = [] if view.is_member else [f"{view.host}: {view.cgroup} does not list its task"]
    if view.left_behind_in != view.cgroup:
        findings.append(f"{view.host}: a daemon of the task is in {view.left_behind_in or 'no group'}")
    return findings


def test_clean(remains: list[Remains], without_gpu: list[JobView], record_property: RecordProperty) -> None:
    """No control group is left of a job that has ended"""
    bad = [leftover for leftover in remains if leftover.groups]
    if bad:
        raise CheckFailed(
            "no group without a running step",
            "; ".join(f"{leftover.host}: {', '.join(leftover.groups)}" for leftover in bad),
            "cgroup.procs of the group names the processes that keep it; rmdir removes an empty one",
        )
    jobs = {view.host: view.job for view in without_gpu}
    record_property(
        "observed",
        f"none of job {', '.join(sorted(set(jobs.values())))} on {', '.join(jobs)}, nor of any before it",
    )


@fault("cgroup.conf of a node has a key of older versions", "cgroup-isolation.cgroup_conf")
def obsolete_key(live: Live) -> Iterator[None]:
    with edited(live, [Edit(last_worker(live).name, CGROUP_CONF, append("CgroupAutomount=yes"))]):
        yield


@fault("cgroup.conf of a node may be written by everybody", "cgroup-isolation.cgroup_conf")
def writable(live: Live) -> Iterator[None]:
    with mode(live, last_worker(live).name, CGROUP_CONF, "666"):
        yield


@fault("Slurm's scope on a node does not have the memory controller", "cgroup-isolation.controllers")
def without_memory(live: Live) -> Iterator[None]:
    name = last_worker(live).name
    try:
        live.run(name, f"cd {SCOPES} && echo -memory >cgroup.subtree_control", user="root")
        yield
    finally:
        live.run(name, f"cd {SCOPES} && echo +memory >cgroup.subtree_control", user="root")


@fault("the control group of a job stays on a node", "cgroup-isolation.clean")
def group_stays(live: Live) -> Iterator[None]:
    name = last_worker(live).name
    try:
        live.run(name, f"cd {SCOPES} && mkdir job_999999", user="root")
        yield
    finally:
        live.run(name, f"rmdir {SCOPES}/job_999999", user="root")
