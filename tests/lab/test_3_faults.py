"""Each check of a live cluster passes, fails while one of its faults is in the cluster, and passes again.

A run of checks begins with nothing known (tests/suites/conftest.py): what is seen of the broken cluster
is seen while it is broken.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcstate import schema
from hpcstate.check.prove import result_text
from hpcstate.check.runner import load_suites, run_checks
from hpcstate.check.suite import Check, CheckResult, Fault
from hpcstate.model import Cluster
from hpcstate.node.ssh import Live
from hpcstate.tasks.stages import LAB_CONTAINERS
from tests.lab.conftest import CLUSTER_FILE, LONG, outcomes, pyinfra, results

SUITES = load_suites()


def faults() -> tuple[Fault, ...]:
    """All in the long lab; else as many as turn each check red once."""
    if os.environ.get(LONG):
        return SUITES.faults
    (cluster,) = schema.load(CLUSTER_FILE).clusters
    containers = tuple(filter(None, os.environ.get(LAB_CONTAINERS, "").split(",")))
    return SUITES.a_fault_each(cluster.workers, containers)


@pytest.fixture(scope="module")
def live(deployed: None, cluster: Cluster) -> Iterator[Live]:
    """One set of connections for all faults: under software emulation a handshake costs 1 to 2 s."""
    with Live(cluster) as live:
        assert not live.reach()
        yield live


@pytest.fixture(scope="module")
def before(live: Live) -> dict[str, CheckResult]:
    """The results of all checks on the sound cluster, by name."""
    return {result.name: result for result in run_checks(SUITES.checks, live, lambda _: None)}


NOT_IN_THE_LAB = (
    "nodes.mail",
    "accounting.backup",
    "health.sound",
    "health.watched",
    "health.events",
    "users.directory",
    "users.ports",
    "monitoring.answers",
    "monitoring.jobs",
    "monitoring.gpus",
    "monitoring.closed",
)
"""What these look at is not in the lab's file: a mail server, the systemd of a workstation, a watch over the
nodes (tests/lab/test_6_health.py turns it on), a directory (test_6_directory.py), ports of the host
(test_6_changes.py), metrics (test_6_monitoring.py). Those of mail, backup, directory and ports are tried with
stand-ins, too (tests/unit/check)."""


def undeclared(result: CheckResult) -> str:
    """Why a check has nothing to look at in the lab; empty for one that has."""
    return result.reason if result.name in NOT_IN_THE_LAB else ""


@pytest.mark.parametrize("check", SUITES.checks, ids=lambda check: check.name)
def test_the_sound_cluster_passes(check: Check, before: dict[str, CheckResult], live: Live) -> None:
    seen = before[check.name]
    missing = check.needs.missing(live.workers, live.cluster.containers.deploy) or undeclared(seen)
    assert seen.outcome == ("skipped" if missing else "passed"), result_text(seen)
    if missing:
        pytest.skip(missing)


@pytest.mark.parametrize("fault", faults(), ids=lambda fault: fault.description)
def test_each_check_of_a_fault_fails_on_it(fault: Fault, before: dict[str, CheckResult], live: Live) -> None:
    checks = SUITES.proven_by(fault, live.workers, live.cluster.containers.deploy)
    if not checks:
        missing = fault.needs.missing(live.workers, live.cluster.containers.deploy)
        pytest.skip(missing or "none of its checks can be made on these nodes")
    checks = tuple(check for check in checks if not undeclared(before[check.name]))
    if not checks:
        pytest.skip("the cluster file declares nothing of what its checks look at")
    unsound = [check.name for check in checks if before[check.name].outcome != "passed"]
    assert not unsound, f"the sound cluster does not pass {', '.join(unsound)}"
    with fault.injected(live):
        broken = run_checks(checks, live, _show)
    assert {result.outcome for result in broken} == {"failed"}, outcomes(broken)


def test_mended_the_deploy_finds_nothing_to_do(
    before: dict[str, CheckResult], live: Live, cluster_file: Path
) -> None:
    """Once for all faults: what one of them left broken is something that the deploy would change."""
    done = pyinfra(cluster_file, "--json", "-y")
    assert done.returncode == 0
    assert results(done.stdout) == {}


def test_mended_the_cluster_passes_again(before: dict[str, CheckResult], live: Live) -> None:
    """What no file of the deploy shows: how the daemons run, time, network, and jobs on all nodes."""
    suites = ("nodes", "mpi", "gpu-gres") if os.environ.get(LONG) else ("nodes",)
    again = [check for check in SUITES.checks if check.suite in suites]
    after = run_checks(again, live, _show)
    assert {result.name: result.outcome for result in after} == {
        check.name: before[check.name].outcome for check in again
    }, outcomes([result for result in after if result.outcome == "failed"])


def _show(result: CheckResult) -> None:
    """For the report of a test that failed."""
    print(result_text(result), flush=True)
