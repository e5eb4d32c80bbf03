"""``hpcstate check``: prove on the live cluster that it does what its file says."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcstate.cli import OK
from hpcstate.commands.arguments import add_cluster_file
from hpcstate.errors import HpcstateError
from hpcstate.terminal import folded, plural

if TYPE_CHECKING:
    from hpcstate.check.suite import Check, CheckResult, Suites
    from hpcstate.model import Cluster

_STDOUT = Path("-")


def register(subparsers: Any) -> None:
    """Add ``check``."""
    parser = subparsers.add_parser(
        "check",
        help="prove on the running cluster that it does what its file says",
        description="Run the checks of tests/suites on the running cluster, by pytest. A run of all of them "
        "is kept in build/<cluster>/proof.json, and as a page in proof.html. Exit codes: 0 all passed (or "
        "skipped, with the reason), 1 a check failed, 2 the checks could not be made.",
    )
    add_cluster_file(parser)
    which = parser.add_argument_group("which checks")
    which.add_argument(
        "--suite",
        metavar="NAME",
        action="append",
        default=[],
        help="only the checks of this suite (repeatable)",
    )
    which.add_argument(
        "--check",
        metavar="NAME",
        action="append",
        default=[],
        help="only this check, suite.name (repeatable)",
    )
    which.add_argument(
        "-k",
        metavar="WORDS",
        default="",
        help="only checks whose names fit, as pytest has it: 'gpu and not waits'",
    )
    which.add_argument(
        "--lf", action="store_true", help="only those that failed the last time, all if none did"
    )
    which.add_argument(
        "--checks",
        metavar="DIR",
        type=Path,
        action="append",
        default=[],
        help="also the checks of your own in this folder (docs/checks.md tells how to write one)",
    )
    which.add_argument(
        "--active",
        action="store_true",
        help="instead: measure nodes that have no jobs, by jobs of the lowest priority (docs/health.md)",
    )
    which.add_argument("--deep", action="store_true", help="with --active: the deep set, minutes a node")
    which.add_argument(
        "--node",
        metavar="NAME",
        action="append",
        default=[],
        help="with --active: only this node (repeatable)",
    )
    which.add_argument("--list", action="store_true", help="list the checks and their faults, run nothing")
    to = parser.add_argument_group("what to leave")
    to.add_argument(
        "--json",
        metavar="OUT",
        type=Path,
        nargs="?",
        const=_STDOUT,
        help="write the results as JSON to this file; without a file to standard output, and the progress "
        "to standard error",
    )
    to.add_argument("--html", metavar="OUT", type=Path, help="write a page for people to read to this file")
    to.add_argument("--junitxml", metavar="OUT", type=Path, help="write JUnit's XML, for a CI, to this file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the checks that were asked for, on the Slurm cluster of the file."""
    from hpcstate.check.page import write_page
    from hpcstate.check.proof import summary, write_proof
    from hpcstate.check.prove import prove, result_text
    from hpcstate.check.runner import exit_code, fitting, load_suites
    from hpcstate.check.target import slurm_cluster
    from hpcstate.files import write_atomically
    from hpcstate.paths import ClusterPaths, named, shown
    from hpcstate.schema import load

    _demand_outputs(args)
    description = load(args.file)
    if args.active:
        return active(args, slurm_cluster(description))
    if args.deep or args.node:
        raise HpcstateError("--deep and --node are for --active", hint="add --active, or leave them out")
    suites = load_suites(more=args.checks)
    checks = fitting(_chosen(suites, args.suite, args.check), args.k)
    if args.list:
        listing = json.dumps(listed(suites, checks), indent=2) if args.json else list_text(suites, checks)
        if args.json in (None, _STDOUT):
            print(listing)
        else:
            write_atomically(args.json, listing + "\n")
        return OK
    cluster = slurm_cluster(description)
    out = sys.stderr if args.json == _STDOUT else sys.stdout

    def say(text: str) -> None:
        print(text, file=out, flush=True)

    paths = ClusterPaths.of(cluster.name)
    made = 0

    def tell(result: CheckResult) -> None:
        nonlocal made
        made += 1
        say(named(result_text(result), args.file))

    try:
        proof = prove(
            description.path,
            cluster,
            suites,
            checks,
            say=say,
            tell=tell,
            remember=paths.failed_checks,
            last_failed=args.lf,
            junit=args.junitxml,
        )
    except KeyboardInterrupt:
        say(f"interrupted after {plural(made, 'check')}: nothing is proven, and no report was written")
        raise
    say(summary(proof.results, proof.seconds))
    if proof.complete:
        write_proof(proof, paths.proof)
        write_page(proof, cluster, suites, paths.proof_page)
        say(f"kept in {shown(paths.proof)}, to read in {shown(paths.proof_page)}")
    if args.html is not None:
        write_page(proof, cluster, suites, args.html)
    if args.json is not None:
        text = json.dumps(proof.to_json(), indent=2)
        if args.json == _STDOUT:
            print(text)
        else:
            write_atomically(args.json, text + "\n")
    return exit_code(proof.results)


def active(args: argparse.Namespace, cluster: Cluster) -> int:
    """Measure the nodes; exit code 1 where one failed."""
    from hpcstate.cluster.active import run as measure
    from hpcstate.cluster.active import text
    from hpcstate.files import write_atomically
    from hpcstate.node.ssh import Live

    with Live(cluster) as live:
        found = measure(cluster, live, deep=args.deep, names=args.node)
    if args.json == _STDOUT:
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(map(text, found)) or "no node without jobs")
        if args.json is not None:
            write_atomically(args.json, json.dumps(found, indent=2))
    return int(any(each.get("result") == "failed" for each in found))


def _demand_outputs(args: argparse.Namespace) -> None:
    """Raises HpcstateError for a file to write that cannot be meant, before anything takes minutes."""
    for option, path in (("--json", args.json), ("--html", args.html), ("--junitxml", args.junitxml)):
        if path is None or path == _STDOUT:
            continue
        if path.exists() and args.file.exists() and path.samefile(args.file):
            raise HpcstateError(f"{option} would write over the cluster file", where=str(path))
        if path.is_dir() or not path.absolute().parent.is_dir():
            raise HpcstateError(
                f"{option} cannot write there", where=str(path), hint="name a file in a folder that is there"
            )


def _chosen(suites: Suites, of_suites: Sequence[str], names: Sequence[str]) -> tuple[Check, ...]:
    """The checks of these suites, and those called so, in their order; all without either. Raises as
    ``suites.select`` does."""
    if not of_suites and not names:
        return suites.checks
    chosen = [check for suite in of_suites for check in suites.select(suite)]
    chosen += [check for name in names for check in suites.select(name=name)]
    return tuple(check for check in suites.checks if check in chosen)


def listed(suites: Suites, checks: Sequence[Check]) -> list[dict[str, Any]]:
    """``checks`` for a machine: name, suite, title, and the faults that turn each red."""
    return [
        {
            "name": check.name,
            "suite": check.suite,
            "title": check.title,
            "needs": asdict(check.needs),
            "faults": [fault.description for fault in suites.faults_of(check)],
        }
        for check in checks
    ]


def list_text(suites: Suites, checks: Sequence[Check]) -> str:
    """``checks`` as a person reads them."""
    lines = []
    for check in listed(suites, checks):
        lines += folded(f"{check['name']}: {check['title']}", 0)
        lines += [part for fault in check["faults"] for part in folded(f"    red when {fault}", 4)]
        if not check["faults"]:
            lines.append("    never seen red: no fault is written for it")
    return "\n".join(lines)
