"""Each check of a live cluster passes, fails while one of its faults is in the cluster, and passes again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hpcstate.check import Check, CheckResult, Fault, load_suites, run_check, run_checks
from hpcstate.live import Live
from hpcstate.model import Cluster

SUITES = load_suites()


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


@pytest.mark.parametrize("one", SUITES.checks, ids=lambda one: one.name)
def test_the_sound_cluster_passes(one: Check, before: dict[str, CheckResult], live: Live) -> None:
    expected = "skipped" if one.needs.missing(live.workers) else "passed"
    assert before[one.name].outcome == expected, before[one.name]


@pytest.mark.parametrize("fault", SUITES.faults, ids=lambda fault: f"{fault.check.name}, {fault.description}")
def test_a_check_fails_on_its_fault(fault: Fault, before: dict[str, CheckResult], live: Live) -> None:
    missing = fault.missing(live.workers)
    if missing:
        pytest.skip(missing)
    assert before[fault.check.name].outcome == "passed", before[fault.check.name]
    with fault.injected(live):
        broken = run_check(fault.check, live)
    mended = run_check(fault.check, live)
    assert broken.outcome == "failed", broken
    assert mended.outcome == "passed", mended
