"""The operations of Slurm: the least that a change asks for, and nothing under running jobs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import gevent  # type: ignore[import-untyped]
import pytest

from hpcstate.slurm import change as slurm_change
from hpcstate.slurm.conf import configuration
from hpcstate.slurm.gres import DeclaredGpu, DeclaredGres
from hpcstate.slurm.gres_conf import GresDevice, gres_conf
from operations import slurm
from operations.util import drain as slurm_drain
from tests.operations.harness import Outcome, run
from tests.unit.gpu_hosts import simulated_gpus
from tests.unit.slurm_clusters import cluster, node

NODE = "compute-01"
CLUSTER = cluster(node(1, gpus=2), node(2, gpus=2))
FILES = configuration(CLUSTER)
DECLARED = DeclaredGres((DeclaredGpu("simulated", simulated=True),) * 2)
GRES = gres_conf(NODE, [GresDevice("simulated", (f"/dev/nvidia{number}",), True) for number in range(2)])
ON_NODE = {**FILES, "gres.conf": GRES}

OURS = {"states": ["IDLE", "DRAIN"], "reason": "hpcstate: NodeName=compute-01 Gres", "reason_user": "root"}
FOREIGN = {"states": ["IDLE", "DRAIN"], "reason": "broken fan", "reason_user": "alice"}
INVALID = {
    "states": ["IDLE", "DRAIN", "INVALID_REG"],
    "reason": "gres/gpu count reported lower than configured (1 < 2)",
    "reason_user": "slurm",
    "memory_mb": 1751,
    "gres": "gpu:simulated:2",
}
IDLE = {"states": ["IDLE"], "reason": "", "reason_user": ""}
DRAIN = "scontrol update nodename=compute-01 state=drain reason="
STAYS = (
    "compute-01 stays drained, as alice wants it: broken fan. "
    "When that is over: scontrol update nodename=compute-01 state=resume"
)
RESUME = "scontrol update nodename=compute-01 state=resume"


def changed(files: Mapping[str, str], old: str, new: str, name: str = "slurm.conf") -> dict[str, str]:
    """``files`` with ``old`` in the place of ``new``: as they were before the change under test."""
    assert new in files[name]
    return {**files, name: files[name].replace(new, old)}


def daemon(active: bool = True, enabled: bool = True, installed: bool = True) -> dict[str, Any]:
    return {"installed": installed, "version": "24.11.5", "active": active, "enabled": enabled}


OFF = daemon(active=False, enabled=False)


def facts(
    current: Mapping[str, str],
    applied: Mapping[str, str] | None = None,
    *,
    slurmctld: Mapping[str, Any] = OFF,
    slurmd: Mapping[str, Any] = OFF,
    node: Any = IDLE,
    jobs: Any = (),
    gpus: int = 2,
    read: Sequence[str] = (),
) -> dict[str, Any]:
    """The facts of a host, whose daemons started after the files ``read`` were changed.

    ``node`` and ``jobs`` may be {"sequence": […]} of successive answers."""
    nodes = {NODE: node} if node and "sequence" not in node else {}
    if isinstance(node, dict) and "sequence" in node:
        nodes = {"sequence": [{NODE: answer} for answer in node["sequence"]]}
    return {
        "facts.slurm.SlurmFiles": {
            "directory=/etc/slurm": dict(current),
            f"directory={slurm_change.APPLIED}": dict(current if applied is None else applied),
        },
        "facts.slurm.SlurmFilesRead": {
            "directory=/etc/slurm": {"slurmctld": list(read), "slurmd": list(read)}
        },
        "facts.slurm.SlurmDaemons": {"slurmctld": slurmctld, "slurmd": slurmd},
        "facts.slurm.SlurmNodes": nodes,
        "facts.slurm.SlurmJobs": {"*": jobs if isinstance(jobs, dict) else list(jobs)},
        "facts.gpu.GpuDevices": simulated_gpus(gpus, "simulated"),
    }


def controller(host: Mapping[str, Any], **options: Any) -> Outcome:
    return run(slurm.controller_daemon, FILES, facts=host, **options)


def compute(host: Mapping[str, Any], **options: Any) -> Outcome:
    return run(slurm.compute_daemon, NODE, FILES, DECLARED, facts=host, **options)


def kinds(outcome: Outcome) -> list[str]:
    """What each command is, in a word or two: scripts by what they do to the daemon."""
    return [_kind(command) for command in outcome.commands]


def _kind(command: str | dict[str, Any]) -> str:
    if isinstance(command, dict):
        if "function" in command:
            return str(command["function"])
        return "stage " + str(command["command"]).splitlines()[-1].split()[1].rpartition("/")[2]
    call = command.splitlines()[0]
    if not call.startswith("unit="):
        return command
    given = dict(word.split("=", 1) for word in shlex.split(call))
    waits = given["unit"] == "slurmd" and given["wait_s"]
    return " ".join(["script:", given["act"] or "nothing", *(["wait"] if waits else [])])


def said(outcome: Outcome) -> str:
    """The message with which the operation stopped the host."""
    return " ".join(str(command.args[0]) for command in outcome.raw if hasattr(command, "args"))


# slurmctld


def test_a_controller_that_is_right_is_left_alone() -> None:
    outcome = controller(facts(FILES, slurmctld=daemon()))
    assert (outcome.commands, len(outcome.noops)) == ([], 1)


def test_a_new_controller_gets_its_files_and_is_started() -> None:
    outcome = controller(facts({}, {}, slurmctld=OFF))
    staged = [f"stage {name}" for name in FILES]
    assert kinds(outcome) == [*staged, "script: start"]
    assert outcome.commands[0]["_stdin"] == FILES["slurm.conf"]  # type: ignore[index]


def test_one_changed_parameter_is_one_file_and_a_reconfigure() -> None:
    outcome = controller(facts(changed(FILES, "SlurmdTimeout=60", "SlurmdTimeout=300"), slurmctld=daemon()))
    assert kinds(outcome) == ["stage slurm.conf", "script: reconfigure"]


def test_a_comment_is_written_and_disturbs_no_daemon() -> None:
    outcome = controller(facts(changed(FILES, "# Message passing", "# MPI"), slurmctld=daemon()))
    assert kinds(outcome) == ["stage slurm.conf", "script: nothing"]


def test_a_changed_port_restarts_slurmctld() -> None:
    before = {**FILES, "slurm.conf": FILES["slurm.conf"] + "SlurmctldPort=7000\n"}
    assert kinds(controller(facts(before, slurmctld=daemon()))) == ["stage slurm.conf", "script: restart"]


def test_a_file_changed_by_hand_is_put_back_without_disturbing_slurmctld() -> None:
    outcome = controller(facts({**FILES, "slurm.conf": "# empty\n"}, FILES, slurmctld=daemon()))
    assert kinds(outcome) == ["stage slurm.conf", "script: nothing"]


def test_a_file_changed_by_hand_that_slurmctld_read_is_put_back_and_read_again() -> None:
    by_hand = changed(FILES, "SlurmdTimeout=60", "SlurmdTimeout=300")
    outcome = controller(facts(by_hand, FILES, slurmctld=daemon(), read=["slurm.conf"]))
    assert kinds(outcome) == ["stage slurm.conf", "script: reconfigure"]
    outcome = controller(facts(by_hand, FILES, slurmctld=daemon(), read=["gres.conf"]))
    assert kinds(outcome) == ["stage slurm.conf", "script: nothing"]


def test_an_interrupted_run_is_taken_up() -> None:
    before = changed(FILES, "SlurmdTimeout=60", "SlurmdTimeout=300")
    outcome = controller(facts(FILES, before, slurmctld=daemon()))
    assert kinds(outcome) == ["script: reconfigure"]


def test_a_daemon_that_was_stopped_is_started() -> None:
    assert kinds(controller(facts(FILES, slurmctld=daemon(active=False)))) == ["script: start"]


def test_a_daemon_that_does_not_start_at_boot_is_enabled_and_not_restarted() -> None:
    outcome = controller(facts(FILES, slurmctld=daemon(enabled=False)))
    assert kinds(outcome) == ["script: nothing"]
    assert " enable=yes " in str(outcome.commands[0]).splitlines()[0]


def test_slurmd_is_turned_off_on_the_controller() -> None:
    outcome = controller(facts(FILES, slurmctld=daemon(), slurmd=daemon(active=False)))
    assert kinds(outcome) == ["systemctl disable --quiet --now slurmd"]


def test_gres_do_not_change_under_running_jobs() -> None:
    host = facts(changed(FILES, "gpu:simulated:1", "gpu:simulated:2"), slurmctld=daemon(), jobs=[12])
    outcome = controller(host)
    assert kinds(outcome) == ["fail"]
    assert "compute-01 (jobs 12)" in said(outcome)
    assert kinds(controller(host, force=True)) == ["stage slurm.conf", "script: reconfigure"]


def test_jobs_do_not_keep_slurmctld_from_a_harmless_change() -> None:
    host = facts(changed(FILES, "SlurmdTimeout=60", "SlurmdTimeout=300"), slurmctld=daemon(), jobs=[12])
    assert kinds(controller(host)) == ["stage slurm.conf", "script: reconfigure"]


def test_a_controller_without_slurmctld_is_stopped() -> None:
    assert kinds(controller(facts({}, slurmctld=daemon(installed=False)))) == ["fail"]


# slurmd


def test_a_node_that_is_right_is_left_alone() -> None:
    outcome = compute(facts(ON_NODE, slurmd=daemon()))
    assert (outcome.commands, len(outcome.noops)) == ([], 1)


def test_a_new_node_is_started_and_waited_for() -> None:
    outcome = compute(facts({}, {}, slurmd=OFF, node=None))
    staged = [f"stage {name}" for name in (*FILES, "gres.conf")]
    assert kinds(outcome) == [*staged, "script: start wait"]
    assert outcome.commands[len(FILES)]["_stdin"] == GRES  # type: ignore[index]


def test_one_changed_parameter_reloads_slurmd_and_drains_nothing() -> None:
    before = changed(ON_NODE, "SlurmdTimeout=60", "SlurmdTimeout=300")
    outcome = compute(facts(before, slurmd=daemon(), jobs=[7]))
    assert kinds(outcome) == ["stage slurm.conf", "script: reload wait"]


def test_a_changed_port_drains_waits_restarts_and_resumes() -> None:
    before = {**ON_NODE, "slurm.conf": ON_NODE["slurm.conf"] + "SlurmdPort=7000\n"}
    host = facts(
        before, slurmd=daemon(), node={"sequence": [IDLE, {**OURS, "reason": "hpcstate: SlurmdPort"}]}
    )
    outcome = compute(host)
    assert kinds(outcome) == [
        DRAIN + "'hpcstate: SlurmdPort'",
        "wait_until_free",
        "stage slurm.conf",
        "script: restart wait",
        RESUME,
    ]


def test_changed_gres_drain_the_node() -> None:
    text = gres_conf(NODE, [GresDevice("simulated", ("/dev/nvidia0",), True)])
    host = facts({**ON_NODE, "gres.conf": text}, slurmd=daemon(), node={"sequence": [IDLE, OURS]})
    outcome = compute(host)
    assert kinds(outcome)[0] == DRAIN + "'hpcstate: Name=compute-01 gpu /dev/nvidia1 added'"
    assert kinds(outcome)[1:] == ["wait_until_free", "stage gres.conf", "script: restart wait", RESUME]


def test_a_foreign_drain_is_respected_and_stays() -> None:
    host = facts({**ON_NODE, "gres.conf": ""}, slurmd=daemon(), node=FOREIGN)
    outcome = compute(host)
    assert kinds(outcome) == ["wait_until_free", "stage gres.conf", "script: restart wait"]
    assert outcome.noops == [STAYS]


def test_our_drain_of_an_interrupted_run_is_lifted() -> None:
    assert compute(facts(ON_NODE, slurmd=daemon(), node=OURS)).commands == [RESUME]


def test_a_run_interrupted_after_the_files_were_written_is_taken_up() -> None:
    before = {**ON_NODE, "gres.conf": ""}
    host = facts(ON_NODE, before, slurmd=daemon(), node=OURS)
    assert kinds(compute(host)) == ["wait_until_free", "script: restart wait", RESUME]


def test_a_node_that_registered_with_less_registers_again_once_it_is_right() -> None:
    """Slurm keeps INVALID_REG until slurmd registers anew; its own drain is its own to explain, and stays."""
    mended = {**INVALID, "states": ["IDLE", "DRAIN"]}
    outcome = compute(facts(ON_NODE, slurmd=daemon(), node={"sequence": [INVALID, mended]}))
    assert kinds(outcome) == ["wait_until_free", "script: restart wait"]
    assert "gres/gpu count reported lower" in outcome.noops[0]


def test_a_node_is_resumed_that_slurm_drained_for_what_the_file_said_before() -> None:
    """Its machine shrank before slurm.conf did (`hpcstate start` of a node that was off)."""
    reason = "Low RealMemory (reported:1470 < 100.00% of configured:1751)"
    invalid = {**INVALID, "reason": reason}
    mended = {**invalid, "states": ["IDLE", "DRAIN"], "memory_mb": 1249}
    outcome = compute(facts(ON_NODE, slurmd=daemon(), node={"sequence": [invalid, mended]}))
    assert kinds(outcome) == ["wait_until_free", "script: restart wait", RESUME]


def test_a_gres_conf_changed_by_hand_under_jobs_is_put_back_and_nothing_restarts() -> None:
    by_hand = {**ON_NODE, "gres.conf": GRES.replace("nvidia1", "nvidia7")}
    outcome = compute(facts(by_hand, ON_NODE, slurmd=daemon(), jobs=[7]))
    assert kinds(outcome) == ["stage gres.conf", "script: nothing"]


def test_a_gres_conf_changed_by_hand_that_slurmd_read_is_put_back_when_the_jobs_have_ended() -> None:
    by_hand = {**ON_NODE, "gres.conf": GRES.replace("nvidia1", "nvidia7")}
    outcome = compute(facts(by_hand, ON_NODE, slurmd=daemon(), read=["gres.conf"]))
    assert kinds(outcome)[0].startswith(DRAIN) and "script: restart wait" in kinds(outcome)


def test_a_node_that_was_vacated_is_started_and_resumed() -> None:
    host = facts({**ON_NODE, "gres.conf": ""}, slurmd=daemon(active=False), node=OURS)
    assert kinds(compute(host)) == ["stage gres.conf", "script: start wait", RESUME]


def test_force_does_not_drain() -> None:
    host = facts({**ON_NODE, "gres.conf": ""}, slurmd=daemon(), jobs=[7])
    assert kinds(compute(host, force=True)) == ["stage gres.conf", "script: restart wait"]


def test_slurmctld_is_turned_off_on_a_compute_node() -> None:
    outcome = compute(facts(ON_NODE, slurmd=daemon(), slurmctld=daemon(active=False)))
    assert kinds(outcome) == ["systemctl disable --quiet --now slurmctld"]


def test_fewer_gpus_than_declared_stop_the_node_with_nothing_changed() -> None:
    outcome = compute(facts({}, {}, slurmd=OFF, gpus=1))
    assert kinds(outcome) == ["fail"]
    assert "compute-01 declares 2 GPUs (2 of type simulated) and has 1 GPU (1 of type simulated)" in said(
        outcome
    )


# vacate


def vacate(host: Mapping[str, Any], **options: Any) -> Outcome:
    return run(slurm.vacate, NODE, FILES, DECLARED, facts=host, **options)


def test_a_node_whose_slurmd_need_not_restart_is_not_vacated() -> None:
    before = changed(ON_NODE, "SlurmdTimeout=60", "SlurmdTimeout=300")
    for host in (facts(ON_NODE, slurmd=daemon()), facts(before, slurmd=daemon()), facts({}, {}, slurmd=OFF)):
        outcome = vacate(host)
        assert (outcome.commands, outcome.noops) == ([], ["compute-01 need not be drained"])


def test_a_node_is_vacated_before_its_gres_change_even_when_the_devices_are_not_there_yet() -> None:
    outcome = vacate(facts({**ON_NODE, "gres.conf": ""}, slurmd=daemon(), gpus=0))
    assert kinds(outcome)[0].startswith(DRAIN)
    assert kinds(outcome)[1:] == ["wait_until_free", "systemctl stop slurmd"]


def test_a_node_whose_slurmd_must_restart_is_vacated_and_a_foreign_drain_respected() -> None:
    before = {**ON_NODE, "slurm.conf": ON_NODE["slurm.conf"] + "SlurmdPort=7000\n"}
    outcome = vacate(facts(before, slurmd=daemon(), node=FOREIGN))
    assert kinds(outcome) == ["wait_until_free", "systemctl stop slurmd"]


def test_real_gpus_that_are_missing_vacate_nothing() -> None:
    declared = DeclaredGres((DeclaredGpu("rtx4060ti", "2805"),))
    host = facts({**ON_NODE, "gres.conf": ""}, slurmd=daemon(), gpus=0)
    assert run(slurm.vacate, NODE, FILES, declared, facts=host).commands == []


def test_a_slurmd_that_comes_with_the_boot_is_stopped_too() -> None:
    before = {**ON_NODE, "gres.conf": ""}
    booting = facts(before, slurmd=daemon(active=False), node={"states": ["DOWN"], "reason": ""})
    assert kinds(vacate(booting))[-1] == "systemctl stop slurmd"


# where slurmctld may not change


def keep(host: Mapping[str, Any], *failed: str) -> Outcome:
    return run(slurm.keep, NODE, FILES, DECLARED, facts=host, controller="controller", failed_hosts=failed)


VACATED = {**ON_NODE, "gres.conf": ""}


def test_slurmctld_that_may_not_change_stops_its_host_before_anything_is_changed() -> None:
    before = changed(FILES, "Gres=gpu:simulated:1", "Gres=gpu:simulated:2")
    asked = facts(before, slurmctld=daemon(), jobs=[7])
    outcome = run(slurm.demand_vacant, FILES, facts=asked)
    assert kinds(outcome) == ["fail"] and "Jobs still hold compute-01 (jobs 7)" in said(outcome)
    assert run(slurm.demand_vacant, FILES, facts=asked, force=True).commands == []
    assert run(slurm.demand_vacant, FILES, facts=facts(before, slurmctld=daemon())).commands == []
    assert run(slurm.demand_vacant, FILES, facts=facts({}, {}, slurmctld=OFF)).commands == []


def test_a_vacated_node_runs_on_as_it_was_where_the_controller_was_stopped() -> None:
    outcome = keep(facts(VACATED, slurmd=daemon(active=False), node=OURS), "controller")
    assert kinds(outcome) == ["systemctl start slurmd", RESUME, "fail"]
    assert "GPUs and Slurm of compute-01 stay as they were" in said(outcome)
    foreign = keep(facts(VACATED, slurmd=daemon(active=False), node=FOREIGN), "controller")
    assert kinds(foreign) == ["systemctl start slurmd", "fail"]


def test_a_node_goes_on_where_nothing_depends_on_the_controller() -> None:
    for outcome in (
        keep(facts(VACATED, slurmd=daemon(active=False), node=OURS), "compute-02"),
        keep(facts(ON_NODE, slurmd=daemon()), "controller"),
    ):
        assert (outcome.commands, outcome.noops) == ([], ["compute-01 goes on"])


def test_slurmd_gets_no_files_that_slurmctld_did_not_take() -> None:
    def changed_after(host: Mapping[str, Any]) -> Outcome:
        return compute(host, controller="controller", failed_hosts=["controller"])

    assert kinds(changed_after(facts(VACATED, slurmd=daemon()))) == ["fail"]
    vacated = changed_after(facts(VACATED, slurmd=daemon(active=False), node=OURS))
    assert kinds(vacated) == ["systemctl start slurmd", RESUME, "fail"]
    new = changed_after(facts({}, {}, slurmd=OFF))
    assert kinds(new) == ["fail"], "one that never ran is not started"
    assert changed_after(facts(ON_NODE, slurmd=daemon())).commands == []


def test_what_a_node_had_less_of_is_there_when_its_gres_conf_grew() -> None:
    low_gres = low("gres/gpu count reported lower than configured (1 < 2)", gres="gpu:simulated:2(S:0)")
    grown = compute(facts(VACATED, slurmd=daemon(), node=low_gres))
    assert kinds(grown)[-1] == RESUME
    same = compute(facts(ON_NODE, slurmd=daemon(), node=low_gres))
    assert same.commands == [], "nothing of ours explains it"


# drain, resume and waiting

ITS_OWN = "compute-01 stays drained, as slurm wants it: "


def low(reason: str, memory_mb: int = 1751, gres: str = "") -> dict[str, Any]:
    """A node that slurmctld drained for ``reason``, and that is registered again."""
    return {
        "states": ["IDLE", "DRAIN"],
        "reason": reason,
        "reason_user": "slurm",
        "memory_mb": memory_mb,
        "gres": gres,
    }


@pytest.mark.parametrize(
    ("known", "commands", "noops"),
    [
        (IDLE, [DRAIN + "'hpcstate: new kernel'"], []),
        (OURS, [], ["compute-01 is already drained: hpcstate: NodeName=compute-01 Gres"]),
        (FOREIGN, [], ["compute-01 is already drained: broken fan"]),
    ],
)
def test_drain(known: Any, commands: list[str], noops: list[str]) -> None:
    outcome = run(slurm.drain, NODE, "new kernel", facts={"facts.slurm.SlurmNodes": {NODE: known}})
    assert (outcome.commands, outcome.noops) == (commands, noops)


def test_drain_of_a_node_that_nobody_knows_stops_the_host() -> None:
    assert kinds(run(slurm.drain, NODE, "x", facts={"facts.slurm.SlurmNodes": {}})) == ["fail"]


@pytest.mark.parametrize(
    ("known", "commands", "noops"),
    [
        (OURS, [RESUME], []),
        (FOREIGN, [], [STAYS]),
        (IDLE, [], ["compute-01 is not drained by hpcstate"]),
        # Slurm's own, for what an earlier slurm.conf said, and for what this one still says.
        (low("Low RealMemory (reported:1470 < 100.00% of configured:1751)", 1470), [RESUME], []),
        (low("Low RealMemory (reported:1470 < 100.00% of configured:1751)", 1751), [], [ITS_OWN]),
        (
            low("gres/gpu count reported lower than configured (1 < 2)", gres="gpu:simulated:1(S:0)"),
            [RESUME],
            [],
        ),
        (low("gres/gpu count reported lower than configured (1 < 2)", gres="gpu:a:1,gpu:b:1"), [], [ITS_OWN]),
        (low("Low RealMemory", 1470), [], [ITS_OWN]),
    ],
)
def test_resume(known: Any, commands: list[str], noops: list[str]) -> None:
    outcome = run(slurm.resume, NODE, facts={"facts.slurm.SlurmNodes": {NODE: known}})
    assert outcome.commands == commands
    assert all(said.startswith(begin) for said, begin in zip(outcome.noops, noops, strict=True))


def test_a_long_reason_is_cut() -> None:
    outcome = run(slurm.drain, NODE, "x" * 500, facts={"facts.slurm.SlurmNodes": {NODE: IDLE}})
    assert len(str(outcome.commands[0])) < 220


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were taken, without taking them."""
    pauses: list[float] = []
    monkeypatch.setattr(gevent, "sleep", pauses.append)
    return pauses


