"""New disks for compute nodes: who gets one, how many at once, and the way back."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import pytest

from hpcstate.cluster import disks, lifecycle, replace
from hpcstate.cluster.replace import Due, due, next_batch
from hpcstate.errors import HpcstateError
from hpcstate.hypervisor.machine import MachineDifference
from hpcstate.model import Cluster, RollSettings, Share
from hpcstate.paths import ClusterPaths
from hpcstate.probe.slurm import SlurmNode
from tests.unit.fake_live import TWO, FakeLive, a_node

FOUR = changed(TWO, nodes=(*TWO.nodes, a_node("compute-03", 13), a_node("compute-04", 14)))
FILE = Path("gpu.yaml")


def slurm(**states: str) -> dict[str, SlurmNode]:
    """slurmctld's nodes: ``compute_01="IDLE"``, ``"IDLE+DRAIN reason"``."""
    nodes = {}
    for name, said in states.items():
        words, _, reason = said.partition(" ")
        nodes[name.replace("_", "-")] = SlurmNode(
            states=words.split("+"),
            reason=reason,
            reason_user="root",
            reason_since=0,
            gres="",
            gres_used="",
            cpus=2,
            cpus_alloc=0,
            memory_mb=2048,
            version="24.11.5",
            extra="",
        )
    return nodes


def other_image(*names: str) -> list[MachineDifference]:
    return [MachineDifference(name, "image", "old", "new", "replace") for name in names]


def test_who_gets_a_new_disk() -> None:
    differences = [
        *other_image("controller", "compute-01", "compute-02", "compute-03"),
        MachineDifference("compute-04", "memory", "2048 MiB", "3072 MiB", "power-cycle"),
    ]
    known = slurm(
        compute_01="IDLE+DRAIN fan broken",
        compute_02="IDLE",
        compute_03="DOWN Not responding",
        compute_04="IDLE",
    )
    assert due(FOUR, differences, ["compute-04"], known) == Due(
        unfinished=("compute-04",),
        wait=("compute-03", "compute-02"),
        theirs={"compute-01": "fan broken"},
        controller=True,
    )
    assert not due(FOUR, other_image("controller"), [], known)


def test_login_nodes_go_last_and_are_no_share_of_the_compute_nodes() -> None:
    cluster = changed(FOUR, nodes=(*FOUR.nodes, a_node("login-01", 9, "login", gpus=0)))
    differences = other_image("login-01", "compute-01", "compute-02")
    known = slurm(compute_01="IDLE", compute_02="DOWN Not responding")
    assert due(cluster, differences, [], known).wait == ("compute-02", "compute-01", "login-01")
    assert due(cluster, [], [], known, only=["login-01"]).wait == ("login-01",)


def test_a_drain_of_ours_or_of_slurm_keeps_no_node_from_it() -> None:
    known = slurm(compute_01="IDLE+DRAIN hpcstate: stop", compute_02="IDLE+DRAIN+INVALID_REG Low RealMemory")
    assert due(TWO, other_image("compute-01", "compute-02"), [], known).wait == ("compute-02", "compute-01")


def test_a_named_node_gets_a_new_disk_whatever_its_image_is() -> None:
    known = slurm(compute_01="IDLE", compute_02="IDLE")
    assert due(TWO, other_image("compute-01"), [], known, only=["compute-02"]).wait == ("compute-02",)
    mended = slurm(compute_01="IDLE+DRAIN fan broken", compute_02="IDLE")
    assert due(TWO, [], [], mended, only=["compute-01"]).theirs == {"compute-01": "fan broken"}
    assert due(TWO, [], [], known, only=["controller"]).wait == ("controller",)
    both = due(TWO, other_image("controller"), [], known, only=["compute-02"], controller_too=True)
    assert both.wait == ("controller", "compute-02")
    assert due(TWO, other_image("controller"), [], known, only=["compute-02"]).controller
    with pytest.raises(HpcstateError, match="no node is called 'compute-09'"):
        replace.look(TWO, only=["compute-09"])


NAMES = [f"compute-{number:02}" for number in range(1, 9)]


