"""The suite users: who gets in where, with answers that stand in for SSH."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hpcstate.check.runner import load_suites, run_checks
from hpcstate.check.suite import CheckResult
from hpcstate.model import Cluster, Node
from hpcstate.node.base_files import CLOSED
from hpcstate.node.ssh import Live
from hpcstate.run import Result
from tests.unit.fake_live import TWO, FakeLive, a_node

SUITES = load_suites()
(CHECK,) = (check for check in SUITES.checks if check.name == "users.login_node")
WITH = replace(TWO, nodes=(*TWO.nodes, a_node("login-01", 9, "login", gpus=0)))
SHARED = replace(WITH, home="nfs")
NAME = re.compile(r"--job-name=(\S+)")

Said = dict[str, Result]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[Said]:
    """What ssh to a node ends with; where nothing is said all is well: the job prints its name, the
    controller refuses."""
    changes: Said = {}

    def login(live: Live, node: Node, script: str, *, seconds: float = 30) -> Result:
        del seconds
        if node.name in changes:
            return changes[node.name]
        if live.cluster.is_closed(node):
            return Result(("ssh",), 255, "", f"{CLOSED} login-01\nConnection closed\n")
        job = NAME.search(script)
        return Result(("ssh",), 0, f"{job[1]}\n" if job else "", "")

    for name, module in list(sys.modules.items()):
        if name.endswith("test_login") and hasattr(module, "login_node"):
            monkeypatch.setattr(module, "login", login)
    yield changes


def checked(cluster: Cluster) -> CheckResult:
    (result,) = run_checks([CHECK], FakeLive(lambda node, script: "", cluster), lambda _: None)
    return result


@pytest.mark.parametrize(
    ("cluster", "seen"),
    [
        (TWO, "a job from controller"),
        (WITH, "a job from login-01; controller: "),
        (SHARED, "a job from login-01"),
    ],
)
def test_all_is_well(cluster: Cluster, seen: str, said: Said) -> None:
    result = checked(cluster)
    assert (result.outcome, seen in result.observed) == ("passed", True), result


@pytest.mark.parametrize(
    ("node", "code", "stdout", "stderr", "observed"),
    [
        ("login-01", 1, "", "sbatch: error: no slurm.conf", "no slurm.conf"),
        ("login-01", 0, "something else", "", "something else"),
        ("login-01", 255, "", "", "ssh ended with 255"),
        ("controller", 0, "", "", "hpc is in"),
        ("controller", 255, "", "Permission denied (publickey).", "(publickey)"),
    ],
)
def test_what_is_wrong(node: str, code: int, stdout: str, stderr: str, observed: str, said: Said) -> None:
    said[node] = Result(("ssh",), code, stdout, stderr)
    result = checked(SHARED)
    assert (result.outcome, observed in result.observed) == ("failed", True), result
