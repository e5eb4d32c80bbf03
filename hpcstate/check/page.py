"""The page of a proof: what was checked, what was seen, what was skipped and why, for somebody who was not
there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcstate.check.proof import OUTCOMES, Proof, counted, result_lines
from hpcstate.check.suite import CheckResult, Suites
from hpcstate.files import write_atomically
from hpcstate.model import Cluster
from hpcstate.render import render
from hpcstate.terminal import plural

TEMPLATE = "check/page.html.j2"


@dataclass(frozen=True)
class SuiteResults:
    """What became of the checks of one suite, in their order."""

    name: str
    results: tuple[CheckResult, ...]

    @property
    def outcome(self) -> str:
        """The worst outcome of its checks: failed, error, passed; skipped where all of them were."""
        found = {result.outcome for result in self.results}
        return next(outcome for outcome in ("failed", "error", "passed", "skipped") if outcome in found)

    @property
    def counts(self) -> str:
        """``13 passed, 2 skipped``."""
        return counted(result.outcome for result in self.results)


def by_suite(results: Sequence[CheckResult]) -> tuple[SuiteResults, ...]:
    """``results`` by suite, in the order in which the suites were run."""
    suites: dict[str, list[CheckResult]] = {}
    for result in results:
        suites.setdefault(result.name.partition(".")[0], []).append(result)
    return tuple(SuiteResults(name, tuple(found)) for name, found in suites.items())


def reasons(results: Sequence[CheckResult]) -> list[tuple[str, int]]:
    """Why checks were skipped, and how many for each reason, the most first."""
    return Counter(result.reason for result in results if result.outcome == "skipped").most_common()


def page(proof: Proof, cluster: Cluster, suites: Suites) -> str:
    """The page: HTML that needs no other file."""
    outcome = SuiteResults("", proof.results).outcome
    bad = proof.count("failed") + proof.count("error")
    checks = plural(len(proof.results) - proof.count("skipped"), "check")
    minutes, seconds = divmod(round(proof.seconds), 60)
    return render(
        TEMPLATE,
        proof=proof,
        outcome=outcome,
        verdict=f"{bad} of {checks} did not pass" if bad else f"All {checks} passed",
        duration=f"{minutes} min {seconds} s" if minutes else f"{seconds} s",
        words=OUTCOMES,
        suites=by_suite(proof.results),
        reasons=reasons(proof.results),
        faults={
            check.name: [fault.description for fault in suites.faults_of(check)] for check in suites.checks
        },
        nodes=cluster.nodes,
        result_lines=result_lines,
    )


def write_page(proof: Proof, cluster: Cluster, suites: Suites, path: Path) -> None:
    """Write the page to ``path`` in one step."""
    write_atomically(path, page(proof, cluster, suites))
