"""The container that a dead node delayed, in the cluster file too: a model is trained in it on two nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcstate import schema
from hpcstate.check import Fault, load_suites, run_checks
from hpcstate.live import Live
from tests.lab.conftest import outcomes
from tests.lab.test_4_dead_node import CONTAINER

SUITES = load_suites()
CHECKS = tuple(one for one in SUITES.checks if CONTAINER in one.needs.containers)
FAULTS = tuple(one for one in SUITES.faults if set(one.checks) & {check.name for check in CHECKS})


@pytest.fixture(scope="module")
def live(deployed: None, cluster_file: Path) -> Iterator[Live]:
    """The cluster of a file that deploys this container as well."""
    text = cluster_file.read_text()
    both = text.replace("deploy: [mpi-minimal]", f"deploy: [mpi-minimal, {CONTAINER}]")
    assert both != text
    cluster_file.write_text(both)
    with Live(schema.load(cluster_file).clusters[0]) as live:
        assert not live.reach()
        yield live


def test_the_checks_of_training_pass(live: Live) -> None:
    """One job for all: under software emulation the import of PyTorch alone takes more than a minute."""
    results = run_checks(CHECKS, live, print)
    assert len(results) >= 3
    assert {one.outcome for one in results} == {"passed"}, outcomes(results)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.description)
def test_each_of_them_fails_on_its_fault(live: Live, fault: Fault) -> None:
    with fault.injected(live):
        broken = run_checks([one for one in CHECKS if one.name in fault.checks], live, print)
    assert {one.outcome for one in broken} == {"failed"}, outcomes(broken)
