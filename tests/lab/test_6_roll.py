"""A new image goes through the compute nodes while jobs run; a broken one ends at the first. The long lab."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcstate import paths, schema
from hpcstate.check.runner import load_suites, run_checks
from hpcstate.hypervisor.connection import connect
from hpcstate.hypervisor.daemon import SYSTEM_URI
from hpcstate.model import Cluster
from hpcstate.node.ssh import Live
from tests.lab.conftest import hpcstate
from tests.lab.test_6_sizes import slurm_nodes
from tests.lab.test_6_stop_under_jobs import state, wait_for


@pytest.fixture(scope="module")
def file(deployed: None, cluster_file: Path) -> Iterator[Path]:
    """The lab's file, which is as it was at the end."""
    before = cluster_file.read_text()
    yield cluster_file
    cluster_file.write_text(before)


def with_image(file: Path, image: Path) -> None:
    """The compute nodes of ``file`` are made from ``image``."""
    lines = [line for line in file.read_text().splitlines() if "image_path:" not in line]
    at = next(number for number, line in enumerate(lines) if line.strip() == "network:")
    indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
    file.write_text("\n".join([*lines[:at], f"{indent}base_image_path: {image}", *lines[at:]]) + "\n")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same image with other bytes: what follows the last cluster of a qcow2 is nothing to QEMU."""
    image = tmp_path_factory.mktemp("images") / "other.qcow2"
    shutil.copy(paths.image("hpc-base"), image)
    with image.open("ab") as stream:
        stream.write(bytes(1 << 16))
    return image


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image without anything to boot."""
    image = tmp_path_factory.mktemp("images") / "broken.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "10G"], check=True)
    return image


def disks(cluster: Cluster, name: str) -> list[str]:
    with connect(SYSTEM_URI) as host:
        return host.volumes.disks(cluster, next(node for node in cluster.nodes if node.name == name))


def disk(cluster: Cluster, name: str) -> str:
    with connect(SYSTEM_URI) as host:
        return host.disk(cluster, next(node for node in cluster.nodes if node.name == name))


def boot(live: Live, name: str) -> str:
    return live.run(name, "cat /proc/sys/kernel/random/boot_id").stdout.strip()


def submit(live: Live, name: str, seconds: int) -> str:
    words = f"sbatch --parsable --output=/dev/null -w {name} --mem=50M --wrap='sleep {seconds}'"
    job = live.run(live.cluster.controller.name, words, user="hpc").stdout.strip()
    assert wait_for(live, job, "RUNNING")
    return job


def reservations(live: Live) -> str:
    return live.run(live.cluster.controller.name, "scontrol --oneliner show reservation").stdout


def test_a_new_image_goes_through_the_nodes(live: Live, file: Path, cluster: Cluster, other: Path) -> None:
    job = submit(live, "compute-01", 40)
    waiting = submit(live, "compute-02", 500)
    controller = boot(live, cluster.controller.name)
    with_image(file, other)
    assert "controller, compute-01, compute-02: image " in hpcstate("plan", str(file)).stdout
    report = json.loads(hpcstate("roll", "status", str(file), "--json").stdout)
    assert (report["wait"], report["unfinished"]) == (["compute-01", "compute-02"], [])

    refused = hpcstate("roll", "start", str(file), "--force", "--timeout", "120")
    assert refused.returncode == 2
    assert f"job {waiting} runs on compute-02" in refused.stderr
    assert "compute-01 passed after" in refused.stdout
    assert state(live, job) == "COMPLETED", "the job was not hurt"
    assert state(live, waiting) == "RUNNING"
    live.run(cluster.controller.name, f"scancel {waiting}", user="root")
    live.run(cluster.controller.name, "scontrol update nodename=compute-02 state=resume", user="root")

    done = hpcstate("roll", "start", str(file), "--force")
    assert done.returncode == 0
    assert "removed from the storage pool" not in done.stdout, "the controller stands on the old image"
    for name in ("compute-01", "compute-02"):
        assert disks(cluster, name) == [disk(cluster, name)] != [f"{name}.qcow2"]
    assert boot(live, cluster.controller.name) == controller
    assert {name: state for name, (_, state) in slurm_nodes(live).items()} == dict.fromkeys(
        ("compute-01", "compute-02"), "idle"
    )
    assert "hpcstate-roll" not in reservations(live)
    again = hpcstate("roll", "start", str(file), "--force")
    assert (again.returncode, "nothing to do" in again.stdout) == (0, True)


def test_a_damaged_node_gets_a_new_disk_from_the_image_it_has(
    live: Live, file: Path, cluster: Cluster
) -> None:
    """What no deploy mends: a program of the image is gone."""
    (check,) = (each for each in load_suites().checks if each.name == "container-runtime.apptainer")
    second, old = boot(live, "compute-02"), disk(cluster, "compute-01")
    live.run("compute-01", "rm /usr/bin/squashfuse", user="root")
    (before,) = run_checks([check], live, lambda _: None)
    assert (before.outcome, "roll start FILE --node NAME" in before.hint) == ("failed", True)
    done = hpcstate("roll", "start", str(file), "--force", "--node", "compute-01")
    assert done.returncode == 0
    assert disks(cluster, "compute-01") == [disk(cluster, "compute-01")] != [old]
    assert boot(live, "compute-02") == second
    (after,) = run_checks([check], live, lambda _: None)
    assert after.outcome == "passed"


