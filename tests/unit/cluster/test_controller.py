"""The controller gets a new disk: what must be the same afterwards, and the way back."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hpcstate.cluster import controller, disks, lifecycle, replace
from hpcstate.cluster.controller import Queue, hurt, parse
from hpcstate.cluster.replace import Due, due
from hpcstate.errors import HpcstateError
from tests.unit.cluster.test_replace import other_image, slurm
from tests.unit.fake_live import TWO

FILE = Path("gpu.yaml")
BEFORE = Queue(8, {"6": "PENDING", "7": "RUNNING"})


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (BEFORE, ""),
        (Queue(9, {"6": "RUNNING", "7": "COMPLETED", "8": "PENDING"}), ""),
        (Queue(8, {"6": "PENDING"}), ""),
        (Queue(1), "the next job the number 1, and gave 7 already"),
        (Queue(8, {"7": "NODE_FAIL"}), "jobs that ran do so no more: 7 (NODE_FAIL)"),
        (Queue(8, {"7": "PENDING"}), "7 (PENDING)"),
    ],
)
def test_what_is_worse_with_the_jobs(now: Queue, said: str) -> None:
    assert said in hurt(BEFORE, now) and bool(said) == bool(hurt(BEFORE, now))


def test_what_slurmctld_says() -> None:
    assert parse("next 8\njob 6 PENDING\njob 7 RUNNING\n") == BEFORE
    assert parse("") is None
    assert parse("job 6 PENDING\n") is None


def test_who_asks_for_the_controller_gets_it_first() -> None:
    differences = other_image("controller", "compute-01")
    known = slurm(compute_01="IDLE", compute_02="IDLE")
    work = due(TWO, differences, [], known, controller_too=True)
    assert work == Due((), ("controller", "compute-01"), {})
    assert due(TWO, differences, [], known) == Due((), ("compute-01",), {}, controller=True)
    assert due(TWO, differences, ["controller"], known) == Due(("controller",), ("compute-01",), {})
    assert not due(TWO, other_image("compute-01"), [], known, controller_too=True).controller


class World:
    """What is done, in order; ``fails`` names the step that raises."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.said: list[str] = []
        self.fails = ""
        self.error: BaseException = HpcstateError("no answer on SSH", where="lab")
        self.queues: list[Queue | None] = [BEFORE, BEFORE]
        for name, names in (
            ("stop", 3),
            ("start", 3),
            ("new_disks", 3),
            ("old_disks", 2),
            ("confirm_disks", 2),
        ):
            where = disks if name.endswith("disks") else lifecycle
            monkeypatch.setattr(where, name, self.step(name, names))
        monkeypatch.setattr(disks, "unfinished", lambda _: ("controller",))
        monkeypatch.setattr(disks, "drop_unused_images", lambda *_: self.note("drop"))
        monkeypatch.setattr(controller, "require_moved", lambda _: self.note("moved"))
        monkeypatch.setattr(controller, "_run", lambda _, action, **__: self.note(action))
        monkeypatch.setattr(controller, "_look", lambda _: self.look())
        monkeypatch.setattr(controller, "BACK_SECONDS", -1.0)
        monkeypatch.setattr(controller, "wait_for_slurm", lambda _, name, __: self.note(f"wait {name}"))
        monkeypatch.setattr(replace, "_trial", lambda *_: None)

    def look(self) -> Queue | None:
        return self.queues.pop(0) if len(self.queues) > 1 else self.queues[0]

    def step(self, name: str, position: int) -> Callable[..., None]:
        def work(*arguments: Any, **_: Any) -> None:
            if arguments[position]:
                self.note(f"{name} {' '.join(arguments[position])}")

        return work

    def note(self, text: str) -> None:
        self.done.append(text)
        if text == self.fails:
            self.fails = ""
            raise self.error

    def deploy(self) -> Sequence[str]:
        self.note("deploy")
        return ()

    def run(self, *, fresh: bool = True) -> None:
        controller.replace(TWO, FILE, self.deploy, self.said.append, well=["compute-01"], fresh=fresh)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


STEPS = [
    "moved",
    "leave",
    "stop controller",
    "new_disks controller",
    "start controller",
    "deploy",
    "wait compute-01",
    "confirm_disks controller",
]
BACK = ["stop controller", "old_disks controller", "start controller"]


def test_the_controller_passes(world: World) -> None:
    world.run()
    assert world.done == STEPS
    assert "slurmctld stops, 1 job goes on without it" in world.said[0]


