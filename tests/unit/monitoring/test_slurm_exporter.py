"""Slurm's metrics: what Slurm 24.11.5 really said, and what the exporter makes of it.

squeue.txt, sinfo.txt and sdiag.json were recorded from slurmctld 24.11.5 of Debian 13: a held job of alice's,
a held array of bob's in two partitions, two running jobs of another array; a drained node with a reason that
has odd characters.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from hpcstate.monitoring import slurm_exporter as exporter
from hpcstate.monitoring.exporter import LastAnswer, Sample
from hpcstate.monitoring.slurm_exporter import MARK, jobs, node_states, nodes, scheduler

HERE = Path(__file__).parent


def numbers(samples: list[Sample]) -> dict[str, float]:
    """Values by ``name{label="value"}``, labels in their order."""
    found = {}
    for name, value, labels in samples:
        inner = ",".join(f'{key}="{text}"' for key, text in labels)
        key = f"{name}{{{inner}}}" if inner else name
        assert key not in found, f"{key} is told twice"
        found[key] = value
    return found


@pytest.fixture
def queue() -> dict[str, float]:
    return numbers(list(jobs((HERE / "squeue.txt").read_text())))


@pytest.fixture
def of_nodes() -> dict[str, float]:
    return numbers(list(nodes((HERE / "sinfo.txt").read_text(), lambda text: 7.0 if "2026" in text else 0.0)))


def test_jobs_are_counted_by_state_user_account_and_partition(queue: dict[str, float]) -> None:
    assert queue["slurm_jobs"] == 7
    assert queue["slurm_jobs_pending"] == queue["slurm_jobs_hold"] == 5
    assert queue['slurm_user_jobs_pending{username="bob",user="bob"}'] == 4
    assert queue['slurm_partition_jobs{partition="debug"}'] == 4
    assert queue['slurm_partition_jobs{partition="gpu"}'] == 7
    assert queue['slurm_account_jobs_pending{account=""}'] == 5
    assert queue["slurm_jobs_cpus_alloc"] == queue["slurm_jobs_running"] == 2
    assert queue["slurm_jobs_memory_alloc"] == 200 << 20
    assert queue["hpcstate_slurm_jobs_eligible"] == 0


NUMBERS = count(1)


def test_whose_a_job_is_is_told_of_those_that_run_by_the_number_of_their_cgroup(
    queue: dict[str, float],
) -> None:
    """3030 is 3029_7: slurmd's log had ``Launching batch job 3030``."""
    told = {name for name in queue if "job_info" in name}
    words = 'user="bob",account="",partition="gpu"'
    assert told == {f'hpcstate_slurm_job_info{{jobid="{jobid}",{words}}}' for jobid in (3029, 3030)}


def job(
    state: str, reason: str = "None", tres: str = "cpu=2,mem=1.50G,node=1,gres/gpu=1,gres/gpu:a=1"
) -> str:
    return MARK.join((str(next(NUMBERS)), state, "gpu", "ann", "physics", "2", "1", reason, tres, "")) + "\n"


def test_what_running_jobs_have_is_added_up() -> None:
    text = job("RUNNING") + job("COMPLETING") + job("PENDING", "Resources") + job("PENDING", "Dependency")
    found = numbers(list(jobs(text + job("COMPLETED") + job("CONFIGURING"))))
    assert found["slurm_jobs_cpus_alloc"] == 6
    assert found["slurm_jobs_gpus_alloc"] == 3
    assert found["slurm_jobs_memory_alloc"] == 3 * 1536 << 20
    assert found["slurm_jobs_running"] == 2
    assert found["slurm_jobs_configuring"] == found["slurm_jobs_completed"] == 1
    assert found["hpcstate_slurm_jobs_eligible"] == found["hpcstate_slurm_jobs_dependency"] == 1


def test_nodes_are_counted_once_however_many_partitions_they_are_in(of_nodes: dict[str, float]) -> None:
    assert of_nodes["slurm_nodes"] == 2
    assert of_nodes["slurm_nodes_idle"] == 2
    assert of_nodes["slurm_nodes_drain"] == of_nodes["slurm_nodes_drained"] == 1
    assert of_nodes['slurm_partition_nodes{partition="gpu"}'] == 2
    assert of_nodes['slurm_partition_nodes{partition="debug"}'] == 1
    assert of_nodes['slurm_partition_nodes_drained{partition="debug"}'] == 0
    assert of_nodes['slurm_node_gpus{node="compute-01"}'] == 2
    assert of_nodes['slurm_node_memory_bytes{node="compute-02"}'] == 1000 << 20