def waiting(jobs: Any, timeout_s: float) -> tuple[bool, Outcome]:
    outcome = run(slurm.drain, NODE, "x", facts={"facts.slurm.SlurmNodes": {NODE: IDLE}})
    outcome.host.recorded = {"facts.slurm.SlurmJobs": {f"node={NODE}": jobs}}
    return slurm_drain.wait_until_free(None, outcome.host, NODE, timeout_s), outcome


def test_jobs_are_waited_for(clock: list[float]) -> None:
    freed, _ = waiting({"sequence": [[7, 8], [8], []]}, 600)
    assert (freed, clock) == (True, [slurm_drain.POLL_SECONDS, slurm_drain.POLL_SECONDS])


def test_waiting_ends_and_says_what_to_do(clock: list[float]) -> None:
    freed, outcome = waiting([7], 12)
    assert (freed, sum(clock)) == (False, 12)
    assert outcome.host.said[0] == "stops here: jobs 7 still hold compute-01 after 12 s."


def test_no_patience_is_no_pause(clock: list[float]) -> None:
    assert waiting([7], 0)[0] is False
    assert clock == []


# -- a login node


def submit_host(current: Mapping[str, str], **daemons: Any) -> Outcome:
    return run(slurm.submit_host, FILES, facts=facts(current, **daemons))


def test_a_login_node_that_is_right_is_left_alone() -> None:
    outcome = submit_host(FILES)
    assert (outcome.commands, len(outcome.noops)) == ([], 1)


def test_a_new_login_node_gets_the_files_and_no_daemon() -> None:
    outcome = submit_host({})
    assert kinds(outcome) == [f"stage {name}" for name in FILES]


def test_one_changed_file_of_a_login_node_is_written_and_no_other() -> None:
    assert kinds(submit_host({**FILES, "slurm.conf": "# old\n"})) == ["stage slurm.conf"]


def test_daemons_of_another_role_are_turned_off_on_a_login_node() -> None:
    outcome = submit_host(FILES, slurmd=daemon(), slurmctld=daemon(active=False))
    assert outcome.commands == [
        "systemctl disable --quiet --now slurmctld",
        "systemctl disable --quiet --now slurmd",
    ]


def test_what_somebody_put_beside_the_files_of_a_login_node_stays() -> None:
    assert submit_host({**FILES, "gres.conf": "# mine\n"}).commands == []
