"""Accounting is turned off and on again on a living cluster: jobs go on, and the record is as it was. The
long lab."""

from __future__ import annotations

import re
from pathlib import Path

from hpcstate.model import Cluster
from hpcstate.node.ssh import Live
from tests.lab.conftest import hpcstate, pyinfra, results
from tests.lab.test_6_stop_under_jobs import state, wait_for

UNITS = "systemctl is-active mariadb slurmdbd; systemctl is-enabled mariadb slurmdbd; true"
SUBMIT = "sbatch --parsable --output=/dev/null --mem=50M --wrap='sleep 900'"
ENDED = "srun --mem=32M sh -c 'echo $SLURM_JOB_ID'"


def test_off_and_on_under_a_job(live: Live, cluster: Cluster, cluster_file: Path) -> None:
    controller = cluster.controller.name
    ended = live.run(controller, ENDED, user="hpc").stdout.strip()
    runs = live.run(controller, SUBMIT, user="hpc").stdout.strip()
    assert wait_for(live, runs, "RUNNING")
    before = cluster_file.read_text()
    off = re.sub(r"(?m)^    accounting:\n(      .*\n)+", "    accounting: {enabled: false}\n", before)
    assert off != before
    try:
        cluster_file.write_text(off)
        assert pyinfra(cluster_file, "-y").returncode == 0
        assert live.run(controller, UNITS).stdout.split() == ["inactive"] * 2 + ["disabled"] * 2
        assert live.run(controller, "ls /etc/slurm/slurmdbd.conf", check=False).code != 0
        assert "disabled" in live.run(controller, "sacct", user="hpc", check=False).stderr
        assert hpcstate("usage", str(cluster_file)).returncode == 2
        assert state(live, runs) == "RUNNING"
    finally:
        cluster_file.write_text(before)
        on = pyinfra(cluster_file, "-y").returncode
    assert on == 0 and state(live, runs) == "RUNNING"
    for job, word in ((ended, "COMPLETED"), (runs, "RUNNING")):
        script = f"sacct --noheader --parsable2 --allocations --jobs={job} --format=State"
        assert live.run(controller, script, user="hpc").stdout.strip() == word
    said = hpcstate("usage", str(cluster_file), "--user", "hpc", "--since", "1d")
    assert said.returncode == 0 and " hpc " in said.stdout
    live.run(controller, f"scancel {runs}", user="hpc")
    again = pyinfra(cluster_file, "--json", "-y")
    assert results(again.stdout) == {}