def test_a_drained_node_says_since_when_by_whom_and_why(of_nodes: dict[str, float]) -> None:
    key = 'hpcstate_slurm_node_drained_since_timestamp_seconds{node="compute-02",user="root",'
    assert of_nodes[key + 'reason="a | strange, reason"}'] == 7.0
    assert sum("drained_since" in name for name in of_nodes) == 1
    assert of_nodes['hpcstate_slurm_node_runs{node="compute-02",key="image",runs="abc"}'] == 1


@pytest.mark.parametrize(
    ("text", "states"),
    [
        ("idle", {"idle"}),
        ("mixed+drain", {"mixed", "drain", "draining"}),
        ("down*+drain+not_responding", {"down", "drain", "drained", "noresp"}),
        ("idle+cloud+powered_down", {"idle", "cloud", "powered_down"}),
        ("allocated+completing", {"alloc", "completing"}),
        ("down+invalid_reg", {"down", "invalid_reg"}),
    ],
)
def test_a_state_is_its_base_and_its_flags(text: str, states: set[str]) -> None:
    assert node_states(text) == states


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("(null)", 0),
        ("gpu:2", 2),
        ("gpu:h100:8(S:0-1),shard:32(S:0-1)", 8),
        ("gpu:a:1(IDX:0),gpu:b:2(IDX:1-2)", 3),
        ("shard:h100:4(0/4),gpu:h100:1(IDX:0)", 1),
    ],
)
def test_gpus_are_read_from_gres_and_shards_are_none(text: str, count: int) -> None:
    assert exporter._gpus(text) == count


def test_every_number_of_sdiag_that_the_plugin_has_is_there() -> None:
    found = numbers(list(scheduler((HERE / "sdiag.json").read_text())))
    assert {f"slurm_{name}" for name in exporter._DIAG.values()} <= set(found)
    assert {"slurm_sched_exit_max_depth", "slurm_bf_exit_table_limit"} <= set(found)
    assert found["slurm_sdiag_jobs_submitted"] == 5


@pytest.mark.parametrize("text", ["", "{}", '{"statistics": null}', "slurmctld is down"])
def test_what_is_no_answer_of_sdiag_is_an_error(text: str) -> None:
    with pytest.raises((ValueError, AttributeError)):
        list(scheduler(text))


def test_slurm_is_asked_no_more_often_than_the_interval_and_a_tenth_of_the_time() -> None:
    clock = {"now": 0.0}
    asked = []

    def ask() -> list[Sample]:
        asked.append(clock["now"])
        clock["now"] += 6.0
        return [Sample("x", len(asked))]

    kept = LastAnswer(30, ask, lambda: clock["now"])
    assert [sample.value for sample in kept.samples()] == [1]
    clock["now"] = 59.0
    assert kept.samples()[0].value == 1
    clock["now"] = 60.0
    assert kept.samples()[0].value == 2
    assert asked == [0.0, 60.0]


def test_a_command_that_fails_leaves_no_old_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "COMMANDS", {"squeue": ("false",), "sinfo": ("true",), "sdiag": ("/none",)})
    found = numbers(exporter.ask())
    assert found['hpcstate_slurm_answers{command="squeue"}'] == 0
    assert found['hpcstate_slurm_answers{command="sdiag"}'] == 0
    assert found['hpcstate_slurm_answers{command="sinfo"}'] == 1
    assert "slurm_jobs" not in found


PLUGIN = set((HERE / "openmetrics.txt").read_text().split())
NOT_TOLD = (
    "jobs_nodes_alloc",
    "powerup_node",
    "effective",
    "efctv",
    "mem_avail",
    "max_job_nodes",
    "min_job_nodes",
    "wait_part_node_limit",
)


def test_the_names_are_those_of_the_plugin() -> None:
    """openmetrics.txt: the names that src/plugins/metrics/openmetrics/openmetrics.c of 26.05 has."""
    said = [
        *jobs((HERE / "squeue.txt").read_text()),
        *nodes((HERE / "sinfo.txt").read_text(), lambda text: 0.0),
        *scheduler((HERE / "sdiag.json").read_text()),
    ]
    names = {sample.name for sample in said if not sample.name.startswith("hpcstate_")}
    assert names - PLUGIN == set()
    missing = {name for name in PLUGIN - names if not any(word in name for word in NOT_TOLD)}
    assert missing == set()
