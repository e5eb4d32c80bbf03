"""Words of slurm.conf for nodes and partitions, on a running cluster. The long lab."""

from __future__ import annotations

from pathlib import Path

from hpcstate.node.ssh import Live
from tests.lab.conftest import pyinfra
from tests.lab.test_2_deploy import SLURM, restored_file, started

__all__ = ["restored_file"]


def test_words_of_slurm_conf_for_nodes_and_partitions_need_no_restart(
    live: Live, restored_file: Path
) -> None:
    text = restored_file.read_text()
    for old, new in (
        (
            "      - count: 2\n",
            "      - count: 2\n        features: [rack1]\n        weight: 7\n"
            "        extra_slurm:\n          CpuBind: core\n",
        ),
        (
            "partitions: [gpu, debug]",
            "partitions:\n        - gpu\n        - name: debug\n          PriorityTier: 3\n"
            "          DefaultTime: 10",
        ),
    ):
        assert old in text
        text = text.replace(old, new)
    restored_file.write_text(text)
    before = started(live)
    assert pyinfra(restored_file, "-y", deploy=SLURM).returncode == 0
    shown = live.run("controller", "scontrol show node compute-02; scontrol show partition debug").stdout
    for word in ("ActiveFeatures=gpu,simulated,rack1", "Weight=7", "PriorityTier=3", "DefaultTime=00:10:00"):
        assert word in shown, shown
    live.run("controller", "srun -p debug -C rack1 --mem=50 true", user="hpc", timeout=60)
    assert started(live) == before
