"""The next step of a check, done word by word, turns it green. The long lab: a deploy for each fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcstate.check.runner import load_suites, run_checks
from hpcstate.check.suite import Fault
from hpcstate.node.ssh import Live
from tests.lab.conftest import outcomes, pyinfra

AGAIN = "deploy again"

SUITES = load_suites()
MENDED_BY_A_DEPLOY = [
    fault
    for fault in SUITES.faults
    if any(
        AGAIN in check.file.read_text() or "DEPLOY_AGAIN" in check.file.read_text()
        for check in SUITES.checks
        if check.name in fault.checks
    )
]


@pytest.mark.parametrize("fault", MENDED_BY_A_DEPLOY, ids=lambda fault: fault.description)
def test_the_next_step_of_a_check_turns_it_green(fault: Fault, live: Live, cluster_file: Path) -> None:
    """A check that says "deploy again" is mended by it: there is no circle."""
    checks = SUITES.proven_by(fault, live.workers, live.cluster.containers.deploy)
    if not checks:
        pytest.skip("none of its checks can be made on these nodes")
    with fault.injected(live):
        said = {result.name for result in run_checks(checks, live, lambda _: None) if AGAIN in result.hint}
        if said:
            assert pyinfra(cluster_file, "-y").returncode == 0
            again = [check for check in checks if check.name in said]
            after = run_checks(again, live, lambda _: None)
            assert {result.outcome for result in after} == {"passed"}, outcomes(after)
