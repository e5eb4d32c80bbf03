"""The judge with the daemons of the built image: good files pass, broken ones get file and line."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate import paths, schema
from hpcstate.errors import HpcstateError
from hpcstate.judge import judge
from hpcstate.judge.case import Configuration
from hpcstate.slurm.lint.conf import lint
from tests.lab.conftest import CLUSTER_FILE
from tests.unit.judge_cases import CASES, agrees, load, seen

IMAGE = paths.image("hpc-base")
INVENTORIES = sorted((paths.ROOT / "inventories").glob("*.yaml"))


@pytest.mark.parametrize("name", CASES)
def test_the_daemons_say_what_was_recorded(name: str) -> None:
    configuration, _ = load(name)
    found = seen(judge.judge(configuration, IMAGE).problems)
    assert agrees(found, CASES[name]), found


@pytest.mark.parametrize("file", [*INVENTORIES, CLUSTER_FILE], ids=lambda file: file.stem)
def test_the_daemons_take_what_we_render(file: Path) -> None:
    for cluster in schema.load(file).clusters:
        if cluster.kind == "hpc":
            assert judge.judge(judge.configuration_of(cluster), IMAGE).problems == {}


WORDS = """
clusters:
  hpc:
    name: words
    network: {subnet: 192.168.177.0/24}
    controller: {}
    compute_nodes:
      - simulated_gpus: {count: 2, type: a100}
        features: [rack1, big.mem]
        weight: 10
        extra_slurm: {TmpDisk: 10, CoreSpecCount: 1, CpuBind: core, TRESWeights: "CPU=1.0"}
      - {cpu_cores: 4}
    slurm_config:
      default_job_time: "1:00:00"
      parameters: {PreemptType: preempt/partition_prio, PreemptMode: REQUEUE}
      partitions:
        - {name: a, nodes: [compute-01], PriorityTier: 5, AllowGroups: "root,slurm", OverSubscribe: "FORCE:2",
           DefMemPerCPU: 100, PreemptMode: "OFF", GraceTime: 10, Hidden: "YES", LLN: "NO", MaxNodes: 2,
           MinNodes: 1, TRESBillingWeights: "CPU=1.0,Mem=0.25G", DefaultTime: 10, MaxTime: 2-0, State: DRAIN}
        - {name: b, default: true, MaxCPUsPerNode: 2, ExclusiveUser: "NO", OverTimeLimit: 5,
           PriorityJobFactor: 100, SelectTypeParameters: CR_Core_Memory, Alternate: a, DisableRootJobs: "YES",
           AllocNodes: ALL, CpuBind: core, ReqResv: "NO", RootOnly: "NO", MaxMemPerCPU: 800, DefCPUPerGPU: 1,
           DefMemPerGPU: 100}
"""


def test_the_daemons_take_the_words_of_slurm_conf_for_nodes_and_partitions() -> None:
    (cluster,) = schema.parse(WORDS, Path("words.yaml")).clusters
    assert judge.judge(judge.configuration_of(cluster), IMAGE).problems == {}


@pytest.mark.parametrize("parameters", [{}, {"AccountingStorageType": "accounting_storage/slurmdbd"}])
def test_the_daemons_take_the_weights_with_a_database_and_without(parameters: dict[str, str]) -> None:
    cluster = schema.load(paths.ROOT / "inventories" / "minimal.yaml").clusters[0]
    assert cluster.slurm is not None
    cluster = replace(cluster, slurm=replace(cluster.slurm, parameters=parameters))
    assert judge.judge(judge.configuration_of(cluster), IMAGE).problems == {}


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("slurm.conf", "MemLimitEnforce=no"),
        ("slurm.conf", "SallocDefaultCommand=x"),
        ("slurm.conf", "SelectType=select/cons_res"),
        ("slurm.conf", "PreemptType=preempt/qos"),
        ("slurm.conf", "GresTypes=shard"),
        ("cgroup.conf", "CgroupReleaseAgentDir=/x"),
        ("cgroup.conf", "ConstrainKmemSpace=no"),
        ("cgroup.conf", "MaxRAMPercent=9x"),
    ],
)
def test_the_daemons_stop_where_the_linter_says_so(kind: str, line: str) -> None:
    configuration, _ = load("good")
    text = f"{configuration.files[kind]}{line}\n"
    linted = lint(text, "slurm" if kind == "slurm.conf" else "cgroup")
    judgement = judge.judge(Configuration({**configuration.files, kind: text}, configuration.gres), IMAGE)
    assert "error" in {problem.severity for problem in linted}
    assert judgement.errors


def test_nothing_is_left_behind_and_it_takes_seconds(tmp_path: Path) -> None:
    configuration, _ = load("good")
    before = set(Path("/proc").glob("[0-9]*"))
    started = time.monotonic()
    judge.judge(configuration, IMAGE)
    assert time.monotonic() - started < 30
    commands = [
        (process / "cmdline").read_bytes().split(b"\0")[0]
        for process in set(Path("/proc").glob("[0-9]*")) - before
        if (process / "cmdline").exists()
    ]
    assert not [command for command in commands if b"slurm" in command or b"munge" in command]
    assert "tmpfs /mnt" not in Path("/proc/mounts").read_text()


def test_a_cluster_with_a_wrong_plugin_is_stopped_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "wrong.yaml"
    text = (paths.ROOT / "inventories" / "minimal.yaml").read_text()
    parameters = "    slurm_config:\n      parameters:\n        SchedulerType: sched/mine\n"
    file.write_text(text + parameters)
    (cluster,) = schema.load(file).clusters
    with pytest.raises(HpcstateError, match=r"slurm\.conf:\d+: error: SchedulerType: slurmctld: error"):
        judge.require(cluster, print)
