"""Faults that need the restart of a daemon: each is made once for all the checks that it turns red."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hpcstate.check.suite import fault
from hpcstate.node.ssh import Live
from tests.suites.breaking import CGROUP_CONF, SLURM_CONF, Edit, append, edited, last_worker, set_key
from tests.suites.refusals import ABSENT_TYPE

ANOTHER_NODE = "hpcstate-fault"


@fault(
    "cgroup.conf of a node constrains nothing",
    "cgroup-isolation.memory",
    "cgroup-isolation.swap",
    "cgroup-isolation.out_of_memory",
    "cgroup-isolation.shared_memory",
    "cgroup-isolation.cores",
    "gpu-gres.own_device",
    "container-runtime.devices",
    "gpu-gres.without_gres",
    "gpu-gres.nvidia_smi",
    "container-integration.memory",
)
def unconstrained(live: Live) -> Iterator[None]:
    # RAM and swap together: with either of them, Slurm sets memory.max.
    def change(text: str) -> str:
        for key in ("ConstrainRAMSpace", "ConstrainSwapSpace", "ConstrainCores", "ConstrainDevices"):
            text = set_key(key, "no")(text)
        return text

    name = last_worker(live).name
    with edited(live, [Edit(name, CGROUP_CONF, change)], restart=[(name, "slurmd")]):
        yield


@fault(
    "slurmd of a node follows processes by their parents",
    "cgroup-isolation.descendants",
    "cgroup-isolation.hierarchy",
)
def by_parents(live: Live) -> Iterator[None]:
    name = last_worker(live).name
    edit = Edit(name, SLURM_CONF, _without_cgroups)
    with edited(live, [edit], restart=[(name, "slurmd")]):
        yield


def _without_cgroups(text: str) -> str:
    for key, value in (
        ("ProctrackType", "proctrack/linuxproc"),
        ("TaskPlugin", "task/affinity"),
        ("JobAcctGatherType", "jobacct_gather/none"),
    ):
        text = set_key(key, value)(text)
    return text


@fault(
    "slurmctld believes in a node that is not there, and runs with other plugins",
    "gpu-gres.types",
    "gpu-gres.too_many",
    "gpu-gres.configured",
    "cgroup-isolation.too_much",
    "cgroup-isolation.in_force",
)
def other_controller(live: Live) -> Iterator[None]:
    name = live.cluster.controller.name
    edits = [
        Edit(name, SLURM_CONF, _with_another_node),
        Edit(name, CGROUP_CONF, set_key("ConstrainDevices", "no")),
    ]
    with edited(live, edits, restart=[(name, "slurmctld")]):
        yield


def _with_another_node(text: str) -> str:
    """slurm.conf with a big node in every partition, and another GRES type and way to follow processes."""
    for key, value in (("GresTypes", "gpu,nic"), ("ProctrackType", "proctrack/linuxproc")):
        text = set_key(key, value)(text)
    text = re.sub(r"(?m)^(PartitionName=.* Nodes=\S+)", rf"\1,{ANOTHER_NODE}", text)
    # With an address: slurmctld would look for the name for minutes.
    line = f"NodeName={ANOTHER_NODE} NodeAddr=127.0.0.1 CPUs=1024 RealMemory=9999999"
    return append(f"{line} Gres=gpu:{ABSENT_TYPE}:64 State=UNKNOWN")(text)
