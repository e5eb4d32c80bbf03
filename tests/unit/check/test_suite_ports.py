"""The check users.ports: connections to the hypervisor's ports, with answers that stand in for both sides."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import pytest

from hpcstate.check.runner import load_suites, run_checks
from hpcstate.check.suite import CheckResult
from hpcstate.hypervisor import ports
from hpcstate.hypervisor.machine import MachineDifference
from hpcstate.model import Cluster, PortForward
from tests.unit.fake_live import TWO, FakeLive

(CHECK,) = (check for check in load_suites().checks if check.name == "users.ports")
SSH = PortForward(2222, "controller")
BOTH = replace(TWO, network=replace(TWO.network, ports=(SSH, PortForward(53, "compute-01", 53, "udp"))))
OLD, NEW = "0 0 10.0.0.10:22 10.0.0.9:4000", "0 0 10.0.0.10:22 10.0.0.1:5000"


def checked(
    monkeypatch: pytest.MonkeyPatch,
    cluster: Cluster,
    *,
    arrives: bool = True,
    listens: bool = True,
    rows: Sequence[MachineDifference] = (),
) -> CheckResult:
    asked: list[str] = []

    def answer(node: str, script: str) -> str:
        if "-Hltn" in script:
            return "LISTEN 0 128 0.0.0.0:22" if listens else ""
        asked.append(node)
        return f"{OLD}\n{NEW}\n" if arrives and len(asked) > 1 else OLD

    monkeypatch.setattr(ports, "shell_of", lambda uri, root: lambda program: "")
    monkeypatch.setattr(ports, "differences", lambda cluster: list(rows))
    for name, module in list(sys.modules.items()):
        if name.endswith("test_ports") and hasattr(module, "_SEEN_SECONDS"):
            monkeypatch.setattr(module, "_SEEN_SECONDS", 1)
    (result,) = run_checks([CHECK], FakeLive(answer, cluster), lambda _: None)
    return result


def test_a_connection_that_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    result = checked(monkeypatch, BOTH)
    assert (result.outcome, result.observed) == (
        "passed",
        "2222 leads to controller:22; 53/udp listens",
    ), result


def test_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    result = checked(monkeypatch, BOTH, arrives=False)
    assert (result.outcome, result.observed) == ("failed", "none did"), result


def test_a_node_where_nothing_listens_is_no_fault_of_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    result = checked(monkeypatch, BOTH, listens=False)
    assert (result.outcome, result.observed) == ("passed", "2222/tcp listens; 53/udp listens"), result


def test_a_port_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    row = MachineDifference("hypervisor", "port 2222", "off", "controller:22", "live")
    result = checked(monkeypatch, BOTH, rows=[row])
    assert result.outcome == "failed" and "port 2222" in result.observed, result


def test_without_ports_there_is_nothing_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checked(monkeypatch, TWO).outcome == "skipped"
