"""What Slurm would make of the rendered files is told with the place in the cluster file."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hpcstate.cluster import rendered
from hpcstate.model import Cluster
from tests.unit.slurm_clusters import cluster, node


def hints(of: Cluster) -> list[tuple[str, str]]:
    """Place and hint of each problem with its slurm.conf."""
    return [(problem.place, problem.hint) for problem in rendered.findings(of)["slurm.conf"]]


def test_a_parameter_of_the_file() -> None:
    ((place, hint),) = hints(cluster(node(1), parameters={"slurmdtimeout": "x"}))
    assert place == "SlurmdTimeout"
    assert "it is from .clusters.hpc.slurm_config.parameters.slurmdtimeout of the cluster file" in hint


def test_a_key_of_a_node() -> None:
    workers = [replace(node(number), extra_slurm={"MemSpecLimt": "5"}) for number in (1, 2)]
    ((place, hint),) = hints(cluster(*workers))
    assert place == "NodeName=compute-[01-02] MemSpecLimt"
    assert "did you mean MemSpecLimit?" in hint
    assert "it is from .compute_nodes[1].extra_slurm.MemSpecLimt of the cluster file" in hint


@pytest.mark.parametrize(("option", "value"), [("PriorityTier", "high"), ("OverSubscribe", "SOMETIMES")])
def test_an_option_of_a_partition(option: str, value: str) -> None:
    lab = cluster(node(1))
    assert lab.slurm is not None
    main = replace(lab.slurm.partitions[0], options={option: value})
    ((place, hint),) = hints(replace(lab, slurm=replace(lab.slurm, partitions=(main,))))
    assert place == f"PartitionName=main {option}"
    assert f"it is from .clusters.hpc.slurm_config.partitions[0].{option} of the cluster file" in hint


def test_what_is_hpcstates_own_has_no_place_there() -> None:
    workers = [replace(node(number), cpu_cores=70_000) for number in range(1, 4)]
    found = hints(cluster(*workers))
    assert found
    assert not [hint for _, hint in found if "cluster file" in hint]