@pytest.mark.parametrize(
    ("settings", "first", "ill", "expected"),
    [
        (RollSettings(), True, {}, 1),
        (RollSettings(), False, {}, 1),
        (RollSettings(unavailable=Share(4)), True, {}, 1),
        (RollSettings(unavailable=Share(4)), False, {}, 2),
        (RollSettings(unavailable=Share(50, percent=True), batch=Share(100, percent=True)), False, {}, 4),
        (RollSettings(canary=0, unavailable=Share(2)), True, {}, 2),
        (RollSettings(canary=3, unavailable=Share(8)), True, {}, 3),
        # Nodes that are down already are away as well, but not twice.
        (RollSettings(unavailable=Share(2)), False, {"compute-08": "DOWN"}, 1),
        (RollSettings(unavailable=Share(2)), False, {"compute-01": "DOWN"}, 2),
        (RollSettings(), False, {"compute-01": "DOWN"}, 1),
    ],
)
def test_how_many_go_at_once(settings: RollSettings, first: bool, ill: dict[str, str], expected: int) -> None:
    batch = next_batch(NAMES, 8, settings, ill, first=first)
    assert batch == tuple(NAMES[:expected])


def test_no_room_for_another_one() -> None:
    with pytest.raises(HpcstateError, match="compute-08 is DOWN: another one away") as caught:
        next_batch(NAMES, 8, RollSettings(), {"compute-08": "DOWN"}, first=True)
    assert caught.value.where == ".clusters.hpc.roll.unavailable"


@pytest.mark.parametrize(
    ("share", "total", "expected"),
    [
        (Share(25, percent=True), 8, 2),
        (Share(25, percent=True), 7, 1),
        (Share(25, percent=True), 1, 1),
        (Share(3), 8, 3),
        (Share(100, percent=True), 8, 8),
    ],
)
def test_a_share(share: Share, total: int, expected: int) -> None:
    assert share.of(total) == expected


