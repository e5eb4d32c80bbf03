"""Prove a cluster: its checks are run, told as they come, and kept as a proof."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from hpcstate import programs
from hpcstate.check.jobs import cancel_left
from hpcstate.check.proof import Proof, configuration_digest, result_lines
from hpcstate.check.runner import run_checks
from hpcstate.check.suite import Check, CheckResult, Suites
from hpcstate.check.target import boots_of, reached
from hpcstate.model import Cluster
from hpcstate.node.ssh import Live
from hpcstate.terminal import plural

_MARKS = {"passed": "ok", "failed": "FAILED", "skipped": "skipped", "error": "ERROR"}
_WIDTH = 110
_INDENT = " " * 19
_VERSIONS = Path(__file__).with_name("versions.sh")


def prove(
    file: Path,
    cluster: Cluster,
    suites: Suites,
    checks: Sequence[Check],
    *,
    say: Callable[[str], None],
    tell: Callable[[CheckResult], None] | None = None,
    remember: Path | None = None,
    last_failed: bool = False,
    junit: Path | None = None,
) -> Proof:
    """Run ``checks`` on ``cluster``, telling ``say`` how it goes and ``tell`` each result (``say`` in full,
    unless given), and return what came of it: complete when these were all of ``suites``. The other
    arguments are those of :func:`hpcstate.check.runner.run_checks`.

    Raises HpcstateError when the controller does not answer: then nothing can be checked.
    """
    began = time.monotonic()
    logins = sum(node.role == "login" for node in cluster.nodes)
    words = [cluster.controller.name, plural(len(cluster.workers), "compute node")]
    words += [plural(logins, "login node")] if logins else []
    say(f"Checking cluster {cluster.name}: {', '.join(words[:-1])} and {words[-1]}")
    with reached(cluster, say) as live:
        if cluster.kind == "hpc" and (jobs := cancel_left(live)):
            say(f"cancelled what a killed run of the checks had left waiting: job {', '.join(jobs)}")
        versions, boots = versions_of(live), boots_of(live)
        results = run_checks(
            checks,
            live,
            tell or (lambda result: say(result_text(result))),
            remember=remember,
            last_failed=last_failed,
            junit=junit,
        )
    return Proof(
        cluster=cluster.name,
        file=str(file),
        when=datetime.now().astimezone(),
        configuration=configuration_digest(cluster),
        complete={result.name for result in results} >= {check.name for check in suites.checks},
        seconds=time.monotonic() - began,
        results=results,
        versions=versions,
        boots=boots,
    )


def versions_of(live: Live) -> dict[str, str]:
    """What the controller runs, and what checks it, by name."""
    answer = live.run(live.cluster.controller.name, programs.command(_VERSIONS), check=False)
    rows = (line.partition("\t")[::2] for line in answer.stdout.splitlines() if "\t" in line)
    return {"hpcstate": version("hpcstate"), **dict(rows)}


def result_text(result: CheckResult) -> str:
    """One result as a person reads it: mark, duration, name and title, and below what was seen."""
    lines = [f"  {_MARKS[result.outcome]:<7} {result.seconds:5.1f} s  {result.name}: {result.title}"]
    for label, text in result_lines(result):
        lines += textwrap.wrap(
            f"{label}: {text}" if label else text,
            _WIDTH,
            initial_indent=_INDENT,
            subsequent_indent=f"{_INDENT}  ",
        )
    return "\n".join(lines)
