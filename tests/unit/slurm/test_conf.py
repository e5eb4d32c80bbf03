"""slurm.conf and gres.conf: what depends on the model. The whole texts are compared in tests/render."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hpcstate import paths
from hpcstate.errors import HpcstateError
from hpcstate.model import Acceleration, AccountingSettings, CpuTopology
from hpcstate.slurm.conf import (
    JOB_TMP,
    cgroup_conf,
    configuration,
    node_lines,
    promised_too_much,
    real_memory_mb,
    slurm_conf,
    tmp_disk_mb,
)
from hpcstate.slurm.gres_conf import GresDevice, gres_conf, gres_lines
from tests.unit.slurm_clusters import cluster, node, without_slurm


def value(text: str, key: str) -> list[str]:
    """The values of ``key`` in slurm.conf."""
    lines = (line.partition("=") for line in text.splitlines())
    return [after for name, _, after in lines if name == key]


@pytest.mark.parametrize(
    ("memory_mb", "reported_mb"),
    [(2048, 1960), (1024, 950), (4096, 3910), (16384, 15990), (65536, 64300)],
)
def test_real_memory_is_less_than_slurmd_reports(memory_mb: int, reported_mb: int) -> None:
    assert memory_mb // 2 <= real_memory_mb(memory_mb) < reported_mb


@pytest.mark.parametrize(
    ("cpus", "memory_mb", "expected"),
    [
        (2, 1960, ""),
        (4, 4000, ""),
        (None, None, ""),
        (2, 1700, "RealMemory=1751, and the machine has 1700 MiB"),
        (1, 1960, "CPUs=2, and the machine has 1"),
        (1, 900, "CPUs=2, and the machine has 1; RealMemory=1751, and the machine has 900 MiB"),
    ],
)
def test_a_machine_that_is_smaller_than_described(
    cpus: int | None, memory_mb: int | None, expected: str
) -> None:
    assert promised_too_much(node(1), cpus, memory_mb) == expected


@pytest.mark.parametrize(
    ("disk_gb", "file_system_mb"),
    # A 10 GiB disk of an image of 4 GiB, whose file system has grown; one of 20 GiB; one of 1 TiB.
    [(10, 9_900), (20, 19_800), (1024, 1_007_000)],
)
def test_the_disk_for_jobs_is_less_than_slurmd_reports(disk_gb: int, file_system_mb: int) -> None:
    assert disk_gb * 1024 // 2 <= tmp_disk_mb(disk_gb) < file_system_mb
    assert promised_too_much(node(1), None, None, tmp_disk_mb(10)) == ""
    assert promised_too_much(node(1), None, None, 4000) == "TmpDisk=5120, and the machine has 4000 MiB"


def test_nothing_is_promised_of_another_file_system() -> None:
    own = cluster(node(1), parameters={"tmpfs": "/scratch"})
    assert "TmpDisk" not in slurm_conf(own)
    assert "TmpFS=/scratch\n" in slurm_conf(own)


def test_the_tmp_of_a_job_is_on_disk_and_its_own() -> None:
    files = configuration(cluster(node(1)))
    text = files["job_container.conf"]
    (base,) = value(text, "BasePath")
    assert base == JOB_TMP and value(files["slurm.conf"], "TmpFS") == [JOB_TMP]
    # /tmp of the node is in memory.
    assert base not in ("/tmp", "/dev/shm") and value(text, "Dirs") == ["/tmp,/dev/shm"]
    assert value(text, "Shared") == ["true"]
    assert value(files["slurm.conf"], "PrologFlags") == ["Contain"]
    # Otherwise Open MPI would write to TmpFS, where it may not, and which a container has not.
    assert value(files["mpi.conf"], "PMIxCliTmpDirBase") == ["/tmp"]


def test_half_of_a_tiny_machine_is_left_to_jobs() -> None:
    assert real_memory_mb(400) == 200


def test_equal_neighbours_share_a_line() -> None:
    assert node_lines(cluster(node(1, gpus=2), node(2, gpus=2), node(3), node(4, gpus=2))) == [
        "NodeName=compute-[01-02] NodeAddr=10.0.0.[11-12] CPUs=2 Sockets=1 CoresPerSocket=2 ThreadsPerCore=1 "
        "RealMemory=1751 TmpDisk=5120 Gres=gpu:simulated:2 Feature=gpu,simulated State=UNKNOWN",
        "NodeName=compute-03 NodeAddr=10.0.0.13 CPUs=2 Sockets=1 CoresPerSocket=2 ThreadsPerCore=1 "
        "RealMemory=1751 TmpDisk=5120 State=UNKNOWN",
        "NodeName=compute-04 NodeAddr=10.0.0.14 CPUs=2 Sockets=1 CoresPerSocket=2 ThreadsPerCore=1 "
        "RealMemory=1751 TmpDisk=5120 Gres=gpu:simulated:2 Feature=gpu,simulated State=UNKNOWN",
    ]


def test_a_job_that_asks_for_all_cpus_and_no_memory_fits_on_every_node() -> None:
    workers = (node(1, memory_mb=2048, cpu_cores=2), node(2, memory_mb=4096, cpu_cores=8))
    (per_cpu,) = value(slurm_conf(cluster(*workers)), "DefMemPerCPU")
    for worker in workers:
        assert 0 < int(per_cpu) * worker.cpu_cores <= real_memory_mb(worker.memory_mb)


def test_gpu_is_a_generic_resource_only_where_there_are_gpus() -> None:
    assert value(slurm_conf(cluster(node(1, gpus=1))), "GresTypes") == ["gpu"]
    assert value(slurm_conf(cluster(node(1))), "GresTypes") == []


def test_gpus_are_counted_as_tres_only_where_a_slurmdbd_keeps_the_count() -> None:
    gpus = node(1, gpus=2)
    own = {"AccountingStorageType": "accounting_storage/slurmdbd"}
    counted = ["gres/gpu,gres/gpu:simulated"]
    assert value(slurm_conf(cluster(gpus)), "AccountingStorageTRES") == counted
    assert value(slurm_conf(cluster(node(1))), "AccountingStorageTRES") == []
    off = AccountingSettings(on=False)
    assert value(slurm_conf(replace(cluster(gpus), accounting=off)), "AccountingStorageTRES") == []
    elsewhere = replace(cluster(gpus, parameters=own), accounting=off)
    assert value(slurm_conf(elsewhere), "AccountingStorageTRES") == counted


def test_jobs_are_recorded_on_the_controller_where_they_are_recorded() -> None:
    text = slurm_conf(cluster(node(1)))
    assert value(text, "AccountingStorageType") == ["accounting_storage/slurmdbd"]
    assert value(text, "AccountingStorageHost") == ["10.0.0.10"]
    off = slurm_conf(replace(cluster(node(1)), accounting=AccountingSettings(on=False)))
    assert "AccountingStorage" not in off


def test_the_declared_topology_counts_where_it_fits() -> None:
    declared = Acceleration(cpu_topology=CpuTopology(1, 2, 2))
    lab = replace(cluster(node(1, cpu_cores=4), node(2)), acceleration=declared)
    first, second = node_lines(lab)
    assert "CPUs=4 Sockets=1 CoresPerSocket=2 ThreadsPerCore=2 " in first
    assert "CPUs=2 Sockets=1 CoresPerSocket=2 ThreadsPerCore=1 " in second


def test_parameters_of_the_user_replace_ours_and_are_added() -> None:
    text = slurm_conf(
        cluster(node(1), parameters={"slurmdtimeout": "30", "PriorityType": "priority/multifactor"})
    )
    assert value(text, "SlurmdTimeout") == ["30"]
    assert value(text, "PriorityType") == ["priority/multifactor"]
    assert text.count("riorityType=") == 1


@pytest.mark.parametrize("key", ["NodeName", "partitionname", "SlurmctldHost", "ClusterName", "Include"])
def test_what_follows_from_the_file_cannot_be_set_by_hand(key: str) -> None:
    with pytest.raises(HpcstateError, match=f"parameters.{key}"):
        slurm_conf(cluster(node(1), parameters={key: "x"}))


def test_a_cluster_without_slurm_is_refused() -> None:
    with pytest.raises(HpcstateError, match="has no Slurm compute nodes"):
        slurm_conf(without_slurm())


def test_every_device_has_its_line() -> None:
    devices = [
        GresDevice("rtx4060ti", ("/dev/nvidia0",)),
        GresDevice("simulated", ("/dev/nvidia1",), simulated=True),
    ]
    assert gres_lines("compute-01", devices) == [
        "NodeName=compute-01 Name=gpu Type=rtx4060ti File=/dev/nvidia0",
        "NodeName=compute-01 Name=gpu Type=simulated File=/dev/nvidia1",
    ]


def test_simulated_devices_are_called_so() -> None:
    assert "SIMULATED" in gres_conf(
        "compute-01", [GresDevice("simulated", ("/dev/nvidia0",), simulated=True)]
    )
    assert "SIMULATED" not in gres_conf("compute-01", [GresDevice("2805", ("/dev/nvidia0",))])


def test_a_node_without_devices_has_a_gres_conf_without_lines() -> None:
    assert [line for line in gres_conf("compute-01", []).splitlines() if not line.startswith("#")] == []


OBSOLETE = (
    "CgroupAutomount",
    "CgroupReleaseAgentDir",
    "AllowedDevicesFile",
    "TaskAffinity",
    "ConstrainKmemSpace",
    "MemorySwappiness",
)


@pytest.mark.parametrize("key", OBSOLETE)
def test_no_key_that_this_slurm_rejects_or_ignores(key: str) -> None:
    assert key not in cgroup_conf(cluster(node(1)))


def test_every_parameter_that_we_set_is_explained() -> None:
    explained = (paths.ROOT / "docs" / "slurm-configuration.md").read_text(encoding="utf-8")
    lab = cluster(node(1, gpus=1))
    texts = configuration(lab)
    for text in (texts.pop("slurm.conf").partition("# Nodes")[0], *texts.values()):
        for line in text.splitlines():
            if not line.startswith("#") and line:
                assert line.partition("=")[0] in explained, line
