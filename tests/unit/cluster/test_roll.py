"""Which nodes go off and on: before slurm.conf says that they have more, after it that they have less."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hpcstate.cluster import lifecycle, roll
from hpcstate.errors import HpcstateError
from hpcstate.hypervisor.machine import MachineDifference
from tests.unit.fake_live import TWO


@pytest.fixture(autouse=True)
def _no_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that fails must not switch anything off or on."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a machine would have been touched")

    monkeypatch.setattr(lifecycle, "stop", never)
    monkeypatch.setattr(lifecycle, "start", never)


def memory(node: str, found: int, wanted: int) -> MachineDifference:
    return MachineDifference(node, "memory", f"{found} MiB", f"{wanted} MiB", "power-cycle")


def cpus(node: str, found: int, wanted: int) -> MachineDifference:
    return MachineDifference(node, "CPUs", str(found), str(wanted), "power-cycle")


@pytest.mark.parametrize(
    ("differences", "before", "after"),
    [
        ([], (), ()),
        ([memory("compute-01", 2048, 3072)], ("compute-01",), ()),
        ([memory("compute-01", 2048, 1024)], (), ("compute-01",)),
        ([cpus("compute-02", 4, 2), memory("compute-01", 1, 2)], ("compute-01",), ("compute-02",)),
        ([memory("controller", 2048, 1024), cpus("compute-02", 2, 4)], ("compute-02", "controller"), ()),
        ([MachineDifference("compute-01", "disk", "10 GiB", "20 GiB", "grow")], (), ()),
        ([MachineDifference("compute-03", "node", "running", "", "remove")], (), ()),
    ],
    ids=["nothing", "grows", "shrinks", "one of each", "the controller last", "a disk", "a node less"],
)
def test_order(
    differences: Sequence[MachineDifference], before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    assert roll.order(TWO, differences) == roll.Order(before, after)


def test_a_node_cannot_grow_and_shrink_at_once() -> None:
    with pytest.raises(HpcstateError, match="would grow and shrink at once") as caught:
        roll.order(TWO, [memory("compute-01", 2048, 4096), cpus("compute-01", 4, 2)])
    assert "change one of the two" in caught.value.hint


def test_a_disk_cannot_shrink() -> None:
    with pytest.raises(HpcstateError, match="compute-01: disk 22 GiB -> 20 GiB"):
        roll.order(TWO, [MachineDifference("compute-01", "disk", "22 GiB", "20 GiB", "never")])


def test_one_node_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def stop(*arguments: Any, **options: Any) -> None:
        done.append(f"stop {arguments[3]} {options['jobs']}")

    monkeypatch.setattr(lifecycle, "stop", stop)
    monkeypatch.setattr(lifecycle, "start", lambda *arguments: done.append(f"start {arguments[3]}"))
    slurm(monkeypatch)
    monkeypatch.setattr(roll, "wait_for_slurm", lambda *arguments: done.append(f"wait {arguments[1]}"))
    roll.roll(TWO, Path("gpu.yaml"), ["compute-01", "compute-02"], lambda _: None)
    assert done == [
        "stop ['compute-01'] drain",
        "start ['compute-01']",
        "wait compute-01",
        "stop ['compute-02'] drain",
        "start ['compute-02']",
        "wait compute-02",
    ]


def test_a_node_that_somebody_drains_while_the_one_before_is_at_it_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []

    def start(*arguments: Any) -> None:
        done.append(f"start {arguments[3]}")
        slurm(monkeypatch, compute_02=(["IDLE", "DRAIN"], "fan"))

    monkeypatch.setattr(lifecycle, "stop", lambda *arguments, **_: done.append(f"stop {arguments[3]}"))
    monkeypatch.setattr(lifecycle, "start", start)
    monkeypatch.setattr(roll, "wait_for_slurm", lambda *_: None)
    slurm(monkeypatch)
    with pytest.raises(HpcstateError, match=r"somebody drained them: compute-02 \(fan\)"):
        roll.roll(TWO, Path("gpu.yaml"), ["compute-01", "compute-02"], lambda _: None)
    assert done == ["stop ['compute-01']", "start ['compute-01']"]


def slurm(monkeypatch: pytest.MonkeyPatch, **states: tuple[list[str], str]) -> None:
    """slurmctld has these nodes: states and reason, by name with underscores."""
    nodes = {
        name.replace("_", "-"): {"states": found, "reason": reason}
        for name, (found, reason) in states.items()
    }
    monkeypatch.setattr(roll, "slurm_nodes", lambda _: nodes)


def test_a_node_that_does_not_come_back_ends_the_roll(monkeypatch: pytest.MonkeyPatch) -> None:
    slurm(monkeypatch, compute_01=(["DOWN"], "Low RealMemory"))
    monkeypatch.setattr(roll, "BACK_SECONDS", 0)
    with pytest.raises(HpcstateError, match="Slurm has it as DOWN") as caught:
        roll.wait_for_slurm(TWO, "compute-01", ["compute-02"])
    assert "compute-02 were not touched" in caught.value.message


def test_one_that_slurm_does_not_know_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    slurm(monkeypatch, compute_01=(["IDLE"], ""))
    roll.wait_for_slurm(TWO, "compute-01", [])
    roll.wait_for_slurm(TWO, "controller", [])


def test_what_somebody_drained_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    slurm(
        monkeypatch,
        compute_01=(["IDLE", "DRAIN"], "fan broken"),
        compute_02=(["IDLE", "DRAIN"], "hpcstate: stop"),
    )
    roll.refuse_drained(TWO, ["compute-02"])
    with pytest.raises(HpcstateError, match=r"compute-01 \(fan broken\)") as caught:
        roll.roll(TWO, Path("gpu.yaml"), ["compute-01", "compute-02"], lambda _: None)
    assert "state=resume" in caught.value.hint
