"""More GPUs and fewer, while a job runs on the other node. The long lab."""

from __future__ import annotations

import json
from pathlib import Path

from hpcstate.model import Cluster
from hpcstate.node.ssh import Live
from tests.lab.conftest import pyinfra
from tests.lab.test_2_deploy import SLURM, demand_idle, restored_file, start_job

__all__ = ["restored_file"]

REFUSE_A_FOURTH_GPU = """
mkdir -p /run/systemd/system/slurmd.service.d
cat > /run/systemd/system/slurmd.service.d/refuse.conf <<'END'
[Service]
ExecStartPre=/bin/sh -c '! grep -q nvidia3 /etc/slurm/gres.conf'
END
systemctl daemon-reload
"""


ACCEPT_ALL_GPUS = "rm -r /run/systemd/system/slurmd.service.d; systemctl daemon-reload"


def test_two_gpus_become_four_and_two_again_while_a_job_runs_elsewhere(
    live: Live, restored_file: Path
) -> None:
    """First slurmd cannot start with the new devices: the old gres.conf comes back, and the node stays
    drained with the reason. Mended, the same change goes through.
    """
    two = restored_file.read_text()
    entry = two[two.index("      - count: 2") : two.index("    slurm_config:")]
    one = entry.replace("count: 2\n        cpu", "count: 1\n        cpu")
    assert one != entry
    four = one.replace("simulated_gpus:\n          count: 2", "simulated_gpus:\n          count: 4")
    restored_file.write_text(two.replace(entry, four + one))
    job = start_job(live, "compute-02", "sleep 1200")
    live.run("compute-01", REFUSE_A_FOURTH_GPU, user="root")
    try:
        done = pyinfra(restored_file, "--json", "-y", deploy=SLURM)
        assert json.loads(done.stdout)["results"]["failed_hosts"] == ["compute-01"]
        assert "it runs with the old one again" in done.stderr
        assert "nvidia3" not in live.run("compute-01", "cat /etc/slurm/gres.conf").stdout
        shown = live.run("controller", "scontrol show node compute-01").stdout
        assert "DRAIN" in shown and "Reason=hpcstate: slurmd does not start" in shown, shown
    finally:
        live.run("compute-01", ACCEPT_ALL_GPUS, user="root")
    for file, gpus in ((restored_file.read_text(), 4), (two, 2)):
        restored_file.write_text(file)
        assert pyinfra(restored_file, "-y", deploy=SLURM).returncode == 0
        shown = live.run("controller", "scontrol show node compute-01").stdout
        assert f"Gres=gpu:simulated:{gpus}" in shown, shown
        demand_idle(live, "compute-01")
        live.run("controller", f"srun -w compute-01 --gres=gpu:{gpus} --mem=50 true", user="hpc", timeout=60)
    shown = live.run("controller", f"scontrol show job {job}").stdout
    assert "JobState=RUNNING" in shown and "Restarts=0" in shown, shown
    live.run("controller", f"scancel {job}", user="hpc")


def test_gpus_that_cannot_go_under_a_job_stay_everywhere(live: Live, restored_file: Path) -> None:
    """slurmctld is not told, and so neither is the node that is free: it takes jobs as before."""
    two = restored_file.read_text()
    assert "          count: 2" in two
    job = start_job(live, "compute-02", "sleep 1200")
    restored_file.write_text(two.replace("          count: 2", "          count: 1"))
    done = pyinfra(restored_file, "--json", "-y", "--data", "slurm_drain_seconds=5", deploy=SLURM)
    assert done.returncode != 0 and not done.stdout.strip(), "pyinfra says nothing where no host is left"
    assert f"jobs {job} still hold compute-02" in done.stderr
    assert "GPUs and Slurm of compute-01 stay as they were" in done.stderr
    assert (
        live.run("compute-01", "ls /dev/nvidia1 && systemctl is-active slurmd").stdout.split()[-1] == "active"
    )
    demand_idle(live, "compute-01")
    live.run("controller", "srun -w compute-01 --gres=gpu:2 --mem=50 true", user="hpc", timeout=60)
    shown = live.run("controller", f"scontrol show job {job}").stdout
    assert "JobState=RUNNING" in shown and "Restarts=0" in shown, shown
    restored_file.write_text(two)
    assert pyinfra(restored_file, "-y", deploy=SLURM).returncode == 0
    assert "DRAIN" not in live.run("controller", "scontrol show node compute-02").stdout
    live.run("controller", f"scancel {job}", user="hpc")


def test_fewer_gpus_than_declared_stop_that_node_only(
    live: Live, cluster: Cluster, cluster_file: Path
) -> None:
    """The device node is there for tmpfiles.d but cannot be made: a folder stands in its place."""
    live.run("compute-01", "rm -f /dev/nvidia1 && mkdir /dev/nvidia1", user="root")
    try:
        done = pyinfra(cluster_file, "--json", "-y", deploy=SLURM)
        payload = json.loads(done.stdout)
        assert payload["results"]["failed_hosts"] == ["compute-01"]
        assert done.returncode != 0
        said = done.stderr
        assert "compute-01" in said and "2" in said and "declare" in said, said[-2000:]
    finally:
        live.run("compute-01", "rmdir /dev/nvidia1", user="root")
        assert pyinfra(cluster_file, "-y", deploy=SLURM).returncode == 0
