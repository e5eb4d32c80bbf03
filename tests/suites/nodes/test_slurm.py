"""Slurm has the nodes that the cluster file declares, and reaches them."""

from __future__ import annotations

from collections.abc import Iterator

from hpcstate.check.jobs import srun, together
from hpcstate.check.suite import CheckFailed, RecordProperty, fault
from hpcstate.model import Cluster, Node
from hpcstate.node.ssh import Live
from hpcstate.probe.slurm import SlurmNode
from hpcstate.slurm.conf import real_memory_mb
from tests.suites.breaking import GRES_CONF, Edit, edited, last_gpu_node, last_worker, stopped, wait_idle
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
            "`scontrol show node` tells the reason of a drain; journalctl -u slurmd on the node",
        )
    record_property("observed", "; ".join(_summary(node.name, nodes[node.name]) for node in live.workers))


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
