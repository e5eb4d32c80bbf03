"""The suite monitoring, with answers that stand in for nodes; its programs, with one for curl, too."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate.check.runner import load_suites, run_check
from hpcstate.model.monitoring import MonitoringSettings
from hpcstate.monitoring import places, server
from hpcstate.run import Result
from tests.unit.fake_live import TWO, FakeLive, failing

SUITE = Path("tests/suites/monitoring")
(ANSWERS,) = load_suites().select(name="monitoring.answers")
(GPUS,) = load_suites().select(name="monitoring.gpus")
(CLOSED,) = load_suites().select(name="monitoring.closed")
CLUSTER = replace(TWO, monitoring=MonitoringSettings(on=True))


def up(*without: str, dead: str = "") -> str:
    """What Prometheus says of all exporters, but for those of the jobs ``without``."""
    rows = [
        {
            "metric": {"job": name, "instance": node.name},
            "value": [1, "0" if f"{name} of {node.name}" == dead else "1"],
        }
        for node in CLUSTER.nodes
        for watcher in places.watchers(CLUSTER, node)
        if (name := server.JOB_NAMES[watcher]) not in without
    ]
    return json.dumps({"status": "success", "data": {"result": rows}})


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the next scrape."""
    clock = {"now": 0.0}

    def sleep(seconds: float) -> None:
        clock["now"] += 60

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: clock["now"])


def test_without_monitoring_it_is_skipped() -> None:
    for check in load_suites().select(suite="monitoring"):
        assert run_check(check, FakeLive(lambda node, script: "", TWO)).outcome == "skipped"


@pytest.mark.parametrize(
    ("answer", "outcome", "said"),
    [
        (up(), "passed", ""),
        (up("cgroup"), "failed", "cgroup of compute-01, cgroup of compute-02"),
        (up(dead="process of compute-02"), "failed", "no answer: process of compute-02"),
        (failing(22, "curl: (22) 401"), "failed", "curl: (22) 401"),
        ("", "failed", "exit code 0"),
    ],
)
def test_every_exporter_answers(answer: str | Result, outcome: str, said: str) -> None:
    found = run_check(
        ANSWERS, FakeLive(lambda node, script: "100\n" if script.startswith("date") else answer, CLUSTER)
    )
    assert found.outcome == outcome
    assert said in str(found)


WITH_GPUS = replace(CLUSTER, monitoring=MonitoringSettings(on=True, gpus=True))


def gpus(*told: tuple[str, str], simulated: bool = True) -> str:
    """What Prometheus says of GPUs: node and number."""
    mark = {"simulated": "true"} if simulated else {}
    labels = [{"instance": node, "gpu": gpu, **mark} for node, gpu in told]
    rows = [{"metric": each, "value": [1, "0"]} for each in labels]
    return json.dumps({"status": "success", "data": {"result": rows}})


EVERY = [(node.name, gpu) for node in CLUSTER.workers for gpu in "01"]


@pytest.mark.parametrize(
    ("answer", "outcome", "said"),
    [
        (gpus(*EVERY), "passed", ""),
        # Twice by MIG is one.
        (gpus(*EVERY, EVERY[0]), "passed", ""),
        (gpus(*EVERY[1:]), "failed", "compute-01: 1 of 2 simulated"),
        (gpus(*EVERY[:2]), "failed", "compute-02: 0 of 2 simulated"),
        (gpus(*EVERY, ("compute-02", "2")), "failed", "compute-02: 3 of 2 simulated"),
        (gpus(*EVERY, simulated=False), "failed", "compute-01: 2 of 0"),
    ],
)
def test_every_gpu_tells_of_itself(answer: str, outcome: str, said: str) -> None:
    live = FakeLive(lambda node, script: "100\n" if script.startswith("date") else answer, WITH_GPUS)
    found = run_check(GPUS, live)
    assert (found.outcome, said in str(found)) == (outcome, True), found


def test_gpus_that_nobody_asks_for_are_not_looked_at() -> None:
    assert run_check(GPUS, FakeLive(lambda node, script: "", CLUSTER)).outcome == "skipped"


@pytest.mark.parametrize(
    ("description", "broken", "mended"),
    [
        (
            "the exporter of GPUs is stopped on a node",
            "systemctl stop hpcstate-gpu-exporter",
            "systemctl start hpcstate-gpu-exporter",
        ),
        ("a GPU of a node is gone", "mv /dev/nvidia0", ".hpcstate-kept /dev/nvidia0"),
    ],
)
def test_a_fault_of_gpus_is_made_and_undone(description: str, broken: str, mended: str) -> None:
    (made,) = [each for each in load_suites().faults if each.description == description]
    idle = (Path("tests/facts/slurm.SlurmNodes/normal_idle.txt")).read_text()
    live = FakeLive(lambda node, script: idle if "scontrol" in script else "1\n", WITH_GPUS)
    with made.injected(live):
        (node, user, script), *_ = live.scripts
        assert (node, user) == ("compute-02", "root") and broken in script
        assert not any(mended in each for _, _, each in live.scripts)
    assert any(mended in each for _, _, each in live.scripts)


@pytest.mark.parametrize("bad", ["", "compute-01"])
def test_a_port_that_answers_a_compute_node_is_found(bad: str) -> None:
    found = run_check(
        CLOSED, FakeLive(lambda node, script: "open 192.0.2.1 9100\n" if node == bad else "", CLUSTER)
    )
    assert found.outcome == ("failed" if bad else "passed")
    assert not bad or "192.0.2.1 9100 from compute-01" in str(found)


def test_a_node_does_not_knock_at_its_own_ports() -> None:
    live = FakeLive(lambda node, script: "", CLUSTER)
    run_check(CLOSED, live)
    address = {node.name: str(node.address) for node in CLUSTER.nodes}
    asked = {node: script for node, _, script in live.scripts}
    assert set(asked) == {"compute-01", "compute-02"}
    for node, script in asked.items():
        assert f"{address[node]}:" not in script and f"{address['controller']}:9090" in script


def test_the_program_that_knocks_tells_an_open_port_from_a_closed_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as there, socket.create_server(("127.0.0.1", 0)) as gone:
        ports = [each.getsockname()[1] for each in (there, gone)]
        gone.close()
        done = subprocess.run(
            ["dash", SUITE / "knock.sh", *(f"127.0.0.1:{port}" for port in ports)],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    assert done.stdout == f"open 127.0.0.1 {ports[0]}\n"


def test_the_password_is_no_word_of_a_command(tmp_path: Path) -> None:
    (tmp_path / "scrape.password").write_text("a secret\n")
    curl = tmp_path / "curl"
    curl.write_text('#!/bin/sh\nfor word; do echo "word $word"; done\ncat\n')
    curl.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.defpath}", "name": "controller", "at": "127.0.0.1:9090"}
    done = subprocess.run(
        ["dash", SUITE.parent / "prometheus_ask.sh", 'up{job="a b"}'],
        env={**env, "folder": str(tmp_path), "user": "scrape"},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    words = [line.removeprefix("word ") for line in done.stdout.splitlines()]
    assert words[-1] == 'user = "scrape:a secret"'
    assert not [word for word in words[:-1] if "secret" in word]
    assert 'query=up{job="a b"}' in words and "https://controller:9090/api/v1/query" in words
    assert "::127.0.0.1:9090" in words
