"""A cluster is lost with its controller's data volume and its keys, and comes back from a backup; and what
slurmdbd misses while it is down. The long lab."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

from hpcstate.model import Cluster
from hpcstate.node.ssh import Live
from hpcstate.paths import ClusterPaths
from tests.lab.conftest import hpcstate, pyinfra
from tests.lab.test_6_stop_under_jobs import state, wait_for

ENDED = "srun --mem=32M sh -c 'echo $SLURM_JOB_ID'"
HELD = "sbatch --parsable --output=/dev/null --hold --mem=50M --wrap=true"
RUNS = "sbatch --parsable --output=/dev/null --mem=50M --wrap='sleep 60'"
ACCOUNT = "sacctmgr --immediate add account kept && sacctmgr --immediate add user hpc account=kept"
SECONDS = 120


def sacct(live: Live, job: str) -> str:
    """The state of ``job`` in the record."""
    words = f"sacct --noheader --parsable2 --allocations --jobs={job} --format=State"
    return live.run(live.cluster.controller.name, words, user="hpc", check=False).stdout.strip()


def recorded(live: Live, job: str, word: str) -> bool:
    """Whether the record has ``job`` as ``word`` within two minutes."""
    limit = time.monotonic() + SECONDS
    while (found := sacct(live, job)) != word and time.monotonic() < limit:
        time.sleep(1)
    return found == word


def kept_for_slurmdbd(live: Live) -> int:
    said = live.run(live.cluster.controller.name, "sdiag", user="root").stdout
    found = re.search(r"DBD Agent queue size: *(\d+)", said)
    assert found is not None
    return int(found[1])


def test_a_slurmdbd_that_is_down_misses_nothing(live: Live, cluster: Cluster) -> None:
    controller = cluster.controller.name
    runs = live.run(controller, RUNS, user="hpc").stdout.strip()
    assert wait_for(live, runs, "RUNNING")
    live.run(controller, "systemctl stop slurmdbd", user="root")
    try:
        ended = live.run(controller, ENDED, user="hpc").stdout.strip()
        assert kept_for_slurmdbd(live) > 0
        assert state(live, runs) == "RUNNING"
        # What is kept outlives slurmctld, too.
        live.run(controller, "systemctl restart slurmctld", user="root", timeout=120)
        live.run(controller, f"scancel {runs}", user="hpc")
    finally:
        live.run(controller, "systemctl start slurmdbd", user="root")
    assert recorded(live, ended, "COMPLETED")
    assert "CANCELLED" in sacct(live, runs)
    limit = time.monotonic() + SECONDS
    while kept_for_slurmdbd(live) and time.monotonic() < limit:
        time.sleep(1)
    assert kept_for_slurmdbd(live) == 0


def test_a_lost_cluster_comes_back(live: Live, cluster: Cluster, cluster_file: Path, tmp_path: Path) -> None:
    controller, file = cluster.controller.name, str(cluster_file)
    ended = live.run(controller, ENDED, user="hpc").stdout.strip()
    assert recorded(live, ended, "COMPLETED")
    live.run(controller, ACCOUNT, user="root")
    held = live.run(controller, HELD, user="hpc").stdout.strip()
    (tmp_path / "phrase").write_text("correct horse battery staple\n")
    phrase = ("--passphrase-file", str(tmp_path / "phrase"))

    taken = hpcstate("backup", file, "--out", str(tmp_path), "--homes", "--containers", *phrase, "--json")
    assert taken.returncode == 0, taken.stderr
    manifest = json.loads(taken.stdout)
    archive = manifest["archive"]
    assert manifest["next_job"] > int(held)
    assert "slurmctld stood still" in taken.stderr
    assert state(live, held) == "PENDING", "slurmctld goes on"
    assert hpcstate("backup", file, "--verify", archive, *phrase).returncode == 0
    after = live.run(controller, ENDED, user="hpc").stdout.strip()
    assert recorded(live, after, "COMPLETED")
    refused = hpcstate("restore", file, archive, "--yes", *phrase)
    assert refused.returncode == 1 and "recorded here since the backup" in refused.stdout
    assert state(live, held) == "PENDING", "nothing was touched"

    key = ClusterPaths.of(cluster.name).ssh_key.read_text()
    gone = hpcstate("destroy", file, "--force", "--data", "--secrets")
    assert gone.returncode == 0 and "removed secrets" in gone.stdout
    early = hpcstate("restore", file, archive, "--yes", *phrase)
    assert early.returncode == 2 and "--keys" in early.stderr
    assert hpcstate("restore", file, archive, "--keys", *phrase).returncode == 0
    assert ClusterPaths.of(cluster.name).ssh_key.read_text() == key
    assert hpcstate("start", file).returncode == 0
    assert pyinfra(cluster_file, "-y").returncode == 0

    done = hpcstate("restore", file, archive, "--yes", "--homes", "--containers", *phrase)
    assert done.returncode == 0, done.stdout + done.stderr
    with Live(cluster) as anew:
        assert sacct(anew, ended) == "COMPLETED"
        assert sacct(anew, after) == "", "it was recorded after the backup"
        assert state(anew, held) == "PENDING"
        following = anew.run(controller, HELD, user="hpc").stdout.strip()
        assert int(following) == manifest["next_job"]
        shown = "sacctmgr --noheader --parsable2 show assoc format=account"
        accounts = anew.run(controller, shown, user="root")
        assert "kept" in accounts.stdout.split()
        anew.run(controller, f"scontrol release {held}", user="root")
        assert recorded(anew, held, "COMPLETED")
        anew.run(controller, f"scancel {following}", user="root")
    assert pyinfra(cluster_file, "-y").returncode == 0
