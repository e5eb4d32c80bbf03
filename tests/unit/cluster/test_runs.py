"""What nodes should run, Slurm's note without a deploy, and what status makes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpcstate import paths
from hpcstate.artifact.store import Manifest
from hpcstate.cluster import runs, status
from hpcstate.cluster.status import ClusterStatus, NodeStatus
from hpcstate.errors import HpcstateError
from hpcstate.model import ContainerSettings
from hpcstate.node.runs import RunsDifference
from tests.unit.fake_live import TWO, FakeLive

KEY = "0f3a5c7e9b1d" + "0" * 52


def test_what_the_nodes_should_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "hpc-base.qcow2"
    image.write_text("x")
    manifest = Manifest(key=KEY, digest="d", size=1, duration=0.0, inputs={}, versions={}, mtime_ns=0)
    paths.sidecar(image).write_text(manifest.to_json())

    def built(name: str) -> SimpleNamespace:
        if name == "unbuilt":
            raise HpcstateError("not built")
        return SimpleNamespace(stored=SimpleNamespace(digest="a" * 64))

    monkeypatch.setattr(runs, "built", built)
    nodes = tuple(replace(node, image=str(image)) for node in TWO.nodes)
    cluster = replace(TWO, nodes=nodes, containers=ContainerSettings(deploy=("torch", "unbuilt")))
    found = runs.desired(cluster)
    assert list(found) == ["compute-01", "compute-02"]
    assert {key: value for key, value in found["compute-01"].items() if key != "configuration"} == {
        "image": "hpc-base-0f3a5c7e9b1d",
        "container.torch": "a" * 12,
    }
    image.unlink()
    assert "image" not in runs.desired(cluster)["compute-01"]


def test_a_note_is_brought_up_to_date_without_a_deploy() -> None:
    told = {"image": "hpc-base-0f3a5c7e9b1d", "configuration": "c"}
    extras = {"compute-01": json.dumps(told), "compute-02": "", "compute-03": "rack 7"}
    commands = runs.note_commands(dict.fromkeys(extras, told), extras)
    assert len(commands) == 1
    assert commands[0].startswith("scontrol update nodename=compute-02 extra=")


def test_a_silent_controller_is_left_to_the_next_deploy() -> None:
    live = FakeLive(lambda node, script: "")
    live.__class__ = type("Entered", (FakeLive,), {"__enter__": lambda s: s, "__exit__": lambda *_: None})
    said: list[str] = []
    runs.note(TWO, said.append, open_live=lambda _: live)
    assert said == []
    assert not [script for _, _, script in live.scripts if "scontrol update" in script]


def shown(*nodes: NodeStatus) -> str:
    return status.as_text(ClusterStatus("lab", "hpc", nodes, "", (), ()))


def a_status(name: str, runs: dict[str, str], *other: RunsDifference) -> NodeStatus:
    return NodeStatus(
        name=name,
        role="compute",
        address="10.0.0.1",
        domain="running",
        slurm="IDLE",
        reason="",
        gres="",
        gres_used="",
        simulated_gpus=0,
        cpu_cores=2,
        memory_mb=2048,
        runs=runs,
        runs_other=other,
    )


def test_status_says_what_is_old_where_and_how_to_change_it() -> None:
    old = RunsDifference("image", "hpc-base-a", "hpc-base-b")
    text = shown(
        a_status("compute-01", {"image": "hpc-base-a"}, old),
        a_status("compute-02", {"image": "hpc-base-a"}, old),
        a_status("compute-03", {"image": "hpc-base-b"}),
        a_status("compute-04", {}, old),
    )
    lines = text.splitlines()
    assert [("old image" in line, "current" in line) for line in lines[2:6]] == [
        (True, False),
        (True, False),
        (False, True),
        (False, False),
    ]
    assert "  compute-[01-02]: image hpc-base-a -> hpc-base-b (`hpcstate roll start FILE`)" in lines
    assert "Slurm has no note of what runs on compute-04: `./hpc up FILE` makes one" in lines


def test_status_for_programs_has_running_against_desired() -> None:
    report = ClusterStatus(
        "lab", "hpc", (a_status("compute-01", {"image": "a"}, RunsDifference("image", "a", "b")),), "", (), ()
    )
    (node,) = json.loads(json.dumps(report.to_dict()))["nodes"]
    assert node["runs"] == {"image": "a"}
    assert node["runs_other"] == [{"key": "image", "running": "a", "desired": "b"}]
