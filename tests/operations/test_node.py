"""The operations on munge, GPUs, cgroups, files and services of a node."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hpcstate import programs
from hpcstate.probe.gpu import MARKER
from hpcstate.probe.nvidia_smi import NvidiaSmi
from hpcstate.slurm.gres import DeclaredGpu, DeclaredGres
from operations import cgroup, gpu, gres, munge, services, slurm, text_files
from operations.gpu import TMPFILES
from operations.text_files import TextFile
from tests.operations.harness import Outcome, run
from tests.operations.test_slurm import IDLE
from tests.unit.gpu_hosts import (
    FIRST,
    SECOND,
    a_gpu,
    a_log,
    a_topology,
    an_smi,
    simulated_gpus,
    some_gpus,
)

NODE = "compute-01"


def stopped(outcome: Outcome) -> str:
    """The message with which the operation stopped the host; it did nothing else."""
    (command,) = outcome.commands
    assert isinstance(command, dict)
    assert command["function"] == "fail"
    return str(command["args"][0])


def state(content: str, mode: str = "644", owner: str = "root:root", pending: bool = False) -> dict[str, Any]:
    return {
        "mode": mode,
        "owner": owner,
        "sha256": hashlib.sha256(content.encode()).hexdigest(),
        "pending": pending,
    }


# munge


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "munge.key"
    path.write_bytes(bytes(range(256)) * 4)
    return path


RIGHT_KEY = {
    "sha256": hashlib.sha256(bytes(range(256)) * 4).hexdigest(),
    "user": "munge",
    "group": "munge",
    "mode": "400",
}


@pytest.mark.parametrize(
    "present", [{}, {**RIGHT_KEY, "sha256": "0"}, {**RIGHT_KEY, "mode": "644"}, {**RIGHT_KEY, "user": "root"}]
)
def test_the_munge_key_is_installed_when_it_is_another_or_open(key: Path, present: dict[str, str]) -> None:
    outcome = run(munge.key, str(key), facts={"facts.munge.MungeKey": present})
    (command,) = outcome.commands
    assert isinstance(command, dict)
    assert base64.b64decode(command["_stdin"]) == key.read_bytes()
    assert base64.b64encode(key.read_bytes())[:20].decode() not in command["command"]
    assert command["command"].startswith("set -- /etc/munge/munge.key\n")


@pytest.mark.parametrize(
    ("sent", "code", "kept"),
    [(base64.b64encode(b"new\0key").decode(), 0, b"new\0key"), ("no base64!", 1, b"the old one")],
)
def test_munge_gets_its_key_whole_or_keeps_the_one_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: str, code: int, kept: bytes
) -> None:
    for name in ("chown", "systemctl"):
        stand_in = tmp_path / name
        stand_in.write_text(f'#!/bin/sh\necho "{name} $*" >>"{tmp_path}/calls"\n')
        stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    path = tmp_path / "it's" / "munge.key"
    path.parent.mkdir()
    path.write_bytes(b"the old one")
    text = programs.command(programs.REPLACE, munge.INSTALL, arguments=[path])
    done = subprocess.run(["sh", "-c", text], input=sent, text=True, capture_output=True, check=False)
    assert (done.returncode, path.read_bytes()) == (code, kept)
    if code == 0:
        assert stat.S_IMODE(path.stat().st_mode) == 0o400
        assert (tmp_path / "calls").read_text().splitlines() == [
            f"chown munge:munge {path}.hpcstate-new",
            "systemctl reset-failed munge",
            "systemctl try-restart munge",
        ]


def test_the_right_munge_key_restarts_nothing(key: Path) -> None:
    outcome = run(munge.key, str(key), facts={"facts.munge.MungeKey": RIGHT_KEY})
    assert (outcome.commands, len(outcome.noops)) == ([], 1)


@pytest.mark.parametrize(("active", "enabled"), [(False, True), (True, False), (False, False)])
def test_munge_is_turned_on(active: bool, enabled: bool) -> None:
    daemon = {"installed": True, "version": "0.5", "active": active, "enabled": enabled}
    (command,) = run(munge.daemon, facts={"facts.slurm.SlurmDaemons": {"munge": daemon}}).commands
    assert "; systemctl enable --quiet munge && systemctl start munge && " in str(command)
    # One that crashed too often may not start before that (systemd.unit(5), StartLimitBurst=).
    assert str(command).startswith("systemctl reset-failed munge")


def test_munge_that_runs_is_left_alone_and_one_that_is_missing_stops_the_host() -> None:
    daemon = {"installed": True, "version": "0.5", "active": True, "enabled": True}
    assert run(munge.daemon, facts={"facts.slurm.SlurmDaemons": {"munge": daemon}}).commands == []
    daemon["installed"] = False
    assert "not installed" in stopped(
        run(munge.daemon, facts={"facts.slurm.SlurmDaemons": {"munge": daemon}})
    )


# simulated GPUs

CONF = (
    "# Simulated GPUs, made by hpcstate: device nodes without hardware behind them.\n"
    "c /dev/nvidia0 0666 root root - 195:0\n"
    "c /dev/nvidia1 0666 root root - 195:1\n"
)
MARK = json.dumps({"gres_type": "simulated", "count": 2}) + "\n"


def gpus(
    count: int, files: dict[str, Any], *, present: int = 0, driver: str = "", jobs: list[int] | None = None
) -> Outcome:
    facts = {
        "facts.text_files.TextFiles": {"*": files},
        "facts.gpu.GpuDevices": {**simulated_gpus(present, "simulated"), "driver": driver},
        "facts.slurm.SlurmJobs": {"*": jobs or []},
    }
    return run(gpu.simulated_devices, NODE, count, "simulated", facts=facts)


BOTH = {TMPFILES: state(CONF), MARKER: state(MARK)}


def test_simulated_gpus_are_made_now_and_for_every_boot() -> None:
    conf, mark, create = gpus(2, {}).commands
    assert isinstance(conf, dict)
    assert isinstance(mark, dict)
    assert (conf["_stdin"], mark["_stdin"]) == (CONF, MARK)
    assert create == f"systemd-tmpfiles --create {TMPFILES}"


def test_simulated_gpus_that_are_there_are_left_alone() -> None:
    assert gpus(2, BOTH, present=2).commands == []
    assert gpus(0, {}).commands == []


@pytest.mark.parametrize("files", [{TMPFILES: state(CONF)}, {**BOTH, TMPFILES: state("old\n")}])
def test_a_file_that_is_missing_or_old_is_written_again(files: dict[str, Any]) -> None:
    assert len(gpus(2, files, present=2).commands) == 3


def test_a_device_node_that_is_gone_is_made_again() -> None:
    assert gpus(2, BOTH, present=1).commands[-1] == f"systemd-tmpfiles --create {TMPFILES}"


def test_simulated_gpus_are_removed() -> None:
    assert gpus(0, BOTH, present=2).commands == [f"rm -f {TMPFILES} {MARKER} /dev/nvidia0 /dev/nvidia1"]


def test_a_lowered_count_removes_the_rest() -> None:
    assert gpus(1, BOTH, present=2).commands[-2:] == [
        "rm -f /dev/nvidia1",
        f"systemd-tmpfiles --create {TMPFILES}",
    ]


def test_no_device_is_removed_under_a_job() -> None:
    assert "jobs 7 hold compute-01" in stopped(gpus(1, BOTH, present=2, jobs=[7]))


def test_gpus_are_not_simulated_beside_real_ones() -> None:
    assert "550.1" in stopped(gpus(2, BOTH, present=2, driver="550.1"))
    assert gpus(0, BOTH, driver="550.1").commands == [f"rm -f {TMPFILES} {MARKER}"]


# declared GPUs


TWO_SIMULATED = DeclaredGres((DeclaredGpu("simulated", simulated=True),) * 2)


def test_missing_gpus_stop_the_node() -> None:
    facts = {"facts.gpu.GpuDevices": simulated_gpus(1, "simulated")}
    said = stopped(run(gres.require, NODE, TWO_SIMULATED, facts=facts))
    assert "2 GPUs (2 of type simulated) and has 1 GPU" in said


REAL = DeclaredGres((DeclaredGpu("h100", "2330"),) * 2)
LOST_SMI = an_smi(state="failed", code=15, gpus=[], lost=[{"address": SECOND, "reason": "GPU is lost."}])


def health(smi: NvidiaSmi, nodes: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The facts of a node with two H100 of which nvidia-smi says ``smi``."""
    return {
        "facts.gpu.GpuDevices": some_gpus(**changes),
        "facts.gpu.NvidiaSmi": smi,
        "facts.gpu.NvidiaTopology": a_topology(),
        "facts.gpu.XidMessages": a_log(),
        "facts.slurm.SlurmNodes": nodes,
    }


