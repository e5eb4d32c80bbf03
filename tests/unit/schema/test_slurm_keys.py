"""What the file says of partitions and nodes in the words of slurm.conf."""

from __future__ import annotations

import pytest

from hpcstate.errors import Problem, ProblemsError
from hpcstate.model import Partition
from hpcstate.model.node import WRITTEN_NODE_KEYS
from hpcstate.schema.partition_keys import OPTIONS
from hpcstate.slurm.keys import keys
from tests.unit.schema.test_schema import hpc


def partitions(text: str) -> dict[str, Partition]:
    """The partitions of ``slurm_config: {text}``, by name."""
    slurm = hpc(more=f"    slurm_config: {text}\n").slurm
    assert slurm is not None
    return {partition.name: partition for partition in slurm.partitions}


def problem(workers: str = "[{}]", more: str = "") -> Problem:
    """The one problem of a file."""
    with pytest.raises(ProblemsError) as raised:
        hpc(workers, more=more)
    (found,) = raised.value.problems
    return found


def test_options_have_the_names_of_slurm_conf() -> None:
    known = keys("slurm").lines["PartitionName"]
    assert [row.name for row in OPTIONS if known.get(row.name.lower()) is None] == []
    assert [row.name for row in OPTIONS if known[row.name.lower()].name != row.name] == []
    # Of ours, or old names of others.
    ours = {"nodes", "default", "maxtime", "defaulttime", "state", "shared", "priority"}
    assert known.keys() - {row.name.lower() for row in OPTIONS} == ours


def test_what_hpcstate_writes_of_a_node_is_known_to_slurm() -> None:
    known = keys("slurm").lines["NodeName"]
    assert WRITTEN_NODE_KEYS.keys() - known.keys() <= {"nodename"}


def test_the_options_of_a_partition() -> None:
    found = partitions("{partitions: [{name: a, PriorityTier: 5, AllowGroups: 'x,y', State: DRAIN}, b]}")
    assert found["a"].options == {"AllowGroups": "x,y", "PriorityTier": "5"}
    assert (found["a"].state, found["b"].state, found["b"].options) == ("DRAIN", "UP", {})


@pytest.mark.parametrize(
    ("text", "longest", "default"),
    [
        ("{partitions: [a]}", "INFINITE", "8:00:00"),
        ("{partitions: [a], max_job_time: '24:00:00'}", "24:00:00", "8:00:00"),
        ("{partitions: [a], max_job_time: 90}", "90", "90"),
        ("{partitions: [{name: a, max_time: '1:00:00'}]}", "1:00:00", "1:00:00"),
        ("{partitions: [{name: a, MaxTime: 2-0, DefaultTime: '12:00:00'}]}", "2-0", "12:00:00"),
        ("{partitions: [{name: a, default_time: INFINITE}]}", "INFINITE", "INFINITE"),
        ("{partitions: [a], default_job_time: '1:00:00'}", "INFINITE", "1:00:00"),
        ("{partitions: [{name: a, default_time: 30}], default_job_time: '1:00:00'}", "INFINITE", "30"),
    ],
)
def test_the_times_of_a_partition(text: str, longest: str, default: str) -> None:
    (found,) = partitions(text).values()
    assert (found.max_time, found.default_time) == (longest, default)


def test_without_partitions_the_times_are_those_of_all() -> None:
    (found,) = partitions("{max_job_time: '2:00:00', default_job_time: 10}").values()
    assert (found.name, found.max_time, found.default_time) == ("debug", "2:00:00", "10")


@pytest.mark.parametrize(
    ("partition", "place", "message"),
    [
        (
            "default_time: 2-0, max_time: 60",
            "default_time",
            "2-0 is more than the limit of the partition, 60",
        ),
        ("DefaultTime: 2-0, max_time: 60", "DefaultTime", "2-0 is more than"),
        ("max_time: 60, MaxTime: 60", "max_time", "max_time and MaxTime are the same key"),
        ("AllowQOS: normal", "AllowQOS", "unknown key 'AllowQOS' in partitions"),
        ("Shared: FORCE", "Shared", "unknown key 'Shared' in partitions"),
        ("QOS: a b", "QOS", "a value of slurm.conf without blanks"),
        ("QOS: [a]", "QOS", "found a list"),
    ],
)
def test_what_is_wrong_with_a_partition(partition: str, place: str, message: str) -> None:
    found = problem(more=f"    slurm_config: {{partitions: [{{name: a, {partition}}}]}}\n")
    assert found.place == f".clusters.hpc.slurm_config.partitions[0].{place}"
    assert message in found.message


