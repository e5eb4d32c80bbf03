"""A cluster that is watched: it comes, the checks pass, an alert reaches somebody and clears, it goes.
The long lab. Never run yet.

HPCSTATE_LAB_DEBS names a folder with the packages of trixie that hpcstate.monitoring.places lists, and all
that they need. Without it this is skipped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from hpcstate import schema
from hpcstate.check.runner import load_suites, run_checks
from hpcstate.check.suite import Fault
from hpcstate.model import Cluster, Description
from hpcstate.monitoring import foreign, places
from hpcstate.node.ssh import Live
from tests.lab.conftest import outcomes, pyinfra, results
from tests.lab.mirror import DEBS, GATEWAY, mirror
from tests.suites.prometheus import ask

HOOK = 8098
ON = f"""    monitoring:
      enabled: true
      interval_s: 10
      gpus: true
      dashboards: true
      receivers:
        - webhook: http://{GATEWAY}:{HOOK}/alerts
"""
BEFORE = "    slurm_config:"
MINUTES = 10
"""How long an alert may take: SlurmdDown waits two minutes, Alertmanager's groups half of one, and what has
ended is told after five (group_interval)."""

__all__ = ["mirror"]
pytestmark = pytest.mark.skipif(not DEBS, reason="HPCSTATE_LAB_DEBS names no folder of packages")


@pytest.fixture(scope="module")
def live(deployed: None, cluster: Cluster) -> Iterator[Live]:
    with Live(cluster) as live:
        yield live


@pytest.fixture(scope="module")
def told() -> Iterator[list[tuple[str, str, str]]]:
    """Status, name and instance of each alert that the receiver got."""
    found: list[tuple[str, str, str]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            for each in json.loads(self.rfile.read(int(self.headers["Content-Length"])))["alerts"]:
                labels = each["labels"]
                found.append((each["status"], labels["alertname"], labels.get("instance", "")))
            self.send_response(200)
            self.end_headers()

    server = ThreadingHTTPServer((GATEWAY, HOOK), Receiver)
    Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()


@pytest.fixture(scope="module")
def watched(mirror: None, told: object, description: Description) -> Iterator[Path]:
    """The cluster file with monitoring on, deployed; put back and deployed again at the end."""
    text = description.path.read_text()
    assert text.count(BEFORE) == 1
    description.path.write_text(text.replace(BEFORE, ON + BEFORE))
    try:
        done = pyinfra(description.path, "-y")
        assert done.returncode == 0, done.stderr[-3000:]
        yield description.path
    finally:
        description.path.write_text(text)
        assert pyinfra(description.path, "-y").returncode == 0


def wait(done: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + 60 * MINUTES
    while not done():
        assert time.monotonic() < limit, what
        time.sleep(5)


def test_a_second_deploy_changes_nothing(watched: Path) -> None:
    again = pyinfra(watched, "--json", "-y")
    assert (again.returncode, results(again.stdout)) == (0, {})


def test_the_checks_pass(live: Live, watched: Path) -> None:
    cluster = schema.load(watched).clusters[0]
    with Live(cluster) as now:
        found = outcomes(run_checks(load_suites().select(suite="monitoring"), now, print))
    assert all(each.startswith("passed") for each in found.values()), found


OWN = [each for each in load_suites().faults if all(name.startswith("monitoring.") for name in each.checks)]


@pytest.mark.parametrize("fault", OWN, ids=lambda fault: fault.description)
def test_each_check_of_a_fault_fails_on_it(fault: Fault, watched: Path) -> None:
    """Never run yet. The file of the other faults has no monitoring (test_3_faults.py)."""
    cluster = schema.load(watched).clusters[0]
    with Live(cluster) as now:
        checks = load_suites().proven_by(fault, now.workers)
        assert checks
        with fault.injected(now):
            broken = run_checks(checks, now, print)
        assert {result.outcome for result in broken} == {"failed"}, outcomes(broken)
        mended = run_checks(checks, now, print)
        assert {result.outcome for result in mended} == {"passed"}, outcomes(mended)


def test_a_stopped_slurmd_is_told_and_so_is_its_end(
    live: Live, watched: Path, told: list[tuple[str, str, str]]
) -> None:
    alert = ("SlurmdDown", "compute-02")
    live.run("compute-02", "systemctl stop slurmd", user="root")
    try:
        wait(lambda: ("firing", *alert) in told, f"no alert: {told}")
    finally:
        live.run("compute-02", "systemctl start slurmd", user="root")
    wait(lambda: ("resolved", *alert) in told, f"it does not clear: {told}")


def test_simulated_gpus_are_told_and_marked(live: Live, watched: Path) -> None:
    """Never run yet."""
    cluster = schema.load(watched).clusters[0]
    expected = {
        (node.name, str(gpu)) for node in cluster.workers for gpu in range(places.simulated_gpus(node))
    }
    assert expected

    def told() -> bool:
        with Live(cluster) as now:
            rows = ask(now, 'DCGM_FI_DEV_GPU_UTIL{simulated="true"}')
        return {(row.labels["instance"], row.labels["gpu"]) for row in rows} == expected

    wait(told, "simulated GPUs are not told")


def test_each_panel_has_data(live: Live, watched: Path) -> None:
    """Of the dashboards as they lie on the controller, by its Prometheus. Never run yet. A real GPU's need
    one, and the last backup's needs a backup."""
    cluster = schema.load(watched).clusters[0]
    folder = places.DASHBOARDS
    names = live.run("controller", f"ls {folder}").stdout.split()
    assert len(names) == len(foreign.DASHBOARD_NAMES)
    empty = []
    with Live(cluster) as now:
        for name in (each for each in names if "gpu" not in each and "job" not in each):
            board = json.loads(now.run("controller", f"cat {folder}/{name}").stdout)
            for panel in (each for each in board["panels"] if each["type"] != "row"):
                for target in panel["targets"]:
                    query = target["expr"].replace("$__rate_interval", "1m")
                    query = query.replace("$node", ".*")
                    if not ask(now, query):
                        empty.append(f"{name}: {panel['title']}: {query}")
    # Nothing fires, nobody is drained, nobody has a job, where all is well.
    allowed = ("ALERTS", "drained_since", "> 0", "backup_taken")
    assert [each for each in empty if not any(word in each for word in allowed)] == []


