"""Every row of docs/drift.md on a live cluster: broken by hand, it is mended, named, or stops its node."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcstate.model import Cluster
from hpcstate.node.managed import Managed
from hpcstate.node.ssh import Live
from operations.util.managed import ROWS
from tests.lab.conftest import pyinfra, results
from tests.lab.drifts import BREAKS, ORDER, Break

TRIED = {row.key: row for row in ROWS if not row.needs}
AT_ONCE = [key for key in ORDER if TRIED[key].then != "stops"]


@pytest.fixture(scope="module")
def live(deployed: None, cluster: Cluster) -> Iterator[Live]:
    """One set of connections for all drifts."""
    with Live(cluster) as live:
        assert not live.reach()
        yield live


def is_sound(live: Live, drift: Break) -> bool:
    return live.run(drift.node, drift.sound, user="root", check=False).code == 0


@pytest.fixture(scope="module")
def broken(live: Live) -> Iterator[dict[str, bool]]:
    """All drifts at once, and whether each can be seen; undone at the end where a deploy leaves them."""
    try:
        for key in AT_ONCE:
            live.run(BREAKS[key].node, BREAKS[key].do, user="root", timeout=120)
        yield {key: not is_sound(live, BREAKS[key]) for key in AT_ONCE}
    finally:
        for key in AT_ONCE:
            if BREAKS[key].undo:
                live.run(BREAKS[key].node, BREAKS[key].undo, user="root", check=False, timeout=120)


@pytest.fixture(scope="module")
def deploy(broken: dict[str, bool], cluster_file: Path) -> subprocess.CompletedProcess[str]:
    """One deploy on all of them."""
    return pyinfra(cluster_file, "--json", "-y")


@pytest.mark.parametrize("row", [TRIED[key] for key in AT_ONCE], ids=lambda row: row.key)
def test_a_drift_is_mended_or_named(
    row: Managed, broken: dict[str, bool], deploy: subprocess.CompletedProcess[str], live: Live
) -> None:
    assert deploy.returncode == 0, deploy.stderr[-3000:]
    drift = BREAKS[row.key]
    assert broken[row.key], "it was not broken: this proves nothing"
    if row.then == "mended":
        assert is_sound(live, drift)
    else:
        said = [
            line for line in deploy.stderr.splitlines() if "left as it is: " in line and drift.said in line
        ]
        assert said, deploy.stderr[-3000:]
        assert drift.node in said[0]
        assert not is_sound(live, drift)


def test_the_second_deploy_changes_nothing(
    deploy: subprocess.CompletedProcess[str], cluster_file: Path
) -> None:
    assert deploy.returncode == 0
    again = pyinfra(cluster_file, "--json", "-y")
    assert (again.returncode, results(again.stdout)) == (0, {})


@pytest.mark.parametrize("key", [key for key in ORDER if TRIED[key].then == "stops"])
def test_a_drift_that_stops_its_node(key: str, live: Live, cluster_file: Path) -> None:
    drift = BREAKS[key]
    assert is_sound(live, drift)
    live.run(drift.node, drift.do, user="root")
    try:
        done = pyinfra(cluster_file, "--json", "-y")
        assert done.returncode != 0
        assert drift.said in done.stderr
    finally:
        live.run(drift.node, drift.undo, user="root")
        assert pyinfra(cluster_file, "-y").returncode == 0


@pytest.mark.parametrize("unit", ["munge", "slurmd"])
def test_a_daemon_that_crashed_starts_again(unit: str, live: Live) -> None:
    node = live.workers[-1].name
    pid = "systemctl show --property=MainPID --value"
    before = live.run(node, f"{pid} {unit}", user="root").stdout.strip()
    live.run(node, f"kill -SEGV {before}", user="root")
    live.run(
        node,
        f'until systemctl --quiet is-active {unit} && [ "$({pid} {unit})" != {before} ]; do sleep 1; done',
        user="root",
        timeout=90,
    )
