"""Nodes that are to be switched off: their jobs, and what Slurm is told before and after."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcstate.cluster import leave as slurm_leave
from hpcstate.cluster.leave import awaited, ending, jobs_on, left, settle
from hpcstate.errors import HpcstateError
from hpcstate.node.ssh import NotLetInError, OtherHostKeyError
from hpcstate.paths import ClusterPaths
from hpcstate.probe.running_jobs import RunningJob
from hpcstate.run import Result
from tests.unit.fake_live import TWO, FakeLive

WORKERS = TWO.workers


class Slurm:
    """A slurmctld and its jobs by node; ``ends_after`` looks the jobs are over. It keeps what it was told."""

    def __init__(self, jobs: dict[str, list[int]], *, ends_after: int = 10**6, drained: str = "") -> None:
        self.jobs, self.ends_after, self.looks, self.told = jobs, ends_after, 0, list[str]()
        self.states = {node.name: ["IDLE", "DRAIN"] if node.name == drained else ["IDLE"] for node in WORKERS}
        self.reasons = dict.fromkeys(self.states, "fan" if drained else "")
        self.silent = False
        self.dead = ""
        self.theirs = ""
        """A node that somebody drains while its jobs are awaited."""

    def __call__(self, node: str, script: str) -> Result | HpcstateError | str:
        if node == self.dead:
            return HpcstateError("does not answer on SSH", where=node)
        if "scontrol show nodes" in script:
            return "" if self.silent else json.dumps({"nodes": [self._node(name) for name in self.states]})
        if "squeue" in script:
            self.looks += 1
            if self.theirs:
                self.states[self.theirs], self.reasons[self.theirs] = ["IDLE", "DRAIN"], "fan broken"
            jobs = self.jobs.get(node, []) if self.looks <= self.ends_after else []
            return "\n".join([f"slurmctld {node}", *map(str, jobs)])
        self.told.append(script)
        if found := re.fullmatch(
            r"scontrol update nodename=(\S+) state=(drain|down|resume) reason=(.*)", script
        ):
            for name in found[1].split(","):
                self.states[name] = {"drain": ["IDLE", "DRAIN"], "down": ["DOWN", "DRAIN"]}.get(
                    found[2], ["IDLE"]
                )
                self.reasons[name] = found[3].strip("'")
        if "requeue" in script:
            self.ends_after = 0
        return ""

    def _node(self, name: str) -> dict[str, object]:
        return {
            "name": name,
            "state": self.states[name],
            "reason": self.reasons[name],
            "reason_set_by_user": "",
            "gres": "",
            "gres_used": "",
            "cpus": 2,
            "alloc_cpus": 0,
            "real_memory": 1,
            "version": "24.11.5",
        }


@pytest.fixture(autouse=True)
def note(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Where a stop notes whom it drains. Nobody waits."""
    monkeypatch.setattr(slurm_leave, "_POLL", 0.0)
    monkeypatch.setattr("hpcstate.paths.BUILD", tmp_path)
    found = ClusterPaths.of(TWO.name).draining
    found.parent.mkdir()
    yield found


def lifted(names: str) -> list[str]:
    return [update(names, "resume", " reason=none")]


def update(names: str, state: str, reason: str = "") -> str:
    return f"scontrol update nodename={names} state={state}{reason}"


BOTH = "compute-01,compute-02"
REASON = " reason='hpcstate: stop'"


def leave(slurm: Slurm, jobs: slurm_leave.Jobs, timeout_s: float = 60) -> list[str]:
    """Leave the nodes; what was said. "off" stands in ``told`` where the block ran."""
    said: list[str] = []
    with left(FakeLive(slurm), WORKERS, jobs, said.append, timeout_s):
        slurm.told.append("off")
    return said


def test_idle_nodes_are_drained_switched_off_and_down() -> None:
    slurm = Slurm({})
    leave(slurm, "refuse")
    assert slurm.told == [
        update(BOTH, "drain", REASON),
        "off",
        update(BOTH, "down", REASON),
        update(BOTH, "undrain"),
    ]


def test_whom_a_stop_drains_is_noted_until_no_drain_of_that_is_left(note: Path) -> None:
    with left(FakeLive(Slurm({})), WORKERS, "refuse", print):
        assert note.read_text() == "compute-01\ncompute-02\n"
    assert not note.exists()
    with pytest.raises(HpcstateError, match="nothing was stopped"):
        leave(Slurm({"compute-02": [7]}), "refuse")
    assert not note.exists()
    with pytest.raises(HpcstateError, match="these nodes stay drained"):
        leave(Slurm({"compute-02": [7]}), "drain", timeout_s=0)
    assert note.exists(), "a drain is left"


