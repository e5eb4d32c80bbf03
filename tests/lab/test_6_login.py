"""A login node on a living cluster: added, used as a person does, broken, removed. The long lab."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcstate import schema
from hpcstate.check.runner import load_suites, run_checks
from hpcstate.check.suite import Fault
from hpcstate.model import Cluster
from hpcstate.node.base_files import CLOSED
from hpcstate.node.ssh import Live
from tests.lab.conftest import hpcstate, outcomes, pyinfra, results
from tests.suites.login import login

NODE = "login-01"
SUITES = load_suites()


def deploy(file: Path) -> None:
    done = pyinfra(file, "--json", "-y")
    assert done.returncode == 0, done.stderr[-3000:]
    again = pyinfra(file, "--json", "-y")
    assert (again.returncode, results(again.stdout)) == (0, {}), "a second deploy changes something"


def ok(*words: str) -> str:
    done = hpcstate(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def with_login_node(deployed: None, cluster: Cluster, cluster_file: Path) -> Iterator[Cluster]:
    """The lab's cluster has a login node while these tests run; then it is removed, and people are let in on
    the controller again."""
    before = cluster_file.read_text()
    file = str(cluster_file)
    try:
        cluster_file.write_text(f"{before}    login_nodes: [{{}}]\n")
        plan = hpcstate("plan", file)
        assert f"lab-{NODE}" in plan.stdout, plan.stdout + plan.stderr
        ok("start", file)
        deploy(cluster_file)
        found = schema.load(cluster_file).cluster("hpc")
        assert found and found.nodes[: len(cluster.nodes)] == cluster.nodes
        yield found
    finally:
        cluster_file.write_text(before)
        ok("start", file, "--remove", "--force")
        deploy(cluster_file)
    with Live(cluster) as live:
        there = login(live, cluster.controller, "id -un")
        assert there.stdout.strip() == "hpc", there.stderr


def test_a_person_works_there(with_login_node: Cluster) -> None:
    """All checks that take a person's way, and those of daemons, homes and mounts."""
    wanted = [
        check
        for check in SUITES.checks
        if check.suite in ("users", "first-day", "storage", "environment")
        or check.name in ("nodes.configuration", "nodes.daemons", "nodes.munge", "nodes.clocks")
    ]
    with Live(with_login_node) as live:
        live.reach()
        bad = [each for each in run_checks(wanted, live, lambda _: None) if each.outcome != "passed"]
    assert not bad, outcomes(bad)


def test_slurm_knows_no_such_node_and_it_has_no_daemon(with_login_node: Cluster) -> None:
    with Live(with_login_node) as live:
        assert NODE not in live.run(NODE, "sinfo --noheader --Node --format=%N").stdout.split()
        active = live.run(NODE, "systemctl is-active slurmd slurmctld slurmdbd mariadb", check=False)
        assert set(active.stdout.split()) == {"inactive"}
        refused = login(live, with_login_node.controller, "true")
        assert refused.code != 0 and f"{CLOSED} {NODE}" in refused.stderr
        said = login(live, live.node(NODE), "sacct --allusers --noheader --format=JobID | head -n 1; sinfo")
        assert said.code == 0, said.stderr


@pytest.mark.parametrize(
    "fault",
    [fault for fault in SUITES.faults if set(fault.checks) & {"users.login_node", "first-day.motd"}],
    ids=lambda fault: fault.description,
)
def test_its_faults_are_seen(fault: Fault, with_login_node: Cluster) -> None:
    with Live(with_login_node) as live:
        live.reach()
        checks = SUITES.proven_by(fault, live.workers, ())
        with fault.injected(live):
            broken = run_checks(checks, live, lambda _: None)
    assert {result.outcome for result in broken} == {"failed"}, outcomes(broken)


def test_it_goes_off_and_on_and_is_what_it_was(with_login_node: Cluster, cluster_file: Path) -> None:
    ok("stop", str(cluster_file), "--node", NODE)
    ok("start", str(cluster_file))
    done = pyinfra(cluster_file, "--json", "-y")
    assert (done.returncode, results(done.stdout)) == (0, {}), done.stderr[-3000:]
