"""``hpcstate inventory``: what pyinfra gets from a cluster file, the GPUs of this host and of the nodes."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from hpcstate.cli import OK
from hpcstate.commands.arguments import add_cluster_arguments, add_cluster_file, chosen_clusters
from hpcstate.errors import HpcstateError
from hpcstate.terminal import table

if TYPE_CHECKING:
    from hpcstate.cluster.inventory import Groups
    from hpcstate.model import Cluster, Node


def register(subparsers: Any) -> None:
    """Add ``inventory show``, ``inventory pcie`` and ``inventory gpus``."""
    parser = subparsers.add_parser("inventory", help="hosts, groups and GRES of a file; GPUs")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    shown = commands.add_parser("show", help="the hosts, groups and GRES lines that pyinfra gets")
    add_cluster_file(shown)
    shown.add_argument("--json", action="store_true", help="print JSON")
    shown.add_argument("--names", action="store_true", help="print the names of all nodes, a line each")
    shown.set_defaults(run=show)
    devices = commands.add_parser(
        "pcie", help="the GPUs of this host: IOMMU groups, drivers, and whether each can be passed through"
    )
    devices.add_argument("--all", action="store_true", help="all devices but bridges, not only GPUs")
    devices.add_argument("--json", action="store_true", help="print JSON")
    devices.set_defaults(run=show_pcie)
    gpus = commands.add_parser(
        "gpus", help="the GPUs of a running cluster's nodes, and what is wrong with them; changes nothing"
    )
    add_cluster_arguments(gpus)
    gpus.add_argument("--json", action="store_true", help="print JSON")
    gpus.set_defaults(run=show_gpus)


def show(args: argparse.Namespace) -> int:
    """The inventory of a cluster file."""
    from hpcstate.cluster import inventory
    from hpcstate.schema import load

    description = load(args.file)
    if args.names:
        print("\n".join(node.name for cluster in description.clusters for node in cluster.nodes))
        return OK
    groups = inventory.groups(description)
    clusters = [_cluster_data(cluster, groups) for cluster in description.clusters]
    if args.json:
        print(json.dumps({"file": str(args.file), "clusters": clusters}, indent=2))
    else:
        print("\n\n".join(_cluster_text(cluster) for cluster in clusters))
    return OK


def show_pcie(args: argparse.Namespace) -> int:
    """The GPUs of this host (all devices with ``--all``), and whether each can be passed through."""
    from hpcstate.cluster.lifecycle import held_here
    from hpcstate.passthrough import report, verdict

    try:
        held = held_here()
    except HpcstateError as error:
        print(f"which guests have which devices is not known: {error}", file=sys.stderr)
        held = {}
    host = verdict.local_host(held=held)
    if args.json:
        print(json.dumps({"devices": report.as_data(host, everything=args.all)}, indent=2))
    else:
        print(report.as_text(host, everything=args.all))
    return OK


def show_gpus(args: argparse.Namespace) -> int:
    """The GPUs of the nodes of a cluster file's clusters; 1 when one of them must get no jobs."""
    from hpcstate.gpu import report

    clusters = chosen_clusters(args)
    reports = {cluster.name: report.read(cluster) for cluster in clusters}
    if args.json:
        print(json.dumps({name: report.as_data(nodes) for name, nodes in reports.items()}, indent=2))
    else:
        print("\n\n".join(report.as_text(nodes) for nodes in reports.values()))
    return report.exit_code([node for nodes in reports.values() for node in nodes])


def _cluster_data(cluster: Cluster, groups: Groups) -> dict[str, Any]:
    return {
        "name": cluster.name,
        "kind": cluster.kind,
        "subnet": str(cluster.network.subnet),
        "bridge": cluster.network.bridge,
        "nodes": [_node_data(node, groups) for node in cluster.nodes],
        "partitions": [
            {
                "name": partition.name,
                "nodes": list(partition.nodes),
                "default": partition.default,
                "max_time": partition.max_time,
            }
            for partition in (cluster.slurm.partitions if cluster.slurm else ())
        ],
    }


def _node_data(node: Node, groups: Groups) -> dict[str, Any]:
    from hpcstate.slurm.gres import assign_declared, declared_gres

    assignment = assign_declared(node.name, declared_gres(node))
    return {
        "name": node.name,
        "address": str(node.address),
        "mac": node.mac,
        "groups": [name for name, hosts in groups.items() if node.name in (host for host, _ in hosts)],
        "cpu_cores": node.cpu_cores,
        "memory_mb": node.memory_mb,
        "disk_gb": node.disk_gb,
        "image": node.image,
        "auto_start": node.auto_start,
        "gres": node.gres,
        "gpus": [
            {"type": device.gres_type, "file": device.files[0], "simulated": device.simulated}
            for device in assignment.devices
        ],
        "gres_lines": assignment.lines,
    }


def _cluster_text(cluster: dict[str, Any]) -> str:
    parts = [
        f"{cluster['name']} ({cluster['kind']}), {cluster['subnet']} on {cluster['bridge']}",
        table(
            ("host", "address", "groups", "CPUs", "memory", "disk", "GPUs"),
            [_node_row(node) for node in cluster["nodes"]],
        ),
    ]
    if cluster["partitions"]:
        parts += ["", *(_partition_text(partition) for partition in cluster["partitions"])]
    lines = [
        # A node's GPUs are all real or all simulated (hpcstate.schema.node).
        line + ("   # simulated" if any(gpu["simulated"] for gpu in node["gpus"]) else "")
        for node in cluster["nodes"]
        for line in node["gres_lines"]
    ]
    if lines:
        parts += ["", "  gres.conf, as declared; the nodes get what they really have:"]
        parts += [f"    {line}" for line in lines]
    return "\n".join(parts)


def _node_row(node: dict[str, Any]) -> tuple[str, ...]:
    simulated = sum(gpu["simulated"] for gpu in node["gpus"])
    real = len(node["gpus"]) - simulated
    gpus = [str(real)] * bool(real) + [f"{simulated} simulated"] * bool(simulated)
    return (
        node["name"],
        node["address"],
        ", ".join(node["groups"]) or "(auto_start: false)",
        str(node["cpu_cores"]),
        f"{node['memory_mb'] / 1024:g} GiB",
        f"{node['disk_gb']} GiB",
        " + ".join(gpus) or "-",
    )


def _partition_text(partition: dict[str, Any]) -> str:
    from hpcstate.hostlist import compress

    nodes = compress(partition["nodes"]) or "no nodes"
    default = ", default" if partition["default"] else ""
    return f"  partition {partition['name']}: {nodes}, at most {partition['max_time']}{default}"