@pytest.mark.parametrize("step", STEPS[3:7])
def test_one_that_does_not_pass_gets_its_old_disk(world: World, step: str) -> None:
    world.fails = step
    with pytest.raises(HpcstateError, match="the old disks are back; no other node was touched") as caught:
        world.run()
    assert "no answer on SSH" in caught.value.message
    assert world.done == [*STEPS[: STEPS.index(step) + 1], *BACK]


def test_a_queue_that_is_not_the_old_one_is_no_pass(world: World) -> None:
    world.queues = [BEFORE, Queue(1)]
    with pytest.raises(HpcstateError, match="not the state that it had"):
        world.run()
    assert world.done[-3:] == BACK


def test_a_state_that_the_old_one_cannot_read_has_a_way_out(world: World) -> None:
    world.queues = [BEFORE, None]
    with pytest.raises(HpcstateError, match="slurmctld does not answer there") as caught:
        world.run()
    assert "/srv/hpcstate/slurmctld.before" in caught.value.hint
    assert "the image did not pass on controller: slurmctld does not answer" in caught.value.message


def test_a_controller_that_does_not_go_off_serves_on(world: World) -> None:
    world.fails = "stop controller"
    with pytest.raises(HpcstateError, match="no answer"):
        world.run()
    assert world.done == [*STEPS[:3], "stay"]


@pytest.mark.parametrize("step", ["moved", "leave"])
def test_nothing_is_touched_before_it_may_be(world: World, step: str) -> None:
    world.fails = step
    with pytest.raises(HpcstateError, match="no answer"):
        world.run()
    assert world.done[-1] == step


def test_a_silent_slurmctld_is_not_replaced(world: World) -> None:
    world.queues = [None]
    with pytest.raises(HpcstateError, match=r"does not answer: .* nothing was touched"):
        world.run()
    assert world.done == []


def test_what_was_interrupted_goes_on(world: World) -> None:
    world.fails, world.error = "deploy", KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        world.run()
    assert world.done == STEPS[:6] and "roll resume gpu.yaml" in world.said[-1]
    world.done.clear()
    world.run(fresh=False)
    assert world.done == STEPS[4:]


def test_a_roll_takes_the_controller_before_the_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replace, "slurm_nodes", lambda _: slurm(compute_01="IDLE", compute_02="DOWN no"))
    monkeypatch.setattr(replace, "_batch", lambda _, __, names, *___: world.note(f"batch {' '.join(names)}"))
    work = Due((), ("controller", "compute-02"), {})
    done = replace.replace(TWO, FILE, work, world.deploy, world.said.append)
    assert done == ["controller", "compute-02"]
    assert world.done == [*STEPS, "batch compute-02", "drop"]
    world.done.clear()
    work = Due(("controller", "compute-01"), (), {})
    assert replace.replace(TWO, FILE, work, world.deploy, world.said.append) == ["controller", "compute-01"]
    assert world.done == [*STEPS[4:], "batch compute-01", "drop"]


def test_abort(world: World) -> None:
    assert replace.abort(TWO, FILE, world.said.append) == ["controller"]
    assert world.done == BACK


PROGRAM = Path(controller.__file__).with_name("controller.sh")


def program(tmp_path: Path, action: str, *, answers: bool = True) -> subprocess.CompletedProcess[str]:
    """controller.sh with stand-ins for Slurm's programs and systemd's."""
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    for name, script in (
        ("scontrol", "echo 'NEXT_JOB_ID             = 8'; echo 'SLURM_CONF = x'" if answers else "exit 1"),
        ("squeue", "echo 'job 7 RUNNING'"),
        ("systemctl", 'echo "$*" >"$state.systemctl"'),
    ):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "state": str(tmp_path / "slurmctld")}
    return subprocess.run(
        ["sh", PROGRAM, action], env=environment, capture_output=True, text=True, check=False
    )


def test_the_queue_is_asked_for(tmp_path: Path) -> None:
    assert parse(program(tmp_path, "look").stdout) == Queue(8, {"7": "RUNNING"})
    silent = program(tmp_path, "look", answers=False)
    assert (silent.returncode, parse(silent.stdout)) == (0, None)


def test_slurmctld_leaves_a_copy_of_its_state(tmp_path: Path) -> None:
    (tmp_path / "slurmctld").mkdir()
    for text in ("first", "second"):
        (tmp_path / "slurmctld/job_state").write_text(text)
        assert program(tmp_path, "leave").returncode == 0
        assert (tmp_path / "slurmctld.before/job_state").read_text() == text
    assert (tmp_path / "slurmctld.systemctl").read_text() == "stop slurmctld\n"


def test_slurmctld_goes_on_where_its_state_cannot_be_copied(tmp_path: Path) -> None:
    assert program(tmp_path, "leave").returncode != 0
    assert (tmp_path / "slurmctld.systemctl").read_text() == "start slurmctld\n"
