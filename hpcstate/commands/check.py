"""``hpcstate check``: prove on the live cluster that it does what its file says."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hpcstate.cli import OK
from hpcstate.commands.arguments import add_cluster_file

if TYPE_CHECKING:
    from hpcstate.check.runner import Check, Suites


def register(subparsers: Any) -> None:
    """Add ``check``."""
    parser = subparsers.add_parser(
        "check",
        help="prove on the running cluster that it does what its file says",
        description="Run the checks of tests/suites on the running cluster. A run of all of them is kept in "
        "build/<cluster>/proof.json. Exit codes: 0 all passed (or skipped, with the reason), 1 a check "
        "failed, 2 the checks could not be made.",
    )
    add_cluster_file(parser)
    parser.add_argument("--suite", metavar="NAME", default="", help="only the checks of this suite")
    parser.add_argument("--check", metavar="NAME", default="", help="only this check (suite.name)")
    parser.add_argument("--json", action="store_true", help="print JSON; the progress goes to standard error")
    parser.add_argument("--list", action="store_true", help="list the checks and their faults, run nothing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the checks that were asked for, on the Slurm cluster of the file."""
    from hpcstate.check.proof import summary, write_proof
    from hpcstate.check.prove import prove, slurm_cluster
    from hpcstate.check.runner import exit_code, load_suites
    from hpcstate.paths import ClusterPaths
    from hpcstate.schema import load

    suites = load_suites()
    checks = suites.select(args.suite, args.check)
    if args.list:
        print(json.dumps(listed(suites, checks), indent=2) if args.json else list_text(suites, checks))
        return OK
    description = load(args.file)
    cluster = slurm_cluster(description)
    out = sys.stderr if args.json else sys.stdout

    def say(text: str) -> None:
        print(text, file=out, flush=True)

    proof = prove(description.path, cluster, checks, complete=checks == suites.checks, say=say)
    say(summary(proof.results, proof.seconds))
    if proof.complete:
        write_proof(proof, ClusterPaths.of(cluster.name).proof)
    if args.json:
        print(json.dumps(proof.to_json(), indent=2))
    return exit_code(proof.results)


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
        lines.append(f"{check['name']}: {check['title']}")
        lines += [f"    red when {fault}" for fault in check["faults"]]
    return "\n".join(lines)
