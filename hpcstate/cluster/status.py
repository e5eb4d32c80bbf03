"""What a cluster is right now: libvirt's view of each node, and Slurm's where the controller answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from hpcstate.cluster import drains
from hpcstate.cluster import runs as desired_runs
from hpcstate.cluster.leave import NO_REASON
from hpcstate.errors import HpcstateError
from hpcstate.hostlist import compress
from hpcstate.hypervisor.connection import connect
from hpcstate.hypervisor.machine import (
    BY_COMMAND,
    CONTRARY_WAY,
    REFUSED,
    MachineDifference,
    contrary,
    contrary_line,
    summed,
)
from hpcstate.hypervisor.mark import listed
from hpcstate.hypervisor.observed import data_volume, differences
from hpcstate.model import Cluster, Node
from hpcstate.node import runs
from hpcstate.node.runs import RunsDifference
from hpcstate.node.ssh import Live, NotLetInError, OtherHostKeyError
from hpcstate.probe.slurm import SlurmNode, nodes_command, parse_nodes
from hpcstate.slurm.change import REASON_PREFIX
from hpcstate.terminal import fitted, table

_SLURM_TIMEOUT = 15.0
_WORKING = {"IDLE", "MIXED", "ALLOCATED"}
_RESERVED = {"RESERVED", "MAINTENANCE"}
_UNUSABLE = {"DOWN", "DRAIN", "FAIL", "INVALID", "INVALID_REG", "NOT_RESPONDING", "POWERED_DOWN"}
"""States and flags of sinfo(1), NODE STATE CODES."""


@dataclass(frozen=True)
class NodeStatus:
    """One node. ``domain`` is libvirt's state or ``absent``, ``why`` its reason where that is worth a word;
    ``slurm`` is Slurm's, or empty. ``runs`` is what Slurm has noted that it runs (hpcstate.node.runs), and
    ``runs_other`` where it would be something else now. ``drain`` says whose drain it has, empty without one.
    """

    name: str
    role: str
    address: str
    domain: str
    slurm: str
    reason: str
    gres: str
    gres_used: str
    simulated_gpus: int
    cpu_cores: int
    memory_mb: int
    why: str = ""
    runs: Mapping[str, str] = field(default_factory=dict)
    runs_other: tuple[RunsDifference, ...] = ()
    drain: str = ""


@dataclass(frozen=True)
class ClusterStatus:
    """A cluster. ``slurm_error`` says why Slurm could not be asked, empty when it answered; ``strangers``
    name what has names of the cluster in libvirt and is somebody else's; ``differences`` are what libvirt has
    otherwise than the file says; ``data_volume`` is that of the controller, empty without one;
    ``drained_others`` is a line for each node that is drained and that the file does not have; ``autostart``
    is what the file says of that.
    """

    cluster: str
    kind: str
    nodes: tuple[NodeStatus, ...]
    slurm_error: str
    strangers: tuple[str, ...] = ()
    differences: tuple[MachineDifference, ...] = ()
    data_volume: str = ""
    drained_others: tuple[str, ...] = ()
    autostart: bool = False

    @property
    def healthy(self) -> bool:
        """Every node runs and, in an hpc cluster, Slurm may use every compute node."""
        running = all(node.domain == "running" for node in self.nodes)
        if self.kind != "hpc":
            return running
        usable = all(_usable(node.slurm) for node in self.nodes if node.role == "compute")
        return running and not self.slurm_error and usable

    def to_dict(self) -> dict[str, Any]:
        """For --json."""
        return {**asdict(self), "healthy": self.healthy}


def _usable(state: str) -> bool:
    flags = set(state.split("+"))
    return bool(flags & _WORKING) and not flags & _UNUSABLE


def observe(cluster: Cluster) -> ClusterStatus:
    """Ask libvirt and Slurm. Raises HpcstateError when libvirt is silent; a silent Slurm is reported."""
    try:
        with connect(cluster.uri) as host:
            domains = {node.name: host.state(cluster, node) for node in cluster.nodes}
            reasons = {node.name: host.why(cluster, node) for node in cluster.nodes}
            strangers = tuple(listed(host.strangers(cluster)))
            different = tuple(differences(host, cluster))
            data = data_volume(host, cluster)
    except HpcstateError:
        if _never_started(cluster):
            domains = {node.name: "absent" for node in cluster.nodes}
            reasons, strangers, different, data = {}, (), (), ""
        else:
            raise
    slurm, error = _ask_slurm(cluster, domains)
    drained = drains.left(slurm, cluster.controller.name)
    desired = desired_runs.desired(cluster) if slurm else {}
    nodes = tuple(
        replace(
            _merge(_as_it_is(node, different), domains[node.name], slurm.get(node.name, {})),
            why=reasons.get(node.name, ""),
            drain=drained.get(node.name, ""),
            **_runs(slurm.get(node.name), desired.get(node.name)),
        )
        for node in cluster.nodes
    )
    others = tuple(drains.strange(slurm, {node.name for node in cluster.nodes}))
    return ClusterStatus(
        *(cluster.name, cluster.kind, nodes, error, strangers, different, data, others),
        autostart=bool(cluster.autostart),
    )


def _as_it_is(node: Node, different: Sequence[MachineDifference]) -> Node:
    """``node`` with the memory and the CPUs that its machine really has."""
    found = {each.name: each.found for each in different if each.what == node.name}
    memory_mb = int(found.get("memory", str(node.memory_mb)).split()[0])
    return replace(node, memory_mb=memory_mb, cpu_cores=int(found.get("CPUs", node.cpu_cores)))


def _never_started(cluster: Cluster) -> bool:
    from hpcstate.paths import ClusterPaths

    return not ClusterPaths.of(cluster.name).ssh_key.exists()


def _ask_slurm(cluster: Cluster, domains: dict[str, str]) -> tuple[dict[str, Any], str]:
    if cluster.kind != "hpc":
        return {}, ""
    if domains[cluster.controller.name] != "running":
        return {}, "the controller is not running"
    try:
        with Live(cluster) as live:
            answer = live.run(
                cluster.controller.name, nodes_command(), user="root", timeout=_SLURM_TIMEOUT, check=False
            )
    except (OtherHostKeyError, NotLetInError) as error:
        return {}, f"{error.message}\n  hint: {error.hint}"
    except HpcstateError as error:
        return {}, error.message
    if answer.code != 0 or not answer.stdout.strip():
        lines = answer.stderr.strip().splitlines()
        return {}, lines[-1] if lines else "slurmctld does not answer (is the cluster deployed?)"
    try:
        return dict(parse_nodes(answer.stdout)), ""
    except HpcstateError as error:
        return {}, error.message


def _merge(node: Node, domain: str, slurm: dict[str, Any]) -> NodeStatus:
    state, reason = "+".join(slurm.get("states", ())), slurm.get("reason", "")
    # Slurm keeps the reason of a node that came back by itself (ReturnToService).
    over = reason == NO_REASON or (reason.startswith(REASON_PREFIX) and _usable(state))
    return NodeStatus(
        name=node.name,
        role=node.role,
        address=str(node.address),
        domain=domain,
        slurm=state,
        reason="" if over else reason,
        gres=slurm.get("gres", ""),
        gres_used=slurm.get("gres_used", ""),
        simulated_gpus=node.simulated_gpus.count if node.simulated_gpus else 0,
        cpu_cores=node.cpu_cores,
        memory_mb=node.memory_mb,
    )


def _runs(slurm: SlurmNode | None, desired: runs.Runs | None) -> dict[str, Any]:
    """What Slurm has noted of a node that it knows, and what would be otherwise now."""
    if slurm is None or desired is None:
        return {}
    noted = runs.noted(slurm["extra"])
    return {"runs": noted, "runs_other": tuple(runs.differences(noted, desired))}


def _runs_word(node: NodeStatus) -> str:
    """The column RUNS: ``current``, what is old, or ``-`` where Slurm has no note."""
    if not node.runs:
        return "-"
    kinds = dict.fromkeys(each.key.partition(".")[0] for each in node.runs_other)
    return f"old {', '.join(kinds)}" if kinds else "current"


def _runs_lines(nodes: Sequence[NodeStatus]) -> list[str]:
    """What is old, with the nodes that it is old on and the command that changes it."""
    named: dict[RunsDifference, list[str]] = {}
    for node in nodes:
        for each in node.runs_other if node.runs else ():
            named.setdefault(each, []).append(node.name)
    ways = {"roll start": "hpcstate roll start FILE", "up": "./hpc up FILE"}
    return [f"{compress(names)}: {each} (`{ways[each.remedy]}`)" for each, names in named.items()]


def as_text(status: ClusterStatus) -> str:
    """The table a person reads."""
    rows = []
    for node in status.nodes:
        gpus = node.gres.split("(")[0] or "-"
        if node.simulated_gpus:
            gpus += f" ({node.simulated_gpus} simulated)"
        rows.append(
            (
                *(node.name, node.address, node.domain, node.slurm.lower() or "-"),
                *(str(node.cpu_cores), f"{node.memory_mb} MB", gpus, _runs_word(node), node.reason),
            )
        )
    text = f"{status.cluster} ({status.kind})\n"
    text += table(("NODE", "ADDRESS", "DOMAIN", "SLURM", "CPUS", "MEMORY", "GPUS", "RUNS", "REASON"), rows)
    below = "".join(f"\n{node.drain}" for node in status.nodes if node.drain)
    below += "".join(f"\n{line}" for line in status.drained_others)
    kept = [node.name for node in status.nodes if _RESERVED & set(node.slurm.split("+"))]
    if kept:
        below += (
            f"\n{', '.join(kept)}: reserved in Slurm, by a roll (`hpcstate roll status FILE`) or by somebody "
            "(`scontrol show reservation`)"
        )
    if status.slurm_error:
        below += f"\nSlurm does not answer: {status.slurm_error}"
    if status.data_volume and all(node.domain == "absent" for node in status.nodes):
        below += f"\nthe controller's data volume is there: {status.data_volume}; `start` takes it up again"
    for node in status.nodes:
        if node.why:
            below += f"\n{node.name} is {node.domain}: {node.why}"
    if unheard := [node.name for node in status.nodes if node.domain != "running" and _usable(node.slurm)]:
        below += (
            f"\nSlurm has not missed {', '.join(unheard)} yet: what it says of nodes is as old as their last "
            "answer (SlurmdTimeout)"
        )
    refused = [each for each in status.differences if each.impact in REFUSED]
    both = contrary(status.differences)
    mended = [each for each in status.differences if each.what not in both or each.impact != "power-cycle"]
    if ours := [each for each in mended if each.impact not in (*REFUSED, *BY_COMMAND)]:
        below += "\nnot as the file says; `hpcstate plan` says the rest, `./hpc up` changes it:"
        below += "".join(f"\n  {difference}" for difference in summed(ours))
    # Which node is another one is not settled before the refused ones are: what is to be removed is neither.
    if others := [
        each
        for each in status.differences
        if each.impact in BY_COMMAND and not (refused and each.impact == "remove")
    ]:
        below += "\nnot as the file says, and `./hpc up` leaves it to the command that is named:"
        below += "".join(f"\n  {difference}" for difference in summed(others))
    if refused:
        below += (
            "\nnot as the file says, and `./hpc up` refuses to change anything before this is out of the way:"
        )
        below += "".join(f"\n  {difference}" for difference in summed(refused))
    for name, own in both.items():
        below += f"\n{contrary_line(name, own)}; `./hpc up` refuses that: {CONTRARY_WAY}"
    if lines := _runs_lines(status.nodes):
        below += "\nSlurm has noted that nodes run something else than they would now:"
        below += "".join(f"\n  {line}" for line in lines)
    if unnoted := [node.name for node in status.nodes if node.runs_other and not node.runs]:
        below += f"\nSlurm has no note of what runs on {compress(unnoted)}: `./hpc up FILE` makes one"
    for stranger in status.strangers:
        below += f"\nnot this cluster's own: {stranger}"
    off = [node.name for node in status.nodes if node.domain == "stopped"]
    if off and not status.strangers:
        below += f"\noff: {', '.join(off)}. `hpcstate start FILE` starts nodes" + (
            ""
            if status.autostart
            else "; when the host boots they start by themselves with `autostart: true` in the cluster file"
        )
    return text + fitted(below)