def test_jobs_are_in_the_way_and_nothing_is_left_behind() -> None:
    slurm = Slurm({"compute-02": [7, 12]})
    with pytest.raises(HpcstateError, match="jobs 7, 12 run on compute-02\nnothing was stopped") as caught:
        leave(slurm, "refuse")
    assert "`hpcstate stop FILE --drain` waits for them; `hpcstate stop FILE --force`" in caught.value.hint
    assert slurm.told == [update(BOTH, "drain", REASON), *lifted(BOTH)]


def test_a_refusal_says_its_cause_only() -> None:
    said: list[str] = []
    way = slurm_leave.StopCommands("hpcstate start FILE --remove", "scancel JOB")
    with (
        pytest.raises(HpcstateError) as caught,
        left(FakeLive(Slurm({"compute-02": [7]})), WORKERS, "refuse", said.append, way=way),
    ):
        pass
    assert said == []
    assert caught.value.hint.startswith("`hpcstate start FILE --remove` waits for them; `scancel JOB`")


def test_jobs_are_waited_for() -> None:
    slurm = Slurm({"compute-02": [7]}, ends_after=6)
    leave(slurm, "drain")
    assert slurm.told[0] == update(BOTH, "drain", REASON)
    assert slurm.told[1] == "off"


def test_jobs_that_do_not_end_leave_the_nodes_drained_and_on() -> None:
    slurm = Slurm({"compute-02": [7]})
    with pytest.raises(HpcstateError, match="these nodes stay drained, and nothing was stopped") as caught:
        leave(slurm, "drain", timeout_s=0)
    assert f"scontrol update nodename={BOTH} state=resume" in caught.value.hint
    assert slurm.told == [update(BOTH, "drain", REASON)]


def test_force_requeues_or_ends_the_jobs_first() -> None:
    slurm = Slurm({"compute-01": [7], "compute-02": [7, 9]})
    said = leave(slurm, "force")
    assert slurm.told[1].splitlines() == [
        "scontrol requeue 7 2>/dev/null || scancel 7 || :",
        "scontrol requeue 9 2>/dev/null || scancel 9 || :",
    ]
    assert slurm.told[2] == "off"
    assert "requeuing or ending jobs 7, 9" in said


def test_nodes_that_nobody_could_drain_are_not_waited_for() -> None:
    slurm = Slurm({"compute-01": [7]})
    slurm.silent = True
    with pytest.raises(HpcstateError, match="slurmctld does not answer") as caught:
        leave(slurm, "drain")
    assert "job 7 runs on compute-01" in caught.value.message
    assert slurm.told == []


def test_what_an_earlier_stop_drained_is_named() -> None:
    slurm = Slurm({"compute-01": [7]}, drained="compute-01")
    slurm.reasons["compute-01"] = "hpcstate: stop"
    with pytest.raises(
        HpcstateError, match="an earlier stop or removal still drains compute-01: scontrol update"
    ):
        leave(slurm, "refuse")


def test_who_is_waited_for_is_named_at_once_and_every_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Slurm({"compute-02": [7, 12]}, ends_after=12)
    monkeypatch.setattr(slurm_leave, "_TELL", -1.0)
    monkeypatch.setattr(
        slurm_leave,
        "_running",
        lambda _: (RunningJob(7, "alice", ("compute-02",), 3550), RunningJob(9, "x", (), 1)),
    )
    first, second, *_ = leave(slurm, "drain")
    assert first == "waiting for jobs 7 (alice, 00:59:10 left), 12 on compute-02"
    assert second == f"{first} (0 s)"
    monkeypatch.setattr(slurm_leave, "_TELL", 60.0)
    assert leave(Slurm({"compute-02": [7]}, ends_after=12), "drain") == [
        "waiting for jobs 7 (alice, 00:59:10 left) on compute-02"
    ]


def test_the_words_of_waiting() -> None:
    holding = slurm_leave.Holding({"compute-01": [7]}, {"compute-02": "no SSH\nmore"})
    assert slurm_leave.waiting_lines(holding, [RunningJob(7, "alice", (), None)]) == [
        "waiting for jobs 7 (alice, no limit) on compute-01",
        "whether jobs run on compute-02 is not known: no SSH",
    ]


