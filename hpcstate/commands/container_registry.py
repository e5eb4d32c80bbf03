"""``hpcstate container deploy|prune|catalog``: the registry on the nodes of a running cluster."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hpcstate.categories import CATEGORIES, DEFAULT_CATEGORY
from hpcstate.cli import FINDINGS, OK
from hpcstate.commands.arguments import add_cluster_arguments, chosen_clusters
from hpcstate.errors import HpcstateError
from hpcstate.terminal import plural, table

if TYPE_CHECKING:
    from hpcstate.model import Cluster
    from hpcstate.registry.deploy import DeployResult
    from hpcstate.registry.layout import Catalog
    from hpcstate.registry.prune import PruneResult


def add(commands: Any) -> None:
    """Add the commands to the parsers of ``hpcstate container``."""
    deploy = commands.add_parser(
        "deploy",
        help="bring containers to the nodes",
        description="Bring containers to the registry of all nodes: only what differs, verified there, the "
        "catalog last. The same command again goes on where it was interrupted. Exit codes: 0 every node has "
        "them, 1 a node does not, 2 nothing could be done.",
    )
    add_cluster_arguments(deploy)
    deploy.add_argument(
        "containers", metavar="NAME|FILE.sif", nargs="*", help="containers of the project, or files"
    )
    deploy.add_argument("--nodes", metavar="A,B", default="", help="only these nodes, and the controller")
    deploy.add_argument(
        "--resume", action="store_true", help="what earlier deploys left to do; needs no names"
    )
    deploy.add_argument(
        "--verify", action="store_true", help="hash and verify again what the nodes have already"
    )
    deploy.add_argument(
        "--via",
        choices=("auto", "rsync", "sbcast", "oras"),
        default="auto",
        help="how it gets from the controller to the nodes (default: auto, which is rsync)",
    )
    deploy.add_argument(
        "--bandwidth", metavar="MBIT", type=int, default=0, help="no machine sends more (Mbit/s; rsync only)"
    )
    deploy.add_argument(
        "--oras-url", metavar="URL", default="", help="your OCI registry: oras://host:5000/path"
    )
    deploy.add_argument("--oras-plain-http", action="store_true", help="it is reached without TLS")
    deploy.add_argument(
        "--as", dest="name", metavar="NAME", default="", help="the name of a file's container"
    )
    deploy.add_argument("--version", metavar="VERSION", default="", help="its version (default: local)")
    deploy.add_argument(
        "--category",
        choices=CATEGORIES,
        help=f"its folder (default: {DEFAULT_CATEGORY})",
    )
    deploy.add_argument("--json", action="store_true", help="print JSON; the progress goes to standard error")
    deploy.set_defaults(run=run_deploy)
    prune = commands.add_parser(
        "prune",
        help="remove old versions from the nodes",
        description="Remove what is neither current nor in use by a job from the registry of all nodes.",
    )
    add_cluster_arguments(prune)
    prune.add_argument(
        "--keep",
        metavar="N",
        type=int,
        default=1,
        help="versions before the current one that stay (default: 1)",
    )
    prune.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    prune.add_argument("--json", action="store_true", help="print JSON; the progress goes to standard error")
    prune.set_defaults(run=run_prune)
    catalog = commands.add_parser("catalog", help="what the registry has, and which nodes are out of step")
    add_cluster_arguments(catalog)
    catalog.add_argument("--verify", action="store_true", help="hash the files again, trust no record")
    catalog.add_argument("--json", action="store_true", help="print JSON")
    catalog.set_defaults(run=run_catalog)


def run_deploy(args: argparse.Namespace) -> int:
    """Deploy what was named to the Slurm clusters of the file."""
    from hpcstate.cluster.runs import note
    from hpcstate.registry.deploy import deploy
    from hpcstate.registry.source import chosen
    from hpcstate.registry.transfer import Way
    from hpcstate.terminal import Board

    if not args.containers and not args.resume:
        raise HpcstateError(
            "which container?", hint="name one (`hpcstate container list`), or --resume an earlier deploy"
        )
    if len(args.containers) > 1 and (args.name or args.version):
        raise HpcstateError("--as and --version go with one file", hint="deploy the files one by one")
    clusters = _slurm_clusters(args)
    sources = [
        chosen(word, name=args.name, version=args.version, category=args.category) for word in args.containers
    ]
    way = Way(args.via, args.bandwidth, args.oras_url, args.oras_plain_http)
    nodes = tuple(name for name in args.nodes.split(",") if name)
    results = []
    for cluster in clusters:
        board = Board(sys.stderr if args.json else sys.stdout)
        board.line(f"{cluster.name}: containers to {_of_nodes(cluster, nodes)}")
        results.append(deploy(cluster, sources, board.say, way=way, nodes=nodes, verify=args.verify))
        note(cluster, board.line)
        if not args.json:
            print(deploy_text(results[-1]), flush=True)
    if args.json:
        print(json.dumps([asdict(result) | {"complete": result.complete} for result in results], indent=1))
    return OK if all(result.complete for result in results) else FINDINGS


def run_prune(args: argparse.Namespace) -> int:
    """Prune the registries of the Slurm clusters of the file."""
    from hpcstate.cluster.runs import note
    from hpcstate.registry.prune import prune
    from hpcstate.terminal import Board

    results = []
    for cluster in _slurm_clusters(args):
        board = Board(sys.stderr if args.json else sys.stdout)
        board.line(f"{cluster.name}:")
        results.append(prune(cluster, board.say, keep=args.keep, dry_run=args.dry_run))
        if not args.dry_run:
            note(cluster, board.line)
        if not args.json:
            print(prune_text(results[-1]), flush=True)
    if args.json:
        print(json.dumps([asdict(result) | {"freed": result.freed} for result in results], indent=1))
    return FINDINGS if any(result.failed for result in results) else OK


def run_catalog(args: argparse.Namespace) -> int:
    """Show the catalog of each Slurm cluster of the file, and what nodes lack."""
    from hpcstate.node.ssh import Live
    from hpcstate.registry.look import out_of_step

    found: list[dict[str, Any]] = []
    for cluster in _slurm_clusters(args):
        with Live(cluster) as live:
            catalog, findings = out_of_step(live, rehash=args.verify)
        found.append({"cluster": cluster.name, "containers": _rows(catalog), "nodes": findings})
        if not args.json:
            print(catalog_text(cluster, catalog, findings), flush=True)
    if args.json:
        print(json.dumps(found, indent=1))
    return FINDINGS if any(any(entry["nodes"].values()) for entry in found) else OK


def _slurm_clusters(args: argparse.Namespace) -> tuple[Cluster, ...]:
    clusters = tuple(cluster for cluster in chosen_clusters(args) if cluster.kind == "hpc")
    if not clusters:
        raise HpcstateError(
            "the registry of containers belongs to Slurm clusters, and none was chosen", where=str(args.file)
        )
    return clusters


def _of_nodes(cluster: Cluster, nodes: tuple[str, ...]) -> str:
    return ", ".join(nodes) if nodes else plural(len(cluster.nodes), "node")


def deploy_text(result: DeployResult) -> str:
    """A finished deploy as a person reads it."""
    lines = []
    for node in result.nodes:
        if node.outcome == "failed":
            first, *rest = node.message.splitlines()
            lines += [f"  {node.node}: FAILED: {first}", *(f"    {line}" for line in rest)]
            lines += [f"    next: {node.hint}"] if node.hint else []
        else:
            what = [f"{len(node.received)} received"] if node.received else []
            what += list(node.changes)
            lines.append(f"  {node.node}: {', '.join(what) or 'nothing to do'} ({node.seconds:.0f} s)")
        lines += [f"  {node.node}: {path} is not in the catalog; it was left alone" for path in node.unknown]
    count = sum(node.outcome != "failed" for node in result.nodes)
    lines.append(
        f"{result.cluster}: {count} of {plural(len(result.nodes), 'node')} in step "
        f"after {result.seconds:.0f} s"
    )
    if not result.complete:
        lines.append("  next: `hpcstate container deploy FILE --resume` finishes when the others answer")
    return "\n".join(lines)


def prune_text(result: PruneResult) -> str:
    """A finished prune as a person reads it."""
    from hpcstate.registry.transfer import megabytes

    verb = "would be removed" if result.dry_run else "removed"
    lines = [f"  {stored.file}: {verb} ({megabytes(stored.size)})" for stored in result.removed]
    forgotten = "would be taken" if result.dry_run else "taken"
    lines += [
        f"  {stored.file}: on no node any more, {forgotten} out of the catalog" for stored in result.lost
    ]
    lines += [f"  {kept.stored.file}: kept, {kept.why}" for kept in result.kept]
    lines += [f"  {node}: FAILED: {why}" for node, why in result.failed]
    if result.lost:
        lines.append(
            "  next: `hpcstate container deploy FILE --resume` lets their names lead to what is left"
        )
    lines.append(f"{result.cluster}: {megabytes(result.freed)} {verb} on each node")
    return "\n".join(lines)


def _rows(catalog: Catalog) -> list[dict[str, Any]]:
    return [
        asdict(stored) | {"file": stored.file, "current": catalog.is_current(stored)}
        for stored in catalog.stored
    ]


def catalog_text(cluster: Cluster, catalog: Catalog, findings: dict[str, list[str]]) -> str:
    """The catalog and what is out of step, as a person reads it."""
    from hpcstate.registry.transfer import megabytes

    rows = [
        (
            stored.name,
            stored.version,
            "current" if catalog.is_current(stored) else "",
            stored.digest[:12],
            megabytes(stored.size),
            "signed" if stored.signed else "unsigned",
            stored.deployed,
            ",".join(stored.nodes) or "all",
        )
        for stored in catalog.stored
    ]
    lines = [f"{cluster.name}: {plural(len(rows), 'version')} of {plural(len(catalog.current), 'container')}"]
    if rows:
        header = ("NAME", "VERSION", "", "DIGEST", "SIZE", "SIGNATURE", "DEPLOYED", "NODES")
        lines.append(table(header, rows))
    for node, said in findings.items():
        lines += [f"  {node}: {text}" for text in said]
    wrong = sum(bool(said) for said in findings.values())
    if wrong:
        lines.append("  next: `hpcstate container deploy FILE --resume` brings them into step")
    else:
        lines.append(f"  all {len(findings)} nodes are in step")
    return "\n".join(lines)
