"""What `up` says before it begins, whom it asks, and when it does nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate import paths, schema
from hpcstate.cluster.agree import UpChoice, announce, choice_of, concerns
from hpcstate.cluster.plan import Artifact, Machines, Observed, SlurmSeen, plan_of
from hpcstate.cluster.plan_text import to_dict
from hpcstate.cluster.pyinfra import DeployChoice
from hpcstate.errors import HpcstateError
from hpcstate.hypervisor.machine import Impact, MachineDifference
from hpcstate.model import Description
from hpcstate.probe.running_jobs import RunningJob
from hpcstate.tasks.graph import UP_VARIABLES

JOB = RunningJob(7, "alice", ("compute-01",), 3600)
NODES = ("controller", "compute-01", "compute-02")
AS_USUAL = UpChoice()
MEMORY = MachineDifference("compute-01", "memory", "2048 MiB", "3072 MiB", "power-cycle")


@pytest.fixture
def description() -> Description:
    return schema.load(paths.ROOT / "inventories" / "gpu.yaml")


def world(*jobs: RunningJob, state: str = "running", unfinished: tuple[str, ...] = ()) -> Observed:
    differences = (MEMORY,) if state == "running" and not unfinished else ()
    machines = Machines(state == "running", dict.fromkeys(NODES, state), differences, unfinished)
    return Observed("f", (), {"gpu": machines}, {"gpu": SlurmSeen(jobs=jobs)})


class Person:
    """Says what was asked, and answers."""

    def __init__(self, answer: bool) -> None:
        self.answer, self.asked = answer, 0

    def __call__(self, _question: str) -> bool:
        self.asked += 1
        return self.answer


def run(
    description: Description,
    seen: Observed,
    choice: UpChoice = AS_USUAL,
    ask: Callable[[str], bool] | None = None,
) -> tuple[list[str], list[bool]]:
    """What was said, and whether the nodes were asked each time."""
    said: list[str] = []
    asked: list[bool] = []

    def look(_d: Description, _s: object, *, nodes: bool, host: bool) -> Observed:
        assert not host, "that was done before"
        asked.append(nodes)
        return seen

    announce(description, choice, said.append, ask, look)
    return said, asked


def test_a_fresh_cluster_asks_nobody_and_is_said_in_a_few_lines(description: Description) -> None:
    seen = replace(world(state="absent"), artifacts=(Artifact("hpc-base.qcow2", "missing"),))
    said, nodes = run(description, seen)
    assert nodes == [False]
    assert "gpu-controller, gpu-compute-01, gpu-compute-02: create and start" in said
    assert len(said) <= 5


def test_a_node_without_jobs_goes_off_and_on_unasked(description: Description) -> None:
    said, _ = run(description, world())
    assert said[0] == "compute-01: memory 2048 MiB -> 3072 MiB (the node goes off and on)"


def test_running_jobs_need_agreement(description: Description) -> None:
    with pytest.raises(HpcstateError, match="running jobs of alice are waited for: 7") as caught:
        run(description, world(JOB))
    assert "--yes" in caught.value.hint
    person = Person(False)
    with pytest.raises(HpcstateError, match="nobody agreed"):
        run(description, world(JOB), ask=person)
    assert person.asked == 1
    run(description, world(JOB), ask=Person(True))
    person = Person(False)
    run(description, world(JOB), UpChoice(yes=True), ask=person)
    assert person.asked == 0


def test_a_disk_that_goes_needs_agreement(description: Description) -> None:
    with pytest.raises(HpcstateError, match="its old disk goes"):
        run(description, world(unfinished=("compute-02",)))


def test_jobs_that_nobody_can_see_need_agreement(description: Description) -> None:
    blind = replace(world(), slurm={"gpu": SlurmSeen(jobs=None)})
    with pytest.raises(HpcstateError, match="whether jobs run on compute-01 is not known"):
        run(description, blind)


def test_jobs_elsewhere_concern_nobody(description: Description) -> None:
    run(description, world(replace(JOB, nodes=("compute-02",))))


def test_by_force_jobs_are_not_waited_for_and_that_is_said(description: Description) -> None:
    plan = plan_of(description, world(JOB))
    (line,) = concerns(plan, UpChoice(deploy=DeployChoice(force=True)))
    assert "may be hurt" in line


def test_what_stands_in_the_way_is_said_before_anything_is_built(description: Description) -> None:
    machines = Machines(False, {}, strangers="gpu-controller is another folder's")
    with pytest.raises(HpcstateError, match="another folder's"):
        run(description, replace(world(), machines={"gpu": machines}), UpChoice(yes=True))


@pytest.mark.parametrize(
    ("impact", "found", "wanted", "hints"),
    [("address", "192.168.150.11", "192.168.160.11", 1), ("never", "20 GiB", "10 GiB", 0)],
)
def test_what_nobody_can_change_is_refused_with_one_way_out(
    description: Description, impact: Impact, found: str, wanted: str, hints: int
) -> None:
    difference = MachineDifference("compute-01", impact, found, wanted, impact)
    machines = replace(world().machines["gpu"], differences=(difference,))
    with pytest.raises(HpcstateError, match="nothing was touched") as caught:
        run(description, replace(world(), machines={"gpu": machines}), UpChoice(yes=True))
    assert str(caught.value).count("hint: ") == hints
    assert found in str(caught.value)


def saved(tmp_path: Path, description: Description, seen: Observed) -> UpChoice:
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(to_dict(plan_of(description, seen))))
    return UpChoice(plan=file)


def test_a_saved_plan_is_an_agreement(description: Description, tmp_path: Path) -> None:
    said, nodes = run(description, world(JOB), saved(tmp_path, description, world(JOB)))
    assert said[-1].startswith("as ")
    assert nodes == [False]


def test_a_saved_plan_that_asked_the_nodes_asks_them_again(description: Description, tmp_path: Path) -> None:
    seen = replace(world(JOB), operations=())
    assert run(description, seen, saved(tmp_path, description, seen))[1] == [True]


@pytest.mark.parametrize(
    "other",
    [
        world(JOB, replace(JOB, number=9)),
        replace(world(JOB), file="g"),
        world(state="stopped"),
        replace(world(JOB), unknown=("libvirt: silent",)),
    ],
    ids=["another job", "another file", "other machines", "not seen"],
)
def test_a_saved_plan_is_not_carried_out_in_another_world(
    description: Description, tmp_path: Path, other: Observed
) -> None:
    choice = replace(saved(tmp_path, description, world(JOB)), yes=True)
    with pytest.raises(HpcstateError, match="not the one that this plan was made for") as caught:
        run(description, other, choice)
    assert "hpcstate plan" in caught.value.hint


def test_a_plan_that_had_not_seen_everything_is_refused(description: Description, tmp_path: Path) -> None:
    blind = replace(world(JOB), unknown=("libvirt: silent",))
    with pytest.raises(HpcstateError, match="without having seen everything"):
        run(description, world(JOB), saved(tmp_path, description, blind))


def test_the_choice_is_parsed_once() -> None:
    assert choice_of({}) == choice_of(dict.fromkeys(UP_VARIABLES, "")) == UpChoice()
    chosen = choice_of({"yes": "yes", "plan": "p", "drain_seconds": "60", "force": "no", "reboot": "true"})
    assert chosen == UpChoice(True, Path("p"), DeployChoice(60, False, True))


@pytest.mark.parametrize("name", sorted(UP_VARIABLES.keys() - {"plan"}))
def test_a_wrong_choice_is_a_message(name: str) -> None:
    with pytest.raises(HpcstateError, match=f"{name} is 'perhaps'"):
        choice_of({name: "perhaps"})


@pytest.mark.parametrize("text", ["0", "-1", "inf", "nan"])
def test_seconds_are_some(text: str) -> None:
    with pytest.raises(HpcstateError, match="drain_seconds is"):
        choice_of({"drain_seconds": text})