class World:
    """What is done to the machines, in order; ``fails`` names the step that raises."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        unfinished: Sequence[str] = (),
        reserved: Sequence[str] = (),
    ) -> None:
        self.done: list[str] = []
        self.said: list[str] = []
        self.fails: str = ""
        self.error: BaseException = HpcstateError("no answer on SSH", where="lab")
        self.unfinished = list(unfinished)
        for module, name, names in (
            (lifecycle, "stop", 3),
            (lifecycle, "start", 3),
            (disks, "new_disks", 3),
            (disks, "old_disks", 2),
            (disks, "confirm_disks", 2),
        ):
            monkeypatch.setattr(module, name, self.step(name, names))
        monkeypatch.setattr(disks, "unfinished", lambda _: tuple(self.unfinished))
        known = {replace.reservation_of(name): name for name in reserved}
        monkeypatch.setattr(replace, "reservations", lambda _: known)
        monkeypatch.setattr(disks, "drop_unused_images", lambda *_: self.done.append("drop"))
        monkeypatch.setattr(replace, "slurm_nodes", lambda _: slurm(compute_01="IDLE", compute_02="IDLE"))
        monkeypatch.setattr(replace, "wait_for_slurm", lambda _, name, __: self.note(f"wait {name}"))
        monkeypatch.setattr(replace, "_try", lambda _, node: self.note(f"try {node.name}"))
        monkeypatch.setattr(
            replace, "_trial", lambda _, action, names: self.note(f"{action} {' '.join(names)}")
        )

    def step(self, name: str, position: int) -> Callable[..., None]:
        def work(*arguments: Any, **options: Any) -> None:
            how = f" {options['jobs']}" if "jobs" in options else ""
            if arguments[position]:
                self.note(f"{name} {' '.join(arguments[position])}{how}")

        return work

    def note(self, text: str) -> None:
        self.done.append(text)
        if text == self.fails:
            self.fails = ""
            raise self.error

    def deploy(self) -> Sequence[str]:
        self.note("deploy")
        return ()

    def run(self, *wait: str, cluster: Cluster = TWO) -> list[str]:
        return replace.replace(
            cluster, FILE, Due(tuple(self.unfinished), wait, {}), self.deploy, self.said.append
        )


def one(name: str) -> list[str]:
    """The steps of a node that passes."""
    return [
        f"reserve {name}",
        f"stop {name} drain",
        f"new_disks {name}",
        f"start {name}",
        "deploy",
        f"wait {name}",
        f"try {name}",
        f"confirm_disks {name}",
        f"release {name}",
    ]


def test_the_canary_then_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    assert world.run("compute-01", "compute-02") == ["compute-01", "compute-02"]
    assert world.done == [*one("compute-01"), *one("compute-02"), "drop"]
    assert "compute-01: new disks from the image of now, 1 of 2" in world.said


def test_one_that_somebody_drains_meanwhile_keeps_its_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    states = {"compute_01": "IDLE", "compute_02": "IDLE"}

    def deploy() -> Sequence[str]:
        states["compute_02"] = "IDLE+DRAIN fan"
        return world.deploy()

    monkeypatch.setattr(replace, "slurm_nodes", lambda _: slurm(**states))
    work = Due((), ("compute-01", "compute-02"), {})
    assert replace.replace(TWO, FILE, work, deploy, world.said.append) == ["compute-01"]
    assert world.done == [*one("compute-01"), "drop"]
    assert "compute-02 keeps its image: somebody drained it meanwhile (fan)" in world.said


def test_login_nodes_one_by_one_behind_them(monkeypatch: pytest.MonkeyPatch) -> None:
    doors = (a_node("login-01", 9, "login", gpus=0), a_node("login-02", 8, "login", gpus=0))
    world = World(monkeypatch)
    done = world.run("compute-01", "login-01", "login-02", cluster=changed(TWO, nodes=(*TWO.nodes, *doors)))
    assert done == ["compute-01", "login-01", "login-02"]
    assert world.done == [*one("compute-01"), *one("login-01"), *one("login-02"), "drop"]


@pytest.mark.parametrize(
    "step", ["new_disks compute-01", "start compute-01", "deploy", "wait compute-01", "try compute-01"]
)
def test_one_that_does_not_pass_gets_its_old_disk(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    world = World(monkeypatch)
    world.fails = step
    with pytest.raises(HpcstateError, match="the old disks are back; compute-02 were not touched") as caught:
        world.run("compute-01", "compute-02")
    assert "no answer on SSH" in caught.value.message
    back = ["stop compute-01 force", "old_disks compute-01", "start compute-01", "wait compute-01"]
    assert world.done[world.done.index(step) + 1 :] == [*back, "release compute-01"]
    assert not [line for line in world.done if "compute-02" in line]


def test_a_deploy_that_fails_there(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    monkeypatch.setattr(world, "deploy", lambda: ["compute-01"])
    with pytest.raises(HpcstateError, match="the deploy failed on compute-01"):
        world.run("compute-01")
    assert "old_disks compute-01" in world.done


def test_jobs_that_do_not_end_leave_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.fails = "stop compute-01 drain"
    with pytest.raises(HpcstateError, match="no answer"):
        world.run("compute-01")
    assert world.done == ["reserve compute-01", "stop compute-01 drain", "release compute-01"]


def test_what_was_interrupted_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, unfinished=["compute-01"])
    assert world.run("compute-02") == ["compute-01", "compute-02"]
    first = [step for step in one("compute-01") if not step.startswith(("stop", "new_disks"))]
    assert world.done[: len(first)] == first


def test_ctrl_c_leaves_what_is_there_and_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.fails, world.error = "start compute-01", KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        world.run("compute-01")
    assert world.done[-1] == "start compute-01"
    assert "hpcstate roll resume gpu.yaml" in world.said[-1]


def test_a_way_back_that_fails_hides_no_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.fails = "try compute-01"

    def full(*_: Any) -> None:
        raise HpcstateError("the pool is full", where="compute-01.qcow2", hint="make room")

    monkeypatch.setattr(disks, "old_disks", full)
    with pytest.raises(HpcstateError) as caught:
        world.run("compute-01", "compute-02")
    assert caught.value.message.splitlines() == [
        "the image did not pass on compute-01: no answer on SSH",
        "and the way back to the old disks failed: the pool is full",
    ]
    assert (caught.value.where, caught.value.hint) == (
        "compute-01.qcow2",
        "make room; then hpcstate roll abort gpu.yaml",
    )


def test_what_a_killed_roll_left_reserved_is_open_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before the node was drained, or when its new disk had passed."""
    known = slurm(compute_01="IDLE+MAINTENANCE", compute_02="MIXED+RESERVED")
    work = due(TWO, other_image("compute-02"), ["compute-01"], known)
    assert work.reserved == ("compute-02",)
    world = World(monkeypatch)
    replace.release_left(TWO, work)
    replace.release_left(TWO, due(TWO, [], [], slurm(compute_01="IDLE")))
    assert world.done == ["release compute-02"]


@pytest.mark.parametrize(
    ("left", "released"), [("compute-01", []), ("compute-02", ["release compute-02"])], ids=["first", "later"]
)
def test_a_node_that_goes_on_at_once_stays_reserved(
    monkeypatch: pytest.MonkeyPatch, left: str, released: list[str]
) -> None:
    """Between two reservations a job would start on it, and be waited for."""
    world = World(monkeypatch)
    work = Due((), ("compute-01", "compute-02"), {}, reserved=(left,))
    replace.replace(TWO, FILE, work, world.deploy, world.said.append)
    assert world.done[: len(released) + 1] == [*released, "reserve compute-01"]


