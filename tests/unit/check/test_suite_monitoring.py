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
from hpcstate.monitoring import files, places
from hpcstate.run import Result
from tests.unit.fake_live import TWO, FakeLive, failing

SUITE = Path("tests/suites/monitoring")
(ANSWERS,) = load_suites().select(name="monitoring.answers")
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
        if (name := files.JOB_NAMES[watcher]) not in without
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