def test_what_health_calls_unusable_is_not_offered() -> None:
    """shine-cluster#171: a GPU off the bus, still in /proc; Slurm knows the node, and drains it."""
    drain, stop = run(gres.require, NODE, REAL, facts=health(LOST_SMI, {NODE: IDLE})).commands
    assert drain == (
        f"scontrol update nodename={NODE} state=drain "
        f"reason='hpcstate: GPU {SECOND}: nvidia-smi cannot open it: GPU is lost.'"
    )
    said = str(stop)
    assert "must give no jobs to" in said
    assert SECOND in said
    assert FIRST not in said


@pytest.mark.parametrize("nodes", [{}, {NODE: {**IDLE, "states": ["IDLE", "DRAIN"]}}])
def test_a_node_that_takes_no_jobs_is_only_stopped(nodes: dict[str, Any]) -> None:
    assert "must give no jobs to" in stopped(run(gres.require, NODE, REAL, facts=health(LOST_SMI, nodes)))


def test_a_healthy_gpu_stands_in_for_one_that_is_not() -> None:
    outcome = run(gres.require, NODE, DeclaredGres(REAL.gpus[:1]), facts=health(LOST_SMI, {}))
    assert (outcome.commands, len(outcome.noops)) == ([], 1)


def test_healthy_gpus_are_offered() -> None:
    outcome = run(gres.require, NODE, REAL, facts=health(an_smi(), {}))
    assert (outcome.commands, len(outcome.noops)) == ([], 1)


