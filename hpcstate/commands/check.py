"""``hpcstate check``: prove on the live cluster that it does what its file says."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcstate import schema
from hpcstate.cli import OK
from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster, Description

if TYPE_CHECKING:
    from hpcstate.check.proof import Proof
    from hpcstate.check.runner import Check, CheckResult, Suites

_MARKS = {"passed": "ok", "failed": "FAILED", "skipped": "skipped", "error": "ERROR"}
_WIDTH = 110
_INDENT = " " * 19


def register(subparsers: Any) -> None:
    """Add ``check``."""
    parser = subparsers.add_parser(
        "check",
        help="prove on the running cluster that it does what its file says",
        description="Run the checks of tests/suites on the running cluster. A run of all of them is kept in "
        "build/<cluster>/proof.json. Exit codes: 0 all passed (or skipped, with the reason), 1 a check "
        "failed, 2 the checks could not be made.",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="the cluster file")
    parser.add_argument("--suite", metavar="NAME", default="", help="only the checks of this suite")
    parser.add_argument("--check", metavar="NAME", default="", help="only this check (suite.name)")
    parser.add_argument("--json", action="store_true", help="print JSON; the progress goes to standard error")
    parser.add_argument("--list", action="store_true", help="list the checks and their faults, run nothing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the checks that were asked for, on the Slurm cluster of the file."""
    from hpcstate.check.proof import summary, write_proof
    from hpcstate.check.runner import exit_code, load_suites
    from hpcstate.paths import ClusterPaths

    suites = load_suites()
    checks = suites.select(args.suite, args.check)
    if args.list:
        print(json.dumps(listed(suites, checks), indent=2) if args.json else list_text(suites, checks))
        return OK
    description = schema.load(args.file)
    cluster = slurm_cluster(description)
    out = sys.stderr if args.json else sys.stdout
    # An exit runs what ends the checks' jobs and connections; the signal alone would leave them behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    def say(text: str) -> None:
        print(text, file=out, flush=True)

    proof = prove(description.path, cluster, checks, complete=checks == suites.checks, say=say)
    say(summary(proof.results, proof.seconds))
    if proof.complete:
        write_proof(proof, ClusterPaths.of(cluster.name).proof)
    if args.json:
        print(json.dumps(proof.to_json(), indent=2))
    return exit_code(proof.results)


def slurm_cluster(description: Description) -> Cluster:
    """The hpc cluster of the file; raises HpcstateError when it has none."""
    cluster = description.cluster("hpc")
    if cluster is None:
        raise HpcstateError(
            "the file describes no Slurm cluster, and the checks are those of one",
            where=str(description.path),
            hint="a Slurm cluster is described under clusters.hpc",
        )
    return cluster


def prove(
    file: Path, cluster: Cluster, checks: Sequence[Check], *, complete: bool, say: Callable[[str], None]
) -> Proof:
    """Run ``checks`` on ``cluster``, telling ``say`` how it goes, and return what came of it.

    ``complete`` is whether these are all checks there are. Raises HpcstateError when the controller does not
    answer: then nothing can be checked.
    """
    from hpcstate.check.proof import Proof, configuration_digest
    from hpcstate.check.runner import run_checks
    from hpcstate.node.ssh import Live

    began = time.monotonic()
    compute = sum(node is not cluster.controller for node in cluster.nodes)
    say(f"Checking cluster {cluster.name}: {cluster.controller.name} and {compute} compute nodes")
    with Live(cluster) as live:
        dead = live.reach()
        if cluster.controller.name in dead:
            raise dead[cluster.controller.name]
        for name, error in dead.items():
            left_out = all(node.name != name for node in live.nodes)
            say(f"  {name}: " + ("left out, not started (auto_start: false)" if left_out else error.message))
        results = run_checks(checks, live, lambda result: say(result_text(result)))
    return Proof(
        cluster=cluster.name,
        file=str(file),
        when=datetime.now().astimezone(),
        configuration=configuration_digest(cluster),
        complete=complete,
        seconds=time.monotonic() - began,
        results=results,
    )


def result_text(result: CheckResult) -> str:
    """One result as a person reads it: mark, duration, name and title, and below what was seen."""
    lines = [f"  {_MARKS[result.outcome]:<7} {result.seconds:5.1f} s  {result.name}: {result.title}"]
    below = {
        "passed": (("", result.observed),),
        "skipped": (("why: ", result.reason),),
        "error": (("why: ", result.reason), ("next: ", result.hint)),
        "failed": (
            ("expected: ", result.expected),
            ("observed: ", result.observed),
            ("next: ", result.hint),
        ),
    }[result.outcome]
    for label, text in below:
        if text:
            lines += textwrap.wrap(
                label + text, _WIDTH, initial_indent=_INDENT, subsequent_indent=f"{_INDENT}  "
            )
    return "\n".join(lines)


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
