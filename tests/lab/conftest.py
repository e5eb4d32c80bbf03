"""One cluster of real virtual machines for all lab tests, in a network namespace of its own (enter.sh).

The modules run in the order of their names: what they need from each other is the cluster's life.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import pytest

from hpcstate import schema
from hpcstate.check.suite import CheckResult
from hpcstate.errors import HpcstateError
from hpcstate.hypervisor.daemon import end_daemon
from hpcstate.model import Cluster, Description
from hpcstate.node.ssh import Live
from hpcstate.paths import ROOT, ClusterPaths
from hpcstate.tasks.stages import LAB_CONTAINERS

HERE = Path(__file__).parent
CLUSTER_FILE = HERE / "cluster.yaml"

ON_THE_VOLUME = "      scratch: nfs\n      home_quota_gb: 2\n"
"""What the file has that needs homes on the controller's data volume."""

LONG = "HPCSTATE_LAB_LONG"
"""The variable that asks for the long lab, also: what takes more time than a run of all tests has."""

collect_ignore = [] if os.environ.get(LONG) else [path.name for path in HERE.glob("test_6_*.py")]


def pytest_sessionstart() -> None:
    """These tests start machines and daemons: only inside the lab, where they reach nothing else."""
    if os.environ.get("HPCSTATE_LAB") != "inside":
        pytest.exit("the lab tests run through `./hpc test:lab` (as root)", returncode=2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a failed test left on the nodes is not the next one's: its jobs end, and its drains and a roll's
    reservations are lifted before its fixtures deploy what they put back.
    """
    report = yield
    live = getattr(item, "funcargs", {}).get("live")
    if report.when == "call" and report.failed and live is not None:
        try:
            live.run(live.cluster.controller.name, RECOVER, user="root", timeout=120)
        except HpcstateError as error:
            report.sections.append(("the nodes after the failure", str(error)))
    return report


RECOVER = """
scancel --user=hpc
for node in $(sinfo --noheader --Node --states=drain,down --format=%N | sort -u); do
    scontrol update NodeName="$node" State=RESUME
done
for reservation in $(scontrol --oneliner show reservations | grep -o "hpcstate-roll-[^ ]*"); do
    scontrol delete ReservationName="$reservation"
done
"""


@pytest.fixture(scope="session")
def cluster_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the cluster file, so that tests may change it, with the containers that were asked for."""
    file = tmp_path_factory.mktemp("lab") / "lab.yaml"
    file.write_text(CLUSTER_FILE.read_text() + containers_text(os.environ.get(LAB_CONTAINERS, "")))
    return file


def containers_text(names: str) -> str:
    """What declares the containers ``names`` (separated by commas) at the end of the cluster file."""
    return f"    containers:\n      deploy: [{names}]\n" if names else ""


@pytest.fixture(scope="session")
def description(cluster_file: Path) -> Description:
    return schema.load(cluster_file)


@pytest.fixture(scope="session")
def cluster(description: Description) -> Iterator[Cluster]:
    """The lab's cluster, deployed; destroyed at the end, with the daemons it needed."""
    cluster = description.clusters[0]
    shutil.rmtree(ClusterPaths.of(cluster.name).root, ignore_errors=True)
    yield cluster
    hpcstate("destroy", str(description.path), "--force", "--secrets", "--data")
    end_daemon(print)


@pytest.fixture(scope="session")
def started(cluster: Cluster, description: Description) -> str:
    """The output of the first `hpcstate start`."""
    done = hpcstate("start", str(description.path))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def deployed(started: str, description: Description) -> None:
    """The full stack on the lab's nodes."""
    done = pyinfra(description.path, "-y")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def live(deployed: None, cluster: Cluster) -> Iterator[Live]:
    with Live(cluster) as live:
        yield live


def hpcstate(*words: str) -> subprocess.CompletedProcess[str]:
    """The command, as a user runs it."""
    return run_shown([sys.executable, "-m", "hpcstate", *words])


def pyinfra(
    file: Path, *words: str, deploy: str = "deploys/full_stack.py"
) -> subprocess.CompletedProcess[str]:
    """pyinfra on the cluster of ``file``, as a user runs it."""
    environment = {**os.environ, "HPCSTATE_CLUSTER_FILE": str(file), "PYINFRA_PROGRESS": "off"}
    program = str(Path(sys.executable).with_name("pyinfra"))
    return run_shown([program, *words, "inventories/chosen.py", deploy], environment)


def results(output: str) -> dict[str, set[str]]:
    """The operations of a `pyinfra --json` that changed something: name to hosts."""
    rows = json.loads(output)["results"]["operations"]
    return {row["name"]: set(row["success"]) for row in rows if row["success"]}


def outcomes(results: Sequence[CheckResult]) -> dict[str, str]:
    """Outcome by name, and what was seen where that explains it."""
    return {result.name: f"{result.outcome}: {result.observed or result.reason}" for result in results}


def run_shown(
    words: list[str], environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``words`` from the project's root and print what they said, for the report of a failed test."""
    print("+", " ".join(words), flush=True)
    done = subprocess.run(
        words,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout, done.stderr, sep="\n", flush=True)
    return done