def test_what_watches_is_small(live: Live, watched: Path) -> None:
    """Issue 20: under 150 MiB on a compute node, when idle. PSS, in KiB."""
    units = " ".join(each.unit for each in (places.NODE, places.PROCESS, places.JOBS, places.GPUS))
    ask = (
        f"for unit in {units}; do cat /proc/$(systemctl show --value -p MainPID $unit)/smaps_rollup; done "
        "| awk '/^Pss:/ {sum += $2} END {print sum}'"
    )
    assert 0 < int(live.run("compute-01", ask, user="root").stdout) < 150 * 1024


def test_off_leaves_no_trace(live: Live, description: Description, watched: Path) -> None:
    text = watched.read_text()
    watched.write_text(text.replace(ON, ""))
    try:
        assert pyinfra(watched, "-y").returncode == 0
        folders = (places.FOLDER, places.EXPORTERS, places.DATA, places.ALERTS_DATA, places.DASHBOARDS)
        paths = " ".join(folders)
        ports = "|".join(str(each.port) for each in places.ALL)
        for name in ("controller", "compute-01", "compute-02"):
            found = live.run(name, f"ls -d {paths} 2>/dev/null", user="root", check=False).stdout
            assert found == "", (name, found)
            listening = live.run(name, f"ss -Hltn | grep -E ':({ports}) '", user="root", check=False).stdout
            assert listening == "", (name, listening)
            left = live.run(name, "ls /etc/systemd/system/prometheus*.d 2>/dev/null", check=False).stdout
            assert left == "", (name, left)
    finally:
        watched.write_text(text)