def test_slurmd_is_not_given_one_either() -> None:
    facts = health(LOST_SMI, {NODE: IDLE})
    outcome = run(slurm.compute_daemon, NODE, {}, REAL, facts=facts)
    drain, stop = outcome.commands
    assert str(drain).startswith("scontrol update")
    assert "must give no jobs to" in str(stop)


def test_one_that_is_gone_after_a_reboot_needs_the_power_off() -> None:
    gone = some_gpus(devices=some_gpus()["devices"][:1], bus=[FIRST])
    facts = health(an_smi(a_gpu()), {}) | {"facts.gpu.GpuDevices": gone}
    said = stopped(run(gres.require, NODE, REAL, facts=facts))
    assert "has 1 of 2 GPUs" in said
    assert "power the hypervisor off" in said
    assert "lspci" not in said


def test_a_node_with_its_gpus_is_right() -> None:
    facts = {"facts.gpu.GpuDevices": simulated_gpus(3, "simulated")}
    outcome = run(gres.require, NODE, TWO_SIMULATED, facts=facts)
    assert (outcome.commands, len(outcome.noops)) == ([], 1)


# cgroup


@pytest.mark.parametrize(
    ("version", "controllers", "message"),
    [
        (1, ["cpuset", "cpu", "memory", "pids"], "has cgroup version 1"),
        (0, [], "has cgroup version 0"),
        (2, ["cpuset", "cpu", "pids"], "no cgroup controller memory"),
    ],
)
def test_a_host_that_cannot_isolate_is_stopped(version: int, controllers: list[str], message: str) -> None:
    facts = {"version": version, "controllers": controllers, "subtree_control": []}
    assert message in stopped(run(cgroup.require, facts={"facts.cgroup.CgroupControllers": facts}))