def test_what_a_node_says_to_slurm() -> None:
    node = hpc("[{features: [rack1, big], weight: 10, extra_slurm: {MemSpecLimit: 512}}]").workers[0]
    assert (node.slurm_features, node.weight) == (("rack1", "big"), 10)
    assert node.extra_slurm == {"MemSpecLimit": "512"}
    plain = hpc().workers[0]
    assert (plain.slurm_features, plain.weight, plain.extra_slurm) == ((), 1, {})


def test_packages_are_those_of_all_nodes_and_of_the_node() -> None:
    cluster = hpc("[{packages: [htop, g++]}, {}]", more="    packages: [htop, r-base-core]\n")
    first, second = cluster.workers
    assert cluster.packages_of(first) == ("g++", "htop", "r-base-core")
    assert cluster.packages_of(second) == ("htop", "r-base-core")
    assert cluster.packages_of(cluster.controller) == ("htop", "r-base-core")


@pytest.mark.parametrize("name", ["Htop", "htop=3.4", "-y", "htop-", "a b", "htop;id", "x"])
def test_what_is_no_name_of_a_package(name: str) -> None:
    found = problem(more=f"    packages: ['{name}']\n")
    assert found.place == ".clusters.hpc.packages[0]"
    assert "a Debian package" in found.message


def test_features_follow_from_the_gpus() -> None:
    def features(worker: str) -> tuple[str, ...]:
        return hpc(f"[{worker}]").workers[0].slurm_features

    assert features("{simulated_gpus: {count: 2}}") == ("gpu", "simulated")
    simulated = "{simulated_gpus: {count: 1, type: a100}, features: [gpu, x]}"
    assert features(simulated) == ("gpu", "a100", "simulated", "x")
    device = "{pci_address: '0000:01:00.0', device_type: gpu, gres_type: a100, mig: [3g.20gb, 3g.20gb]}"
    real = f"{{pcie_passthrough: {{enabled: true, devices: [{device}]}}}}"
    assert features(real) == ("gpu", "a100_3g.20gb")


@pytest.mark.parametrize(
    ("worker", "place", "message", "hint"),
    [
        ("extra_slurm: {CPUs: 4}", "extra_slurm.CPUs", "hpcstate writes CPUs itself", "cpu_cores"),
        ("extra_slurm: {Gres: 'gpu:1'}", "extra_slurm.Gres", "hpcstate writes Gres itself", "simulated_gpus"),
        ("extra_slurm: {Feature: x}", "extra_slurm.Feature", "itself", "the key features"),
        ("extra_slurm: {STATE: DOWN}", "extra_slurm.STATE", "itself", "nodes of this file"),
        ("extra_slurm: {Port: 1, PORT: 2}", "extra_slurm.PORT", "PORT is there twice", "keep one"),
        ("extra_slurm: {Reason: 'a b'}", "extra_slurm.Reason", "without blanks", ""),
        ("features: ['a&b']", "features[0]", "a feature of letters", ""),
        ("weight: 0", "weight", "expected", ""),
    ],
)
def test_what_is_wrong_with_a_node(worker: str, place: str, message: str, hint: str) -> None:
    found = problem(f"[{{{worker}}}]")
    assert found.place == f".clusters.hpc.compute_nodes[0].{place}"
    assert message in found.message
    assert hint in found.hint


@pytest.mark.parametrize("key", ["features: [x]", "weight: 5", "extra_slurm: {Port: 1}"])
def test_a_node_without_slurm_has_none_of_it(key: str) -> None:
    cloud = (
        "  cloud: {name: c, network: {subnet: 10.9.0.0/24}, control_plane: {}, worker_nodes: [{"
        + key
        + "}]}\n"
    )
    found = problem(more=cloud)
    assert found.place == f".clusters.cloud.worker_nodes[0].{key.partition(':')[0]}"
    assert found.message == "only a node of a Slurm cluster has it"
