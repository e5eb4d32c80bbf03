"""Active checks: what a measurement means, who is drained for it, and when none is made."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hpcstate.health import active
from hpcstate.health.active import Measured, drains, idle, others_wait, outcomes, pairs
from hpcstate.health.bench import SOURCE
from hpcstate.health.decide import PREFIX, AtSlurm

SOUND = {"memory": {"memory_gb_s": 10.0, "wrong": 0}, "disk": {"disk_mb_s": 200.0, "wrong": 0}}


def past(value: float, count: int = 8, node: str = "a", check: str = "memory") -> list[dict[str, Any]]:
    row = {"node": node, "check": check, "value": value, "result": "ok"}
    return [row] * count


def only(said: dict[str, Any], rows: list[dict[str, Any]] | None = None) -> Measured:
    (found,) = outcomes("a", said, rows or [])
    return found


def test_a_sound_node() -> None:
    found = outcomes("a", SOUND, past(10.2))
    assert [(each.check, each.result, each.value) for each in found] == [
        ("memory", "ok", 10.0),
        ("disk", "ok", 200.0),
    ]
    assert drains(found) == {}


def test_a_node_that_got_a_fifth_slower_is_found_and_watched() -> None:
    found = only({"memory": {"memory_gb_s": 8.0, "wrong": 0}}, past(10.0))
    assert (found.result, found.severity) == ("failed", "watch") and "20 % slower" in found.detail
    assert drains([found]) == {}
    # The past of another node, and of another check, is not its own.
    assert (
        only({"memory": {"memory_gb_s": 8.0}}, past(10.0, node="b") + past(10.0, check="disk")).result == "ok"
    )


def test_a_wrong_result_isolates() -> None:
    found = only({"memory": {"memory_gb_s": 10.0, "wrong": 3}})
    assert drains([found]) == {"a": f"{PREFIX}node: active-memory: 3 wrong results"}
    gpu = only({"gpu_product": {"gpu_tflop_s": 50.0, "wrong": 1}})
    assert "nvidia-smi -r" in drains([gpu])["a"]


@pytest.mark.parametrize("said", [{"skipped": "no compiler"}, {"error": "it ended with 3"}])
def test_what_was_not_measured_drains_nobody(said: dict[str, str]) -> None:
    found = only({"memory": said})
    assert drains([found]) == {} and found.value is None and found.detail


def test_half_of_the_nodes_at_once_is_not_the_nodes() -> None:
    def bad(node: str) -> Measured:
        return outcomes(node, {"memory": {"memory_gb_s": 1.0, "wrong": 1}}, [])[0]

    def well(node: str) -> Measured:
        return outcomes(node, {"memory": {"memory_gb_s": 1.0, "wrong": 0}}, [])[0]

    assert set(drains([bad("a"), well("b")])) == {"a"} and set(drains([bad("a")])) == {"a"}
    assert drains([bad("a"), bad("b"), well("c")]) == {}
    assert set(drains([bad("a"), bad("b"), *(well(f"c{n}") for n in range(4))])) == {"a", "b"}


def test_only_nodes_without_anything_are_measured() -> None:
    states = {
        "a": ("IDLE",),
        "b": ("IDLE", "DRAIN"),
        "c": ("MIXED",),
        "d": ("IDLE", "COMPLETING"),
        "e": ("IDLE", "RESERVED"),
    }
    assert idle({name: AtSlurm(words, "", "") for name, words in states.items()}) == ["a"]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("", []),
        ("a", []),
        ("ab", [("a", "b")]),
        ("abc", [("a", "b"), ("c", "a")]),
        ("abcd", [("a", "b"), ("c", "d")]),
    ],
)
def test_each_node_has_a_partner(names: str, found: list[tuple[str, str]]) -> None:
    assert pairs(list(names)) == found


def test_the_jobs_of_others_go_first() -> None:
    assert others_wait("train|Resources\n") and others_wait("a|b|Priority\n")
    assert (
        not others_wait("train|Dependency\n")
        and not others_wait(f"{active.NAME}|Resources\n")
        and not others_wait("")
    )


def test_a_job_that_prints_more_than_its_line() -> None:
    assert active._last_json('warning\n{"a": 1}\n[x] bye\n') == {"a": 1}
    assert active._last_json("nothing\n[1]\n") is None


def test_the_past_is_read_as_far_as_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(active, "RECORD", tmp_path / "active.jsonl")
    assert active.read_past() == []
    active.RECORD.write_text('{"node": "a"}\nhalf a li\n[]\n')
    assert active.read_past() == [{"node": "a"}]


def test_it_records_drains_and_lifts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []
    monkeypatch.setattr(active, "RECORD", tmp_path / "state" / "active.jsonl")

    def slurm(*words: str) -> str:
        told.append(" ".join(words))
        return ""

    monkeypatch.setattr(active, "slurm", slurm)
    nodes = {
        "a": AtSlurm(("IDLE",), "", ""),
        "b": AtSlurm(("IDLE", "DRAIN"), "", f"{PREFIX}node: active-memory: 3 wrong results"),
        "c": AtSlurm(("IDLE", "DRAIN"), "", "fan"),
    }
    bad = outcomes("a", {"memory": {"memory_gb_s": 1.0, "wrong": 3}}, [])
    good = [each for name in ("b", "c") for each in outcomes(name, SOUND, [])]
    assert active.finish([*bad, *good], nodes) == 1
    assert told == [
        f"scontrol update nodename=a state=drain reason={PREFIX}node: active-memory: 3 wrong results",
        "scontrol update nodename=b state=resume reason=none",
    ]
    assert len(active.read_past()) == 5 and len(capsys.readouterr().out.splitlines()) == 7


def test_the_program_measures(tmp_path: Path) -> None:
    built = tmp_path / "bench"
    subprocess.run(["cc", "-O2", "-Wall", "-Werror", "-o", built, SOURCE], check=True, timeout=120)

    def run(*words: str) -> dict[str, Any]:
        done = subprocess.run([built, *words], capture_output=True, text=True, check=True, timeout=120)
        return dict(json.loads(done.stdout))

    memory, disk = run("stream", "4"), run("disk", str(tmp_path / "file"), "4")
    assert memory["memory_gb_s"] > 0 and disk["disk_mb_s"] > 0 and memory["wrong"] == disk["wrong"] == 0
    assert not (tmp_path / "file").exists()
    for words in ((), ("disk", "/no/such/file", "4"), ("pair", "1")):
        assert subprocess.run([built, *words], capture_output=True, check=False, timeout=60).returncode != 0


def test_a_job_of_somebody_ends_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """srun, squeue and scancel are programs here: ours waits until it is cancelled."""
    programs = {
        "srun": f"i=0; while [ ! -e {tmp_path}/cancelled ] && [ $i -lt 300 ]; do sleep 0.1; "
        "i=$((i+1)); done; "
        f"[ -e {tmp_path}/cancelled ] || echo '{{}}'; exit 1",
        "squeue": "echo 'train|Resources'",
        "scancel": f'echo "$*" >>{tmp_path}/cancelled',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(active, "_POLL", 0.1)
    found = active.measure(["a", "b"], "light", [])
    assert (tmp_path / "cancelled").read_text().splitlines()[0] == f"--name={active.NAME}"
    assert {each.result for each in found} == {"none"}
    assert "others needed the node" in {each.detail for each in found}
    assert drains(found) == {}