def test_a_host_with_all_controllers_is_right() -> None:
    facts = {"version": 2, "controllers": ["cpuset", "cpu", "io", "memory", "pids"], "subtree_control": []}
    assert run(cgroup.require, facts={"facts.cgroup.CgroupControllers": facts}).commands == []


# files

MOTD = TextFile("/etc/motd", "hello\n")
SSHD = TextFile("/etc/ssh/a.conf", "A yes\n", then="systemctl reload ssh")
MORE = TextFile("/etc/ssh/b.conf", "B yes\n", mode="600", then="systemctl reload ssh")
ALL = (MOTD, SSHD, MORE)
AS_WANTED = {file.path: state(file.content, file.mode) for file in ALL}


def put(states: dict[str, Any]) -> Outcome:
    return run(text_files.put, ALL, facts={"facts.text_files.TextFiles": {"*": states}})


def test_files_that_are_right_are_left_alone() -> None:
    assert put(AS_WANTED).commands == []


def test_new_files_are_written_and_their_command_runs_once() -> None:
    *written, then = put({}).commands
    assert [command["_stdin"] for command in written if isinstance(command, dict)] == [
        file.content for file in ALL
    ]
    assert then == (
        "{ systemctl reload ssh; } && rm -f /etc/ssh/a.conf.hpcstate-pending /etc/ssh/b.conf.hpcstate-pending"
    )


@pytest.mark.parametrize(
    "other",
    [
        state("old\n"),
        state(SSHD.content, mode="666"),
        state(SSHD.content, owner="hpc:hpc"),
        state(SSHD.content, pending=True),
    ],
)
def test_only_the_file_that_differs_is_written(other: dict[str, Any]) -> None:
    written, then = put({**AS_WANTED, SSHD.path: other}).commands
    assert isinstance(written, dict)
    assert written["command"].splitlines()[-1] == (
        "replace_file /etc/ssh/a.conf 644 '' /etc/ssh/a.conf.hpcstate-pending"
    )
    assert then == "{ systemctl reload ssh; } && rm -f /etc/ssh/a.conf.hpcstate-pending"


def test_files_are_removed_where_they_are() -> None:
    facts: dict[str, Any] = {"facts.text_files.TextFiles": {"*": {"/etc/a b": state("")}}}
    assert run(text_files.absent, ["/etc/a b", "/etc/c"], facts=facts).commands == ["rm -f '/etc/a b'"]
    facts = {"facts.text_files.TextFiles": {"*": {}}}
    assert run(text_files.absent, ["/etc/c"], facts=facts).commands == []


# services


def service_facts(enabled: dict[str, bool], active: dict[str, bool]) -> dict[str, Any]:
    return {"systemd.SystemdEnabled": {"*": enabled}, "systemd.SystemdStatus": {"*": active}}


def test_services_are_turned_on_and_off() -> None:
    facts = service_facts({"a.service": False, "b.service": True}, {"b.service": True})
    assert run(services.state, ["a.service"], ["b.service"], facts=facts).commands == [
        "systemctl enable --quiet a.service",
        "systemctl start a.service",
        "systemctl disable --quiet --now b.service",
    ]


def test_services_that_are_right_are_left_alone() -> None:
    facts = service_facts({"a.service": True}, {"a.service": True})
    assert run(services.state, ["a.service"], ["gone.service"], facts=facts).commands == []


def test_an_image_enables_and_starts_nothing() -> None:
    facts = service_facts({"b.service": True}, {})
    outcome = run(services.state, ["a.service"], ["b.service"], now=False, facts=facts)
    assert outcome.commands == [
        "systemctl enable --quiet a.service",
        "systemctl disable --quiet b.service",
    ]
    assert ("systemd.SystemdStatus") not in {fact for fact, _ in outcome.host.asked}
