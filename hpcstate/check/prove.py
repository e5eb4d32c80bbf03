"""Prove a cluster: its checks are run, told as they come, and kept as a proof."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from hpcstate.check.proof import Proof, configuration_digest
from hpcstate.check.runner import Check, CheckResult, run_checks
from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster, Description
from hpcstate.node.ssh import Live

_MARKS = {"passed": "ok", "failed": "FAILED", "skipped": "skipped", "error": "ERROR"}
_WIDTH = 110
_INDENT = " " * 19


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
