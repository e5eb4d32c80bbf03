"""``hpcstate inventory gpus``: the GPUs of a running cluster's nodes by their facts, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hpcstate.errors import HpcstateError
from hpcstate.gpu.findings import Finding, GpuHost, findings, read_host, worst
from hpcstate.model import Cluster, Node
from hpcstate.node.ssh import Live
from hpcstate.probe.nvidia_smi_xml import NvidiaGpu
from hpcstate.probe.nvidia_topology import GpuTopology
from hpcstate.run import at_once
from hpcstate.slurm import gres
from hpcstate.terminal import fitted, table

_SECONDS = 90
"""How long one command on a node may take; nvidia-smi alone may take nvidia_smi.LIMIT twice."""

_HEADER = (*("NODE", "GPU", "TYPE", "NAME", "FILE", "PCI", "NUMA", "CPUS", "MIG", "PERSISTENCE", "STATE"),)


@dataclass(frozen=True)
class Gpu:
    """One GPU of a node. ``file`` is empty when its device file is missing; ``smi`` and ``topology`` are None
    when nvidia-smi does not tell of it. ``state`` is simulated, ok, or the worst severity of its findings.
    """

    index: int | None
    gres_type: str
    name: str
    file: str
    address: str
    simulated: bool
    state: str
    smi: NvidiaGpu | None
    topology: GpuTopology | None


@dataclass(frozen=True)
class NodeReport:
    """What was read of one node; ``error`` says why it could not be read, and then there is nothing else."""

    node: str
    error: str = ""
    driver: str = ""
    gpus: tuple[Gpu, ...] = ()
    findings: tuple[Finding, ...] = ()


def read(cluster: Cluster) -> tuple[NodeReport, ...]:
    """A report of each compute node. A cluster that was never started has nodes that cannot be read."""
    try:
        with Live(cluster) as live:
            return read_nodes(live)
    except HpcstateError as error:
        workers = cluster.workers
        said = f"{error.message} ({error.hint})" if error.hint else error.message
        return tuple(NodeReport(node.name, error=said) for node in workers)


def read_nodes(live: Live) -> tuple[NodeReport, ...]:
    """A report of each compute node of ``live``, read at the same time."""

    def read_node(node: Node) -> NodeReport:
        def ask(command: str) -> str:
            return live.run(node.name, command, user="root", timeout=_SECONDS).stdout

        try:
            return report(node, read_host(ask))
        except HpcstateError as error:
            return NodeReport(node.name, error=error.message)

    nodes = {node.name: node for node in live.workers}
    return tuple(at_once(lambda name: read_node(nodes[name]), nodes).values())


def report(node: Node, host: GpuHost) -> NodeReport:
    """What ``host`` says of ``node``: also whether it has the GPUs that the cluster file declares."""
    found = findings(node.name, host)
    declared = gres.declared_gres(node)
    problem = gres.assign(node.name, declared, host.gpus).problem if declared else ""
    if problem:
        what, _, step = problem.partition("\n")
        found = (Finding("error", node.name, "", node.name, what, " ".join(step.split())), *found)
    return NodeReport(node.name, driver=host.gpus["driver"], gpus=tuple(_gpus(host, found)), findings=found)


def exit_code(reports: Sequence[NodeReport]) -> int:
    """2: no node could be read. 1: one could not, or has a finding that is an error. 0: otherwise."""
    if reports and all(node_report.error for node_report in reports):
        return 2
    errors = (finding.severity == "error" for node_report in reports for finding in node_report.findings)
    return 1 if any(node_report.error for node_report in reports) or any(errors) else 0


def as_data(reports: Sequence[NodeReport]) -> list[dict[str, Any]]:
    """One entry for each node; its keys stay as they are."""
    return [asdict(node_report) for node_report in reports]


def as_text(reports: Sequence[NodeReport]) -> str:
    """The table, and below it what is wrong, errors first."""
    rows = [row for node_report in reports for row in _rows(node_report)]
    parts = [table(_HEADER, rows, indent="")]
    for node_report in reports:
        if node_report.error:
            parts.append(f"\nerror: {node_report.node} could not be read: {node_report.error}")
    for severity in ("error", "warning", "note"):
        for finding in (
            finding
            for node_report in reports
            for finding in node_report.findings
            if finding.severity == severity
        ):
            parts.append(fitted(f"\n{severity}: {finding.where}: {finding.what}"))
            if finding.step:
                parts.append(fitted(f"  -> {finding.step}"))
    return "\n".join(parts)


def _gpus(host: GpuHost, found: Sequence[Finding]) -> Iterator[Gpu]:
    """The GPUs with a device file, then those without, then those that only the bus or nvidia-smi has."""
    smi = {entry["address"]: entry for entry in host.smi["gpus"]}
    topology = {entry["index"]: entry for entry in host.topology["gpus"]}

    def gpu(
        address: str, file: str = "", gres_type: str = "", name: str = "", simulated: bool = False
    ) -> Gpu:
        told = smi.get(address)
        return Gpu(
            index=told["index"] if told else None,
            gres_type=gres_type,
            name=(told["name"] if told else "") or name,
            file=file,
            address=address,
            simulated=simulated,
            state="SIMULATED" if simulated else worst(found, address) or "ok",
            smi=told,
            topology=topology.get(told["index"]) if told else None,
        )

    shown: set[str] = set()
    for device in host.gpus["devices"]:
        shown.add(device["address"])
        yield gpu(
            device["address"], device["file"], device["gres_type"], device["model"], device["simulated"]
        )
    others = [entry["address"] for entry in (*host.gpus["nodeless"], *host.smi["gpus"], *host.smi["lost"])]
    for address in dict.fromkeys((*others, *host.gpus["bus"])):
        if address not in shown:
            yield gpu(address)


def _rows(node_report: NodeReport) -> list[tuple[str, ...]]:
    if node_report.error or not node_report.gpus:
        state = "unread" if node_report.error else "no GPU"
        return [(node_report.node, *("-",) * (len(_HEADER) - 2), state)]
    return [_row(node_report.node, gpu) for gpu in node_report.gpus]


def _row(node: str, gpu: Gpu) -> tuple[str, ...]:
    smi, topology = gpu.smi, gpu.topology
    cells = (
        "" if gpu.index is None else str(gpu.index),
        gpu.gres_type,
        gpu.name,
        gpu.file,
        gpu.address,
        topology["numa_affinity"] if topology else "",
        topology["cpu_affinity"] if topology else "",
        _mig(smi) if smi else "",
        smi["persistence_mode"] if smi else "",
    )
    return (node, *(cell or "-" for cell in cells), gpu.state)


def _mig(smi: NvidiaGpu) -> str:
    """``2x 3g.20gb, 1g.5gb``; ``on`` or ``off`` without a MIG device, empty where there is no MIG."""
    profiles = [device["profile"] or "?" for device in smi["mig_devices"]]
    counted = ((profiles.count(profile), profile) for profile in dict.fromkeys(profiles))
    shown = ", ".join(f"{count}x {profile}" if count > 1 else profile for count, profile in counted)
    return shown or {"Enabled": "on", "Disabled": "off"}.get(smi["mig_mode"], "")
