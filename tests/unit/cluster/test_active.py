"""Active checks from this machine: by jobs, directly where there may be none, and the gate of a roll."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, cast

import pytest

from hpcstate.cluster import active, roll
from hpcstate.errors import HpcstateError
from hpcstate.health.decide import PREFIX
from hpcstate.health.files import FOLDER
from hpcstate.model import Cluster
from hpcstate.probe.slurm import SlurmNode
from hpcstate.run import Result
from tests.unit.fake_live import TWO, FakeLive

ON = replace(TWO, health=replace(TWO.health, on=True))
SOUND = {"node": "compute-01", "check": "memory", "result": "ok", "severity": "", "detail": "10 GB/s"}
BAD = {**SOUND, "result": "failed", "severity": "isolate", "detail": "3 wrong results"}
SLOW = {**SOUND, "result": "failed", "severity": "watch", "detail": "20 % slower"}
MEASURED = '{"memory": {"memory_gb_s": 1, "why": "it\'s"}}'


def made(stdout: str, code: int) -> Result:
    return Result(("sh",), code, stdout, "")


class Fake(FakeLive):
    """A cluster whose programs say ``lines``; ``bench`` is what that of a node ends with."""

    def __init__(self, *lines: object, bench: int = 0, there: bool = True, cluster: Cluster = ON) -> None:
        self.lines, self.bench, self.there = lines, bench, there
        super().__init__(self.say, cluster)

    def say(self, node: str, script: str) -> Result | str:
        if script.startswith("test -x"):
            return made("", 0 if self.there else 1)
        if f"{FOLDER}/bench" in script:
            return made(MEASURED, self.bench)
        assert node == "controller"
        return "\n".join(line if isinstance(line, str) else json.dumps(line) for line in self.lines)


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    nodes = {name: {"states": ["IDLE"], "reason": ""} for name in ("compute-01", "compute-02")}
    monkeypatch.setattr(active, "_nodes", lambda *_: nodes)
    return nodes


def asked(live: FakeLive) -> list[tuple[str, str]]:
    return [(node, script) for node, _, script in live.scripts]


def test_off_there_is_nothing_to_run(slurm: dict[str, Any]) -> None:
    with pytest.raises(HpcstateError, match="health, which is off"):
        active.run(TWO, Fake(cluster=TWO), deep=False, names=[])


def test_all_nodes_by_jobs(slurm: dict[str, Any]) -> None:
    live = Fake(SOUND, "jobs wait for resources: nothing is measured")
    found = active.run(ON, live, deep=True, names=[])
    assert asked(live) == [("controller", f"{FOLDER}/active --deep")]
    assert active.text(found[0]) == "compute-01 memory: ok: 10 GB/s"
    assert found[1]["result"] == "none" and "jobs wait" in active.text(found[1])


def test_a_node_that_active_checks_drained_is_measured_directly(slurm: dict[str, Any]) -> None:
    slurm["compute-01"] = {"states": ["IDLE", "DRAIN"], "reason": f"{PREFIX}node: active-memory: slow"}
    live = Fake(SOUND, {"node": "compute-01", "resume": "x"})
    found = active.run(ON, live, deep=False, names=["compute-01"])
    (first, second) = asked(live)
    assert first == ("compute-01", f"{FOLDER}/bench light")
    assert second[0] == "controller" and second[1].endswith(f"{FOLDER}/active --given compute-01")
    assert active.text(found[-1]) == "compute-01: resume: x"
    slurm["compute-01"]["reason"] = "fan"
    with pytest.raises(HpcstateError, match=r"is drained \(fan\)"):
        active.run(ON, live, deep=False, names=["compute-01"])
    with pytest.raises(HpcstateError, match="no node 'x'"):
        active.run(ON, live, deep=False, names=["x"])


def gate(live: Fake, name: str = "compute-01", cluster: Cluster = ON) -> list[str]:
    said: list[str] = []
    active.gate(cluster, name, said.append, open_live=lambda _: cast(Any, nullcontext(live)))
    return said


def test_the_gate() -> None:
    assert gate(Fake(SOUND)) == ["compute-01: compute-01 memory: ok: 10 GB/s"]
    assert "slower" in gate(Fake(SLOW))[0]
    with pytest.raises(HpcstateError, match="does not pass the active checks: memory: 3 wrong results"):
        gate(Fake(BAD))
    assert "it has jobs" in gate(Fake(bench=3))[0] and "a deploy brings" in gate(Fake(there=False))[0]
    with pytest.raises(HpcstateError, match="could not be made"):
        gate(Fake(bench=2))


@pytest.mark.parametrize(
    ("cluster", "name"),
    [
        (TWO, "compute-01"),
        (ON, "controller"),
        (replace(ON, health=replace(ON.health, gate=False)), "compute-01"),
    ],
)
def test_no_gate(cluster: Cluster, name: str) -> None:
    live = Fake(BAD)
    assert gate(live, name, cluster) == [] and live.scripts == []


def test_a_node_that_health_drained_may_go_off_and_on() -> None:
    def drained(reason: str) -> SlurmNode:
        return cast(SlurmNode, {"states": ["IDLE", "DRAIN"], "reason": reason})

    nodes = {
        "a": drained("fan"),
        "b": drained(f"{PREFIX}node: memory: less"),
        "c": drained("hpcstate: stop"),
    }
    assert roll.of_others(nodes) == {"a": "fan"}