@pytest.mark.parametrize(
    ("answer", "numbers"),
    [("slurmctld\n7|alice|compute-02|59:10\n", [7]), ("silent\n", []), (HpcstateError("no SSH"), [])],
)
def test_the_controller_is_asked_whose_jobs_they_are(answer: HpcstateError | str, numbers: list[int]) -> None:
    assert [job.number for job in slurm_leave._running(FakeLive(lambda *_: answer))] == numbers


def test_of_a_paused_node_the_controller_is_asked() -> None:
    asked: list[str] = []

    def answer(node: str, script: str) -> str:
        asked.append(node)
        return "slurmctld compute-01\n7"

    assert jobs_on(FakeLive(answer), WORKERS[:1], ["compute-01"]).jobs == {"compute-01": [7]}
    assert asked == ["controller"]


@pytest.mark.parametrize("error", [OtherHostKeyError, NotLetInError])
def test_of_a_node_that_cannot_be_asked_the_controller_is(
    error: type[OtherHostKeyError | NotLetInError],
) -> None:
    asked: list[str] = []

    def answer(node: str, script: str) -> HpcstateError | str:
        asked.append(node)
        return error(WORKERS[0]) if node == "compute-01" else "slurmctld compute-01\n7"

    assert jobs_on(FakeLive(answer), WORKERS[:1]).jobs == {"compute-01": [7]}
    assert asked == ["compute-01", "controller"]


def test_jobs_that_do_not_end_by_force_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_leave, "_END_SECONDS", 0.0)
    slurm = Slurm({"compute-01": [7]})
    monkeypatch.setattr(slurm_leave, "_end", lambda *_: None)
    said = leave(slurm, "force")
    assert "after 0 s job 7 runs on compute-01: stopping all the same" in said
    assert "off" in slurm.told


@pytest.mark.parametrize("off", [(), ("compute-01",)])
def test_an_interrupted_stop_leaves_no_drain_on_what_runs(off: tuple[str, ...]) -> None:
    slurm = Slurm({})
    with (
        pytest.raises(KeyboardInterrupt),
        left(FakeLive(slurm), WORKERS, "refuse", print, is_off=off.__contains__),
    ):
        raise KeyboardInterrupt
    down = [update("compute-01", "down", REASON), update("compute-01", "undrain")] if off else []
    still = "compute-02" if off else BOTH
    assert slurm.told == [update(BOTH, "drain", REASON), *down, *lifted(still)]


def test_waiting_that_is_interrupted_leaves_no_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Slurm({"compute-02": [7]})

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hpcstate.cluster.leave.time.sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        leave(slurm, "drain")
    assert slurm.told == [update(BOTH, "drain", REASON), *lifted(BOTH)]


def test_a_drain_of_somebody_stays() -> None:
    slurm = Slurm({}, drained="compute-01")
    leave(slurm, "refuse")
    assert not any("compute-01" in line for line in slurm.told)
    assert update("compute-02", "undrain") in slurm.told


@pytest.mark.parametrize("jobs", ["drain", "force"])
def test_a_drain_of_somebody_who_comes_while_jobs_are_awaited_stays(jobs: slurm_leave.Jobs) -> None:
    slurm = Slurm({"compute-02": [7]}, ends_after=6)
    slurm.theirs = "compute-02"
    if jobs == "drain":
        with pytest.raises(HpcstateError, match=r"somebody drained compute-02 \(fan broken\)\nnothing was"):
            leave(slurm, jobs)
        assert "off" not in slurm.told
        assert slurm.told[-1:] == lifted("compute-01"), "what nobody else wants takes jobs again"
    else:
        leave(slurm, jobs)
        assert slurm.told[-2:] == [update("compute-01", "down", REASON), update("compute-01", "undrain")]
    assert slurm.reasons["compute-02"] == "fan broken"


def test_waiting_that_is_interrupted_lifts_no_drain_of_somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Slurm({"compute-02": [7]})
    slurm.theirs = "compute-02"

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hpcstate.cluster.leave.time.sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        leave(slurm, "drain")
    assert slurm.told[-1:] == lifted("compute-01")
    assert slurm.reasons["compute-02"] == "fan broken"


def test_a_silent_slurmctld_is_no_reason_to_go_on_where_a_node_has_jobs() -> None:
    slurm = Slurm({"compute-01": [7]})
    slurm.silent = True
    with pytest.raises(HpcstateError, match="job 7 runs on compute-01"):
        leave(slurm, "refuse")
    assert slurm.told == []


