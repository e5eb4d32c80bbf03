"""Whose drain it is, since when, and the next step."""

from __future__ import annotations

from typing import cast

import pytest

from hpcstate.cluster import drains
from hpcstate.probe.slurm import SlurmNode


def node(states: str, reason: str = "", user: str = "root", since: int = 0) -> SlurmNode:
    known = {"states": states.split("+"), "reason": reason, "reason_user": user, "reason_since": since}
    return cast(SlurmNode, known)


RESUME = "`sudo scontrol update nodename=compute-01 state=resume` on controller"


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (node("IDLE"), []),
        (node("DOWN", "hpcstate: stop"), []),
        (
            node("IDLE+DRAIN", "fan", "alice", 1795294396),
            [
                "compute-01 is drained by alice since 2026-11-21 20:53 (fan), and stays so: "
                "when that is over, " + RESUME
            ],
        ),
        (
            node("DOWN+DRAIN", "fan : Not responding", "slurm"),
            ["compute-01 is drained (fan : Not responding), and stays so: when that is over, " + RESUME],
        ),
        (
            node("MIXED+DRAIN", "", ""),
            ["compute-01 is drained (no reason given), and stays so: when that is over, " + RESUME],
        ),
        (
            node("IDLE+DRAIN", "hpcstate-health: node: mounts: /home is not mounted"),
            [
                "compute-01 is drained by its health check (hpcstate-health: node: mounts: /home is not "
                "mounted): the same check lifts that, when that passes (docs/health.md)"
            ],
        ),
        (
            node("IDLE+DRAIN", "hpcstate-health: node: active-memory: 3 wrong results"),
            [
                "compute-01 is drained by its health check (hpcstate-health: node: active-memory: 3 wrong "
                "results): the same check lifts that, by `--active` (docs/health.md)"
            ],
        ),
        (
            node("IDLE+DRAIN", "hpcstate: stop"),
            ["compute-01 is drained by hpcstate (hpcstate: stop): the next `./hpc up` lifts that"],
        ),
    ],
)
def test_a_drain(known: SlurmNode, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    assert list(drains.left({"compute-01": known}, "controller").values()) == expected
    ours = known["reason"].startswith("hpcstate: ")
    assert list(drains.left({"compute-01": known}, "controller", ours=False)) == [
        "compute-01" for _ in expected if not ours
    ]
    assert list(drains.left({"compute-01": known}, "controller", others=False)) == [
        "compute-01" for _ in expected if ours
    ]


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (node("IDLE"), []),
        (node("DOWN", "Not responding"), []),
        (
            node("IDLE+DRAIN+INVALID_REG", "Low RealMemory (reported:1470 < 100.00% of configured:1751)"),
            [
                "compute-01 gets no jobs: it has less than slurm.conf says (Low RealMemory (reported:1470 < "
                "100.00% of configured:1751)); `./hpc up` makes the two agree"
            ],
        ),
        (
            node("IDLE+INVALID_REG"),
            [
                "compute-01 gets no jobs: it has less than slurm.conf says (INVALID_REG); "
                "`./hpc up` makes the two agree"
            ],
        ),
    ],
    ids=["well", "away", "with slurmctld's reason", "without one"],
)
def test_a_node_that_slurm_refuses_as_it_is(known: SlurmNode, expected: list[str]) -> None:
    assert list(drains.refused({"compute-01": known}).values()) == expected


def test_a_resume_is_no_way_out_for_a_node_that_slurm_refuses() -> None:
    known = node("IDLE+DRAIN+INVALID_REG", "gres/gpu count reported lower than configured (1 < 2)", "slurm")
    (line,) = drains.left({"compute-01": known}, "controller").values()
    assert "state=resume" not in line and "`./hpc up` makes the two agree" in line
    ours = node("IDLE+DRAIN+INVALID_REG", "hpcstate: x")
    (line,) = drains.left({"compute-01": ours}, "controller").values()
    assert line.endswith("the next `./hpc up` lifts that")


def test_a_drained_node_that_the_file_does_not_have() -> None:
    slurm = {
        "compute-01": node("IDLE+DRAIN", "hpcstate: stop"),
        "compute-03": node("IDLE+DRAIN", "hpcstate: stop"),
        "old-01": node("IDLE+DRAIN", "fan"),
        "old-02": node("IDLE"),
    }
    ours, theirs = drains.strange(slurm, {"compute-01"})
    assert ours.startswith(
        "compute-03, which the file does not have, is drained (hpcstate: stop): `hpcstate start"
    )
    assert theirs == "old-01, which the file does not have, is drained (fan)"