def test_the_controller_is_replaced_under_running_jobs(live: Live, file: Path, cluster: Cluster) -> None:
    """One job ends while there is no slurmctld, the other one runs through it."""
    short, long = submit(live, "compute-01", 60), submit(live, "compute-02", 1800)
    before, name = boot(live, cluster.controller.name), cluster.controller.name
    assert "keeps its image" in hpcstate("roll", "status", str(file)).stdout
    done = hpcstate("roll", "start", str(file), "--force", "--controller")
    assert done.returncode == 0
    assert (
        "controller: a new disk from the image of now; slurmctld stops, 2 jobs go on without it"
        in done.stdout
    )
    assert "controller passed after" in done.stdout
    assert "removed from the storage pool" in done.stdout, "nothing stands on the old image any more"
    with Live(cluster) as anew:
        assert boot(anew, name) != before
        assert disks(cluster, name) == [disk(cluster, name)] != [f"{name}.qcow2"]
        assert wait_for(anew, short, "COMPLETED"), "its step tells slurmctld every 15 s"
        assert state(anew, long) == "RUNNING"
        third = submit(anew, "compute-01", 1)
        assert int(third) > int(long)
        anew.run(name, f"scancel {long}", user="root")
        assert wait_for(anew, long, "CANCELLED")


def test_a_broken_image_ends_at_the_first(
    live: Live, file: Path, cluster: Cluster, broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = disk(cluster, "compute-01")
    second = boot(live, "compute-02")
    with_image(file, broken)
    program = (
        "import sys; from hpcstate.cluster import boot; boot.BOOT_TIMEOUT = 90.0; "
        "from hpcstate.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "roll", "start", str(file), "--force"],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 2
    assert "the image did not pass on compute-01" in done.stderr
    assert "compute-02 were not touched" in done.stderr
    assert (disk(cluster, "compute-01"), disks(cluster, "compute-01")) == (before, [before])
    assert boot(live, "compute-02") == second
    assert slurm_nodes(live)["compute-01"][1] == "idle"
    assert "hpcstate-roll" not in reservations(live)
    assert json.loads(hpcstate("roll", "status", str(file), "--json").stdout)["unfinished"] == []


KILLED = """\
import os, signal, sys
from hpcstate.cli import main
from hpcstate.cluster import disks, lifecycle, replace

def after(module, name, action=None):
    function = getattr(module, name)
    def step(*arguments, **settings):
        answer = function(*arguments, **settings)
        if action in (None, *arguments[1:2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return answer
    setattr(module, name, step)

where, name, *action = sys.argv[1].split(".")
after({"replace": replace, "lifecycle": lifecycle, "disks": disks}[where], name, *action)
main(sys.argv[2:])
"""
"""Runs hpcstate with the arguments after the first, and is killed -9 as soon as that step is done."""

STEPS = (
    "replace._trial.reserve",
    "lifecycle.stop",
    "disks.new_disks",
    "lifecycle.start",
    "replace.wait_for_slurm",
    "replace._try",
    "disks.confirm_disks",
)
"""The steps of a batch in their order."""


def test_a_roll_that_is_killed_after_each_step_goes_on(
    live: Live, file: Path, cluster: Cluster, other: Path
) -> None:
    """Somebody else drained the other node meanwhile, and a job waits for the one that is rolled."""
    third = other.with_name("third.qcow2")
    shutil.copy(other, third)
    with third.open("ab") as stream:
        stream.write(bytes(1 << 16))
    with_image(file, third)
    head = cluster.controller.name
    live.run(head, "scontrol update nodename=compute-02 state=drain reason=fan", user="root")
    old = disk(cluster, "compute-01")
    for step in STEPS:
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", KILLED, step, "roll", "start", str(file), "--force"],
            cwd=paths.ROOT,
            start_new_session=True,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        print(f"{step}: {time.monotonic() - begun:.0f} s", done.stdout, done.stderr, sep="\n")
        assert done.returncode == -signal.SIGKILL
        said = hpcstate("roll", "status", str(file)).stdout
        made = STEPS.index(step) >= STEPS.index("disks.new_disks")
        passed = step == "disks.confirm_disks"
        assert ("compute-01: a new disk that has not passed yet" in said) == (made and not passed)
        assert ("compute-01: another image" in said) == (not made)
        assert (old in disks(cluster, "compute-01")) == (not passed)
        assert "hpcstate-roll-compute-01" in reservations(live)
        if step == STEPS[0]:
            job = live.run(
                head, "sbatch --parsable -o /dev/null -w compute-01 --wrap='sleep 1'", user="hpc"
            ).stdout.strip()
        assert state(live, job) == "PENDING", "nobody's jobs start on a node that is not through"

    done = hpcstate("roll", "resume", str(file))
    assert done.returncode == 0
    assert "compute-02 keeps its image: somebody drained it (fan)" in done.stdout
    assert len(disks(cluster, "compute-01")) == 1
    assert wait_for(live, job, "COMPLETED")
    assert "hpcstate-roll" not in reservations(live)
    assert slurm_nodes(live)["compute-01"][1] == "idle"
    assert slurm_nodes(live)["compute-02"][1] == "drained"
    live.run(head, "scontrol update nodename=compute-02 state=resume", user="root")
    (changed,) = schema.load(file).clusters
    assert changed.workers[0].image == str(third)
