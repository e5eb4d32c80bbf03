"""What follows from the checks of a node: whom it drains, when it lifts that, and when it does nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hpcstate.health.decide import (
    PREFIX,
    SEPARATOR,
    AtSlurm,
    Look,
    Memory,
    Policy,
    check_of,
    failing,
    has_to_ask,
    is_widespread,
    may_resume,
    parse,
    plan,
    reason,
    refuses,
)
from hpcstate.slurm.change import REASON_PREFIX

RULES = (Policy("disk", "drain", 2), Policy("link", "note", 1), Policy("own", "requeue", 1))
CALM = Memory(told=False)
IDLE = AtSlurm(("IDLE",), "", "")
DISK = Look("disk", "failed", "/var is full")
OURS = AtSlurm(("IDLE", "DRAIN"), f"{PREFIX}failing disk", reason(DISK))
NODES = {"a": IDLE, "b": IDLE, "c": IDLE, "d": IDLE}


def test_a_deploy_does_not_take_the_drain_for_its_own() -> None:
    assert not reason(DISK).startswith(REASON_PREFIX)
    assert reason(DISK) == "hpcstate-health: node: disk: /var is full"
    assert check_of(reason(DISK)) == "disk" and check_of(reason(replace(DISK, detail="x" * 999))) == "disk"
    assert len(reason(replace(DISK, detail="x" * 999))) == 150
    assert [check_of(text) for text in ("", "disk", "hpcstate: x", "hpcstate-health: nonsense")] == [""] * 4


def test_it_fails_twice_before_it_drains_and_says_so_at_once() -> None:
    first = plan(RULES, [DISK], CALM, "a", NODES)
    assert (first.drain, first.comment) == ("", f"{PREFIX}failing disk")
    second = plan(
        RULES, [DISK], first.memory, "a", {**NODES, "a": AtSlurm(("IDLE",), str(first.comment), "")}
    )
    assert (second.drain, second.comment, second.resume) == (reason(DISK), None, False)
    between = plan(RULES, [Look("disk", "ok")], first.memory, "a", NODES)
    assert between.memory.failed == {} and not between.memory.told


def test_what_is_noted_only_or_a_users_never_drains() -> None:
    for result in (Look("link", "failed", "down"), Look("own", "failed", "he left files", "user")):
        found = plan(RULES, [result], Memory({result.check: 9}), "a", NODES)
        assert (found.drain, found.requeue) == ("", False) and result.check in str(found.comment)


@pytest.mark.parametrize("detail", ["it did not end in 10 s", "exit code 2", "Traceback …", ""])
def test_a_broken_check_never_drains_nor_lifts(detail: str) -> None:
    broken = Look("disk", "broken", detail)
    assert plan(RULES, [broken], Memory({"disk": 9}), "a", NODES).drain == ""
    assert not plan(RULES, [broken], CALM, "a", {**NODES, "a": OURS}).resume
    assert refuses(RULES, [broken], ()) is None


def test_it_lifts_only_its_own_drain_and_only_after_the_same_check() -> None:
    sound = [Look("disk", "ok"), Look("link", "ok")]
    lifted = plan(RULES, sound, Memory({"disk": 3}), "a", {**NODES, "a": OURS})
    assert (lifted.resume, lifted.comment, lifted.memory.told) == (True, "", False)
    assert not plan(RULES, [Look("link", "ok")], CALM, "a", {**NODES, "a": OURS}).resume
    for other in (
        "",
        "broken fan",
        "hpcstate: new files",
        "Not responding",
        f"{PREFIX}node: active-memory: slow",
    ):
        seen = AtSlurm(("IDLE", "DRAIN"), "", other)
        found = plan(RULES, sound, CALM, "a", {**NODES, "a": seen})
        assert (found.resume, found.drain) == (False, "")
        assert plan(RULES, [DISK], Memory({"disk": 9}), "a", {**NODES, "a": seen}).drain == ""


def test_one_drain_of_ours_gives_way_to_the_next() -> None:
    results = [Look("disk", "ok"), Look("own", "failed", "no licence")]
    found = plan(RULES, results, CALM, "a", {**NODES, "a": OURS})
    assert (found.resume, check_of(found.drain), found.requeue) == (False, "own", True)


def test_the_comment_of_somebody_else_stays() -> None:
    theirs = {**NODES, "a": AtSlurm(("IDLE",), "rack 7", "")}
    assert plan(RULES, [DISK], CALM, "a", theirs).comment is None


def test_half_of_the_cluster_pauses_it() -> None:
    noted = AtSlurm(("IDLE",), f"{PREFIX}failing link,disk", "")
    for others, paused in ((0, False), (1, True), (3, True)):
        nodes = {**NODES, **dict.fromkeys("bcd"[:others], noted)}
        found = plan(RULES, [DISK], Memory({"disk": 5}), "a", nodes)
        assert (found.drain == "", found.memory.paused) == (paused, ("disk",) if paused else ())
        assert (
            ("draining is paused" in str(found.comment))
            == paused
            == any("half" in line for line in found.said)
        )
    assert not is_widespread("disk", "a", {**NODES, "b": noted, "e": IDLE})
    drained = {**NODES, "b": OURS}
    assert is_widespread("disk", "a", drained) and failing(OURS) == {"disk"}
    # Who is drained stays so: that is no reason to give it jobs.
    paused_now = plan(RULES, [DISK], Memory({"disk": 5}), "a", {**NODES, "a": OURS, "b": noted})
    assert (paused_now.resume, paused_now.drain) == (False, "")


@pytest.mark.parametrize(
    ("nodes", "alone"), [({"a": IDLE}, True), ({"a": IDLE, "b": IDLE}, True), ({}, True)]
)
def test_one_node_alone_is_not_half_of_a_small_cluster(nodes: dict[str, AtSlurm], alone: bool) -> None:
    assert (plan(RULES, [DISK], Memory({"disk": 1}), "a", nodes).drain != "") == alone


def test_it_asks_slurmctld_only_where_it_has_to() -> None:
    sound = [Look("disk", "ok"), Look("link", "broken")]
    assert not has_to_ask(sound, CALM) and has_to_ask(sound, Memory()) and has_to_ask([DISK], CALM)
    assert has_to_ask(sound, Memory(told=False, refused=DISK))


def test_a_silent_slurmctld_changes_nothing_but_the_count() -> None:
    found = plan(RULES, [DISK], Memory({"disk": 1}, told=False), "a", None)
    assert (found.drain, found.comment, found.memory.failed, found.memory.told) == (
        "",
        None,
        {"disk": 2},
        True,
    )
    calm = plan(RULES, [Look("disk", "ok")], CALM, "a", None)
    assert calm.memory == CALM and calm.said == ()


def test_slurms_drain_after_our_prolog_becomes_ours() -> None:
    by_slurm = {**NODES, "a": AtSlurm(("IDLE", "DRAIN"), "", "Prolog error")}
    mine = Memory(refused=DISK)
    assert plan(RULES, [DISK], mine, "a", by_slurm).drain == reason(DISK)
    assert plan(RULES, [Look("disk", "ok")], mine, "a", by_slurm).resume
    assert plan(RULES, [Look("disk", "broken")], mine, "a", by_slurm).drain == reason(DISK)
    # A prolog of somebody else failed.
    assert not plan(RULES, [Look("disk", "ok")], Memory(), "a", by_slurm).resume
    # Somebody has given it another reason meanwhile.
    other = {**NODES, "a": AtSlurm(("IDLE", "DRAIN"), "", "fan")}
    assert plan(RULES, [DISK], mine, "a", other).drain == ""


def test_a_prolog_refuses_what_would_drain() -> None:
    assert refuses(RULES, [Look("link", "failed"), DISK], ()) == DISK
    assert refuses(RULES, [DISK], ("disk",)) is None
    assert refuses(RULES, [Look("disk", "failed", "", "user")], ()) is None


def test_active_checks_lift_what_they_drained() -> None:
    slow = AtSlurm(("IDLE", "DRAIN"), "", f"{PREFIX}node: active-memory: half as fast")
    assert may_resume(slow, ["disk", "memory"]) and not may_resume(slow, ["disk"])
    assert not may_resume(OURS, ["disk"]) and not may_resume(replace(slow, states=("IDLE",)), ["memory"])


def test_sinfo_is_read() -> None:
    def line(*words: str) -> str:
        return "".join(f"{word}{SEPARATOR}" for word in words) + "\n"

    text = line("a", "idle+drain", "(null)", "fan\nof the left | side") + line("b", "IDLE*", "", "none")
    assert parse(text + line("b", "IDLE*", "", "none") + "nonsense\n") == {
        "a": AtSlurm(("IDLE", "DRAIN"), "", "fan\nof the left | side"),
        "b": AtSlurm(("IDLE",), "", ""),
    }