def test_a_node_that_has_no_room_to_go_is_open_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    monkeypatch.setattr(replace, "slurm_nodes", lambda _: slurm(compute_01="IDLE", compute_02="DOWN"))
    with pytest.raises(HpcstateError, match="compute-02 is DOWN"):
        replace.replace(
            TWO, FILE, Due((), ("compute-01",), {}, reserved=("compute-01",)), world.deploy, world.said.append
        )
    assert world.done == ["release compute-01"]


def test_abort(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, unfinished=["compute-02"])
    assert replace.abort(TWO, FILE, world.said.append) == ["compute-02"]
    assert world.done[:3] == ["stop compute-02 force", "old_disks compute-02", "start compute-02"]
    assert world.done[-1] == "release compute-01 compute-02"


def test_abort_of_a_roll_that_was_killed_before_the_new_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, reserved=["compute-01"])
    monkeypatch.setattr(
        replace, "take_jobs_again", lambda _, names, __: world.note(f"resume {' '.join(names)}")
    )
    assert replace.abort(TWO, FILE, world.said.append) == []
    assert world.done == ["release compute-01 compute-02", "start compute-01", "resume compute-01"]
    assert "compute-01: a roll had begun" in world.said[0]


# In the form of `scontrol --oneliner show reservation` (slurm_sprint_reservation_info); one of the three is
# somebody's.
RESERVATIONS = """\
ReservationName=hpcstate-roll-compute-01 StartTime=2026-11-27T10:00:00 EndTime=2027-11-27T10:00:00 \
Duration=365-00:00:00 Nodes=compute-01 NodeCnt=1 CoreCnt=2 Features=(null) PartitionName=(null) \
Flags=MAINT,IGNORE_JOBS,SPEC_NODES,ALL_NODES TRES=cpu=2 Users=root Groups=(null) Accounts=(null) \
Licenses=(null) State=ACTIVE BurstBuffer=(null) MaxStartDelay=(null)
ReservationName=course StartTime=2026-11-27T10:00:00 Nodes=compute-02 NodeCnt=1 State=ACTIVE
ReservationName=hpcstate-roll-lunch StartTime=2026-11-27T10:00:00 Nodes=(null) State=INACTIVE
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (RESERVATIONS, {"hpcstate-roll-compute-01": "compute-01", "hpcstate-roll-lunch": ""}),
        ("No reservations in the system\n", {}),
        ("", {}),
        ("slurm_load_reservations error: Unable to contact slurm controller\n", {}),
        ("ReservationName=hpcstate-roll-x\n", {"hpcstate-roll-x": ""}),
    ],
)
def test_reservations_with_a_name_of_ours(text: str, expected: dict[str, str]) -> None:
    assert replace.parse_reservations(text) == expected


def test_a_silent_controller_has_no_reservations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcstate.paths.BUILD", tmp_path)
    key = ClusterPaths.of(TWO.name).ssh_key
    key.parent.mkdir(parents=True)
    key.touch()
    monkeypatch.setattr(replace, "Live", lambda _: FakeLive(lambda *_: HpcstateError("silent")))
    assert replace.reservations(TWO) == {}
    monkeypatch.setattr(replace, "Live", lambda _: FakeLive(lambda *_: RESERVATIONS))
    assert len(replace.reservations(TWO)) == 2


def test_a_roll_at_work_is_said_first() -> None:
    work, file = Due(("compute-01",), ("compute-02",), {}), "gpu.yaml"
    who = "root: hpcstate roll start gpu.yaml (process 12, since 2026-11-27 10:00:00)"
    held = {"hpcstate-roll-compute-01": "compute-01"}
    assert work.lines(TWO, file, who, held) == [
        f"at work: {who}",
        "compute-01: a new disk that has not passed yet",
        "compute-02: another image",
    ]
    assert Due((), (), {}).lines(TWO, file, who, held) == [f"at work: {who}"], "its first node is drained"
    assert Due((), (), {}).lines(TWO, file, who) == [f"at work: {who}", "every node has the image of now"]


def test_a_slurmctld_that_is_silent_is_said() -> None:
    nobody = due(TWO, [], [], {})
    assert nobody.lines(TWO, "gpu.yaml") == [
        "slurmctld does not answer: which nodes are drained or reserved is not known",
        "every node has the image of now",
    ]
    assert not due(TWO, [], [], slurm(compute_01="IDLE")).silent


def test_a_reservation_that_no_roll_needs_is_named() -> None:
    held = {"hpcstate-roll-compute-01": "compute-01", "hpcstate-roll-lunch": ""}
    first, second = Due((), (), {}).lines(TWO, "gpu.yaml", "", held)
    assert first == (
        "compute-01: reservation hpcstate-roll-compute-01 keeps jobs off, and no roll is at work "
        "(`hpcstate roll resume gpu.yaml` lifts it)"
    )
    assert "scontrol delete reservationname=hpcstate-roll-lunch" in second
    going_on = Due(("compute-01",), (), {}).lines(TWO, "gpu.yaml", "", held)
    assert "hpcstate-roll-compute-01" not in "".join(going_on), "it is that of the roll to be resumed"


def test_words() -> None:
    work = Due(("compute-01",), ("compute-02",), {"compute-03": "fan broken"}, controller=True)
    assert [line.split(" (`")[0] for line in work.lines(TWO, "gpu.yaml")] == [
        "compute-01: a new disk that has not passed yet",
        "compute-02: another image",
        "compute-03 keeps its image: somebody drained it (fan broken)",
        "controller keeps its image: users' homes may lie on its disk",
    ]
    shared = work.left_lines(changed(TWO, home="nfs"))[-1]
    assert "nobody can submit" in shared and "what is on its data volume stays" in shared
    assert Due((), (), {}).lines(TWO, "gpu.yaml") == ["every node has the image of now"]
    assert work.to_dict()["theirs"] == {"compute-03": "fan broken"}


TRIAL = Path(replace.__file__).with_name("trial.sh")
FAKE = """#!/bin/sh
echo "$(basename "$0") $*" >>"$LOG"
case "$(basename "$0") $*" in
*"show reservation"*) [ -e "$HOME/reserved" ] ;;
sinfo*) echo gpu ;;
*"--gres=gpu:2"*) export CUDA_VISIBLE_DEVICES=0,1 ;;
esac || exit 1
case "$(basename "$0")" in
srun) while [ "$1" != /bin/sh ]; do shift; done; exec "$@" ;;
esac
"""


def trial(
    tmp_path: Path, *arguments: str, reserved: bool = False, name: str = "compute-01"
) -> tuple[int, str, str]:
    """Exit code, calls, and what trial.sh said, with programs that stand in for Slurm's."""
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    for program in ("scontrol", "sinfo", "srun", "apptainer"):
        (folder / program).write_text(FAKE)
        (folder / program).chmod(0o755)
    (folder / "hostname").write_text(f"#!/bin/sh\necho {name}\n")
    (folder / "hostname").chmod(0o755)
    if reserved:
        (tmp_path / "reserved").touch()
    log = tmp_path / "log"
    log.touch()
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "LOG": str(log), "HOME": str(tmp_path)}
    done = subprocess.run(
        ["sh", TRIAL, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, log.read_text(), done.stdout + done.stderr


def test_a_reservation_is_made_once_and_goes(tmp_path: Path) -> None:
    code, calls, _ = trial(tmp_path, "reserve", "compute-01")
    assert code == 0
    assert "create reservation reservationname=hpcstate-roll-compute-01 nodes=compute-01" in calls
    code, calls, _ = trial(tmp_path, "reserve", "compute-01", reserved=True)
    assert (code, calls.count("create")) == (0, 1)
    code, calls, _ = trial(tmp_path, "release", "compute-01")
    assert (code, calls.count("delete reservationname=hpcstate-roll-compute-01")) == (0, 1)
    (tmp_path / "reserved").unlink()
    code, calls, _ = trial(tmp_path, "release", "compute-01")
    assert (code, calls.count("delete")) == (0, 1)


def test_a_job_on_the_node(tmp_path: Path) -> None:
    code, calls, said = trial(tmp_path, "try", "compute-01", "2")
    assert (code, said) == (0, "")
    assert "--reservation=hpcstate-roll-compute-01 --partition=gpu --nodelist=compute-01" in calls
    code, _, said = trial(tmp_path, "try", "compute-01", "3")
    assert (code, said) == (1, "the job got 0 GPUs of 3 (none)\n")
    code, _, said = trial(tmp_path, "try", "compute-01", "0", name="localhost")
    assert (code, said) == (1, "the node calls itself localhost\n")