def test_a_node_that_cannot_be_asked_is_not_taken_for_idle() -> None:
    slurm = Slurm({})
    slurm.dead = "compute-02"
    assert jobs_on(FakeLive(slurm), WORKERS).unknown == {"compute-02": "does not answer on SSH"}
    with pytest.raises(HpcstateError, match="whether jobs run on compute-02 is not known: does not answer"):
        leave(slurm, "refuse")
    leave(slurm, "force")
    assert "off" in slurm.told


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            "slurmctld\n85|hpc|compute-[01-02]|10:00\n86|al|compute-01|UNLIMITED\n87|bob|compute-02|UNLIMITED\n",
            [
                "waits for job 85 (hpc, 00:10:00 left) on compute-02",
                "waits for job 87 (bob, no limit) on compute-02",
            ],
        ),
        (
            "silent\n",
            [
                "which jobs are waited for is not known: slurmctld does not answer: which jobs run is not "
                "known"
            ],
        ),
    ],
)
def test_the_jobs_that_a_removal_waits_for(
    answer: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpcstate.paths.BUILD", tmp_path)
    monkeypatch.setattr(slurm_leave, "Live", lambda cluster: FakeLive(lambda *_: answer, cluster))
    assert awaited(TWO, ["compute-02"]) == [], "it was never started: there is no key"
    key = ClusterPaths.of(TWO.name).ssh_key
    key.parent.mkdir(parents=True)
    key.touch()
    assert awaited(TWO, ["compute-02"]) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            "slurmctld\n85|hpc|compute-[01-02]|10:00\n86|alice|compute-02|UNLIMITED\n",
            ["ends job 85 of hpc on compute-01, compute-02", "ends job 86 of alice on compute-02"],
        ),
        ("slurmctld\n", []),
        ("absent\n", []),
        ("silent\n", ["which jobs end is not known: slurmctld does not answer: which jobs run is not known"]),
        (
            HpcstateError("controller does not answer on SSH\nlast line"),
            ["which jobs end is not known: controller does not answer on SSH"],
        ),
    ],
)
def test_the_jobs_that_end_with_a_cluster(
    answer: HpcstateError | str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpcstate.paths.BUILD", tmp_path)
    monkeypatch.setattr(slurm_leave, "Live", lambda cluster: FakeLive(lambda *_: answer, cluster))
    assert ending(TWO) == [], "it was never started: there is no key"
    key = ClusterPaths.of(TWO.name).ssh_key
    key.parent.mkdir(parents=True)
    key.touch()
    assert ending(TWO) == expected


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("success\n", ""),
        ("", ""),
        ("timeout\n", "slurmctld was ended by systemd (timeout): what it had not saved by then is lost"),
        (
            HpcstateError("no SSH"),
            "slurmctld could not be stopped first, its last seconds may be lost: no SSH",
        ),
    ],
)
def test_a_slurmctld_whose_state_stays_stops_by_itself(
    answer: str | HpcstateError, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpcstate.paths.BUILD", tmp_path)
    monkeypatch.setattr(slurm_leave, "Live", lambda cluster: FakeLive(lambda *_: answer, cluster))
    key = ClusterPaths.of(TWO.name).ssh_key
    key.parent.mkdir(parents=True)
    key.touch()
    told: list[str] = []
    settle(TWO, told.append)
    assert told == ([said] if said else [])


@pytest.mark.parametrize(("reason", "resumed"), [("hpcstate: stop", ["compute-01"]), ("fan", [])])
def test_jobs_start_again_on_what_a_killed_roll_drained(
    reason: str, resumed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpcstate.paths.BUILD", tmp_path)
    key = ClusterPaths.of(TWO.name).ssh_key
    key.parent.mkdir(parents=True)
    key.touch()
    slurm = Slurm({}, drained="compute-01")
    slurm.reasons["compute-01"] = reason
    monkeypatch.setattr(slurm_leave, "Live", lambda _: FakeLive(slurm))
    names = [node.name for node in WORKERS]
    assert slurm_leave.take_jobs_again(TWO, names, lambda _: None) == resumed
    assert slurm.told == [line for name in resumed for line in lifted(name)]
    slurm.silent = True
    said: list[str] = []
    assert slurm_leave.take_jobs_again(TWO, names, said.append) == []
    assert said == ["slurmctld does not answer: the next `./hpc up` lifts a drain that is left"]
