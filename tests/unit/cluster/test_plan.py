"""What `up` would do: made of what was seen, and how it reads."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from hpcstate import paths, schema
from hpcstate.cluster import plan_files, plan_look, pyinfra, turn
from hpcstate.cluster.plan import (
    PARTS,
    VACATES,
    Artifact,
    Machines,
    Observed,
    Plan,
    SlurmSeen,
    Step,
    changed_inputs,
    plan_of,
)
from hpcstate.cluster.plan_look import slurm_of
from hpcstate.cluster.plan_text import as_text, changed_since, in_short, read_saved, to_dict
from hpcstate.cluster.pyinfra import DeployReport, Operation
from hpcstate.errors import HpcstateError
from hpcstate.hypervisor.machine import Impact, MachineDifference, summed
from hpcstate.model import Description
from hpcstate.node.file_change import FileChange
from hpcstate.probe.running_jobs import RunningJob, time_left
from hpcstate.slurm.conf import configuration
from hpcstate.slurm.impact import owed
from tests.unit.fake_live import FakeLive

JOB = RunningJob(7, "alice", ("compute-01",), 3600)
ELSEWHERE = RunningJob(8, "bob", ("compute-02",), None)
RUNNING = {"controller": "running", "compute-01": "running", "compute-02": "running"}


@pytest.fixture
def description() -> Description:
    return schema.load(paths.ROOT / "inventories" / "gpu.yaml")


def seen(
    *differences: MachineDifference, states: dict[str, str] = RUNNING, network: bool = True, **more: object
) -> Observed:
    machines = {"gpu": Machines(network, states, differences)}
    slurm = {"gpu": SlurmSeen(jobs=(JOB, ELSEWHERE))}
    return Observed(**{"file": "f", "machines": machines, "slurm": slurm, **more})  # type: ignore[arg-type]


def memory(node: str = "compute-01", impact: Impact = "power-cycle") -> MachineDifference:
    return MachineDifference(node, "memory", "2048 MiB", "3072 MiB", impact)


def test_a_cluster_as_described_is_nothing_to_do(description: Description) -> None:
    made = plan_of(description, seen(operations=()))
    assert (made.empty, made.code, made.steps) == (True, 0, ())
    assert len(as_text(made).splitlines()) == 1


def test_what_is_left_as_it_is_is_named_and_is_nothing_to_do(description: Description) -> None:
    made = plan_of(description, seen(named=("[a] slurmd.service also runs by x.conf",)))
    assert made.empty
    first, title, line = as_text(made).splitlines()
    assert first.startswith("nothing to do")
    assert (title, line) == ("left as it is:", "  [a] slurmd.service also runs by x.conf")


def test_a_node_that_goes_off_and_on_names_the_jobs_on_it_only(description: Description) -> None:
    made = plan_of(description, seen(memory()))
    (step,) = made.steps
    assert (step.part, step.drains, step.jobs) == ("machines", ("compute-01",), (JOB,))
    assert made.jobs == (JOB,)
    text = as_text(made)
    assert "compute-01: memory 2048 MiB -> 3072 MiB (the node goes off and on)" in text
    assert "7    alice  compute-01  01:00:00" in text
    assert "bob" not in text


def test_the_controller_goes_off_and_on_without_the_jobs_of_others(description: Description) -> None:
    made = plan_of(description, seen(memory("controller")))
    assert [(step.drains, step.jobs) for step in made.steps] == [((), ())]


def test_a_cluster_that_was_never_started_is_planned_whole(description: Description) -> None:
    states = dict.fromkeys(RUNNING, "absent")
    artifacts = (
        Artifact("hpc-base.qcow2", "missing", stored=True),
        Artifact("x.sif", "missing", container=True),
    )
    made = plan_of(description, seen(states=states, network=False, artifacts=artifacts))
    assert made.code == 1
    assert made.unknown == ()
    text = as_text(made)
    assert "hpc-base.qcow2: fetch from the store" in text
    assert "x.sif: build" in text
    assert f"network {description.clusters[0].network.name}: create" in text
    assert "gpu-controller, gpu-compute-01, gpu-compute-02: create and start" in text
    assert "controller, compute-01, compute-02: everything of its role" in text
    assert made.jobs == ()


def test_of_a_cluster_that_is_half_there_the_rest_is_planned_too(description: Description) -> None:
    states = {**RUNNING, "compute-02": "stopped"}
    operations = (Operation("Hosts", ("compute-01",), (), ()), Operation("Other", (), ("compute-01",), ()))
    made = plan_of(description, seen(states=states, operations=operations))
    assert [(step.part, step.what) for step in made.steps] == [
        ("machines", "gpu-compute-02"),
        ("nodes", "compute-02"),
        ("nodes", "Hosts"),
    ]
    assert made.code == 1


def test_jobs_on_a_node_that_went_off_are_named_at_its_start(description: Description) -> None:
    made = plan_of(description, seen(states={**RUNNING, "compute-01": "stopped"}))
    (start,) = [step for step in made.steps if step.does == "start"]
    assert start.why.endswith("Slurm has not missed its jobs yet, and requeues or ends them: 7 of alice")
    assert made.jobs == (), "nobody waits for them"


def test_a_drain_of_ours_is_lifted(description: Description) -> None:
    name = description.clusters[0].name
    world = seen()
    slurm = replace(world.slurm[name], ours={"compute-02": "hpcstate: stop"})
    made = plan_of(description, replace(world, slurm={name: slurm}))
    assert made.code == 1
    assert "drain of compute-02: lift (jobs start there again); hpcstate: stop" in as_text(made)


def test_a_container_that_is_not_built_is_delivered_later(description: Description) -> None:
    artifact = Artifact("mpi.sif", "missing", container=True)
    made = plan_of(description, seen(artifacts=(artifact,), operations=()))
    assert [(step.part, step.does) for step in made.steps] == [
        ("build", "build"),
        ("nodes", "deliver to the nodes"),
    ]


def test_why_something_is_built() -> None:
    before = {"files": {"a.yaml": "1", "b.hcl": "2"}, "seed": "x", "groups": ["compute"]}
    now = {"files": {"a.yaml": "1", "b.hcl": "3", "c": "4"}, "seed": "y", "groups": ["compute"]}
    assert changed_inputs(before, now) == ("b.hcl", "c", "seed")


def test_what_others_do_is_not_what_up_does(description: Description) -> None:
    rows = [
        MachineDifference("compute-03", "node", "running", "", "remove"),
        MachineDifference("compute-01", "image", "a", "b", "replace"),
    ]
    made = plan_of(description, seen(*rows))
    assert [(step.by, step.removes) for step in made.steps] == [
        ("hpcstate start --remove", True),
        ("hpcstate roll start", True),
    ]
    assert (made.by_up, made.jobs) == ((), ())
    assert "compute-03: node running -> none (hpcstate start --remove)" in as_text(made)


def test_a_roll_that_was_interrupted_goes_on_and_loses_the_old_disk(description: Description) -> None:
    observed = seen()
    machines = {"gpu": replace(observed.machines["gpu"], unfinished=("compute-01",))}
    (step,) = plan_of(description, replace(observed, machines=machines)).by_up
    assert step.removes
    assert step.jobs == (JOB,)


@pytest.mark.parametrize("impact", ["never", "identity", "address"])
def test_what_up_refuses_is_an_obstacle(description: Description, impact: Impact) -> None:
    made = plan_of(description, seen(memory(impact=impact)))
    assert made.steps == ()
    assert len(made.obstacles) == 1
    assert as_text(made).startswith("stands in the way:\n")
    assert made.code == 1


def test_jobs_and_drains_that_stop_up_are_obstacles(description: Description) -> None:
    """A drain of somebody on a node that has to go off, and jobs on one that the file no longer has."""
    theirs = SlurmSeen(jobs=(JOB, ELSEWHERE), theirs={"compute-01": "fan broken"})
    (said,) = plan_of(description, seen(memory(), slurm={"gpu": theirs})).obstacles
    assert "somebody drained them: compute-01 (fan broken)" in said
    assert "on controller: sudo scontrol update nodename=compute-01 state=resume" in said
    gone = MachineDifference("compute-02", "node", "running", "", "remove")
    (said,) = plan_of(description, seen(gone, slurm={"gpu": theirs})).obstacles
    assert f"the file no longer has compute-02, and jobs run there: {ELSEWHERE}" in said
    assert plan_of(description, seen(gone, slurm={"gpu": SlurmSeen()})).obstacles == ()


def test_what_slurm_is_told_and_who_is_drained_for_it(description: Description) -> None:
    (cluster,) = description.clusters
    wanted = configuration(cluster)
    old = wanted["slurm.conf"].replace("ReturnToService=2", "ReturnToService=1")
    assert old != wanted["slurm.conf"]
    small = owed({**wanted, "slurm.conf": old}, wanted, (), wanted)
    made = plan_of(description, seen(slurm={"gpu": SlurmSeen(small, (JOB,))}))
    assert [(step.what, step.does, step.jobs) for step in made.steps] == [
        ("slurmctld on controller", "reconfigure", ())
    ]
    assert made.steps[0].why == "ReturnToService"
    large = owed(
        {**wanted, "slurm.conf": wanted["slurm.conf"] + "AuthInfo=cred_expire=130\n"}, wanted, (), wanted
    )
    made = plan_of(description, seen(slurm={"gpu": SlurmSeen(large, (JOB, ELSEWHERE))}))
    assert ("slurmd on compute-01", (JOB,)) in [(step.what, step.jobs) for step in made.steps]
    assert made.jobs == (JOB, ELSEWHERE)
    assert owed(wanted, wanted, (), wanted).changes == ()


def test_an_operation_that_drains_names_the_jobs(description: Description) -> None:
    made = plan_of(
        description,
        seen(operations=(Operation(f"deploys/vacate.py | {VACATES[0]}", ("compute-02",), (), ()),)),
    )
    assert made.jobs == (ELSEWHERE,)


def test_files_are_shown_of_nodes_that_would_be_changed(description: Description) -> None:
    files = tuple(FileChange(name, "/etc/hosts", True, "") for name in ("compute-01", "compute-02"))
    made = plan_of(description, seen(operations=(Operation("Hosts", ("compute-01",), (), ()),), files=files))
    assert made.files == files[:1]


def test_the_operations_that_drain_are_called_so() -> None:
    texts = [(paths.ROOT / "deploys" / f"{name}.py").read_text() for name in ("vacate", "nvidia")]
    assert [f'name="{name}"' in text for name, text in zip(VACATES, texts, strict=True)] == [True, True]


def test_what_could_not_be_looked_at_is_code_2(description: Description) -> None:
    made = plan_of(description, seen(memory(), unknown=("libvirt: does not answer",)))
    assert made.code == 2
    assert "memory" in as_text(made), "the rest is planned all the same"
    assert "not known:\n  libvirt: does not answer" in as_text(made)


def test_up_says_in_short_what_it_will_do_itself(description: Description) -> None:
    rows = [memory(), MachineDifference("compute-03", "node", "running", "", "remove")]
    lines = in_short(plan_of(description, seen(*rows)))
    assert lines[0] == "compute-01: memory 2048 MiB -> 3072 MiB (the node goes off and on)"
    assert lines[1].startswith("the state of the nodes: ")
    assert not any("compute-03" in line for line in lines)


def test_what_is_the_same_for_several_is_one_line(description: Description) -> None:
    things = ["network gpu", "storage pool", *RUNNING]
    rows = [MachineDifference(what, "autostart", "off", "on", "live") for what in things]
    made = plan_of(description, seen(*rows, memory()))
    assert as_text(made).splitlines()[1:3] == [
        "  network gpu, storage pool, controller, compute-01, compute-02: autostart off -> on "
        "(at once, nothing notices)",
        "  compute-01: memory 2048 MiB -> 3072 MiB (the node goes off and on)",
    ]
    assert len(to_dict(made)["steps"]) == 6, "programs have each"
    assert summed(rows) == [as_text(made).splitlines()[1].strip()]
    apart = [replace(step, why=step.what) for step in made.steps]
    assert len(as_text(replace(made, steps=tuple(apart))).splitlines()) == len(as_text(made).splitlines()) + 4


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "no limit"), (59, "00:00:59"), (90061, "1-01:01:01"), (3600, "01:00:00")]
)
def test_time_left_is_written_as_squeue_does(seconds: int | None, text: str) -> None:
    assert time_left(seconds) == text


def controller_says(applied: str, jobs: str, nodes: str = "") -> FakeLive:
    def answer(_: str, script: str) -> str:
        if "squeue" in script:
            return jobs
        if "newerct" in script:
            return ""
        return nodes if "show nodes" in script else applied

    return FakeLive(answer)


def test_a_controller_that_was_never_deployed_has_no_changes_and_no_jobs() -> None:
    unknown: list[str] = []
    assert slurm_of(controller_says("", "absent\n"), unknown) == SlurmSeen()
    assert unknown == []


def test_a_slurmctld_that_is_silent_is_not_one_without_jobs() -> None:
    unknown: list[str] = []
    assert slurm_of(controller_says("", "silent\n"), unknown).jobs is None
    assert "slurmctld does not answer" in unknown[0]


def test_the_changes_are_those_against_what_the_daemon_runs_with() -> None:
    text = "ClusterName=test\n"
    live = controller_says(f"{len(text)} ./slurm.conf\n\n{text}", "slurmctld\n7|alice|compute-01|1:00:00\n")
    found = slurm_of(live, [])
    assert found.jobs == (JOB,)
    assert found.impact.changes


def test_a_drain_of_somebody_is_named_as_what_stays(description: Description) -> None:
    recorded = paths.ROOT / "tests/facts/slurm.SlurmNodes/quoting_reasons.txt"
    unknown: list[str] = []
    found = slurm_of(controller_says("", "slurmctld\n", recorded.read_text()), unknown)
    assert unknown == []
    made = plan_of(description, replace(seen(), slurm={"test": found}))
    assert found.drains and set(found.drains) <= set(made.named)
    assert made.empty == plan_of(description, seen()).empty, "nothing that `up` would do"
    assert all("and stays so" in line for line in found.drains)


class World:
    """What plan_look asks, answered from here."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, states: dict[str, str]) -> None:
        self.read: list[str] = []
        self.asked: list[tuple[list[str], list[str]]] = []
        monkeypatch.setattr(plan_look, "_artifacts", lambda *_: [])
        monkeypatch.setattr(plan_look, "_obstacles", lambda *_: ())
        monkeypatch.setattr(plan_look, "machines", lambda *_: Machines(True, states))
        monkeypatch.setattr(plan_look, "_slurm", lambda *_: SlurmSeen())
        monkeypatch.setattr(pyinfra, "plan", self.plan)
        self.boots = dict.fromkeys(states, "one")
        self.operations: tuple[Operation, ...] = ()
        self.meanwhile: dict[str, str] = {}
        monkeypatch.setattr(plan_look, "_boots", lambda _: dict(self.boots))
        self.error: HpcstateError | None = None
        self.changes: tuple[FileChange, ...] = ()
        monkeypatch.setattr(plan_files, "look", self.files)

    def files(self, _cluster: object, running: list[str]) -> list[FileChange]:
        self.read = running
        return []

    def plan(self, _d: object, _s: object, *, only: list[str], without: list[str]) -> DeployReport:
        self.asked.append((list(only), list(without)))
        if self.error:
            raise self.error
        self.boots |= self.meanwhile
        return DeployReport(self.operations, (), 1.0, files=self.changes)


def test_what_pyinfra_alone_would_write_is_a_difference_too(
    description: Description, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(monkeypatch, RUNNING)
    rendered = FileChange("controller", "/etc/hosts", True, "rendered")
    timer = FileChange("controller", "/etc/systemd/system/hpcstate-scratch.timer", False, "timer")
    world.changes = (replace(rendered, diff="pyinfra's"), timer)
    monkeypatch.setattr(
        plan_files, "look", lambda cluster, _: [rendered] if cluster.controller.name == "controller" else []
    )
    assert plan_look.look(description, print).files == (rendered, timer)


def test_pyinfra_is_asked_about_the_nodes_that_run(
    description: Description, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(monkeypatch, {**RUNNING, "compute-02": "absent"})
    assert plan_look.look(description, print).operations == ()
    assert world.asked == [(["controller", "compute-01"], [])]
    assert world.read == ["controller", "compute-01"]
    World(monkeypatch, dict.fromkeys(RUNNING, "absent"))
    assert plan_look.look(description, print).operations is None


def test_a_node_that_runs_and_lets_nobody_in_is_said(
    description: Description, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(monkeypatch, RUNNING)
    world.operations = (Operation("a | Install squashfuse", ("compute-02",), (), ()),)
    monkeypatch.setattr(plan_look, "_boots", lambda _: {"controller": "one", "compute-01": "one"})
    observed = plan_look.look(description, print)
    assert observed.unknown == (
        "nodes: compute-02 runs, and does not let us in by SSH: `hpcstate start FILE` tells why",
    )
    assert observed.operations == (Operation("a | Install squashfuse", (), (), ()),)


def test_what_a_node_seems_to_lack_that_booted_meanwhile_is_not_believed(
    description: Description, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(monkeypatch, RUNNING)
    world.operations = (
        Operation("a | Install squashfuse", ("compute-01", "compute-02"), ("controller",), ()),
    )
    world.meanwhile = {"compute-02": "two"}
    observed = plan_look.look(description, print)
    assert observed.unknown == ("nodes: compute-02 went off or booted while it was looked at",)
    assert observed.operations == (Operation("a | Install squashfuse", ("compute-01",), ("controller",), ()),)


def test_a_plan_made_while_another_command_works_says_so(
    description: Description, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    assert plan_look.at_work(description) == ()
    with turn.turn([description.clusters[0].name], ["hpcstate", "up", "x.yaml"], print):
        (line,) = plan_look.at_work(description)
    assert "hpcstate up x.yaml" in line and description.clusters[0].name in line


def test_up_does_not_ask_pyinfra(description: Description, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, RUNNING)
    assert plan_look.look(description, print, nodes=False).operations is None
    assert world.asked == []


def test_containers_that_are_not_built_are_left_out_of_what_pyinfra_is_asked(
    description: Description, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(monkeypatch, RUNNING)
    monkeypatch.setattr(plan_look, "_container_names", lambda _: ["never-built"])
    plan_look.look(description, print)
    assert world.asked == [([], ["never-built"])]


def test_a_pyinfra_that_cannot_look_leaves_the_rest(
    description: Description, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(monkeypatch, RUNNING)
    world.error = HpcstateError("compute-01 does not answer")
    observed = plan_look.look(description, print)
    assert plan_of(description, observed).code == 2
    assert "compute-01 does not answer" in observed.unknown[0]


def test_a_libvirt_that_cannot_be_asked_leaves_the_rest(
    description: Description, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> Machines:
        raise HpcstateError("libvirt does not answer", where="qemu:///system")

    world = World(monkeypatch, RUNNING)
    monkeypatch.setattr(plan_look, "machines", refused)
    observed = plan_look.look(description, print)
    assert "libvirt does not answer" in observed.unknown[0]
    assert world.asked == []


def test_nodes_that_run_elsewhere_than_the_file_says_are_not_waited_for(
    description: Description, monkeypatch: pytest.MonkeyPatch
) -> None:
    World(monkeypatch, RUNNING)
    moved = MachineDifference("compute-01", "address", "10.0.0.11", "10.1.0.11", "address")
    monkeypatch.setattr(plan_look, "machines", lambda *_: Machines(True, RUNNING, (moved,)))
    monkeypatch.setattr(plan_look, "_slurm", lambda *_: pytest.fail("nobody answers there"))
    observed = plan_look.look(description, print)
    assert observed.operations is None
    assert observed.unknown == ("nodes and Slurm of gpu: the file has other addresses of compute-01",)
    assert len(plan_of(description, observed).obstacles) == 1


def test_the_json_has_what_the_document_says(description: Description) -> None:
    text = (paths.ROOT / "docs" / "plan.md").read_text()
    made = to_dict(plan_of(description, seen(memory(), operations=())))
    assert json.loads(json.dumps(made))["steps"][0]["jobs"][0]["user"] == "alice"
    names = [*made, *(each.name for kind in (Step, RunningJob, FileChange) for each in fields(kind)), *PARTS]
    assert [name for name in names if f"`{name}`" not in text] == []


def saved_plan(tmp_path: Path, plan: Plan) -> Path:
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(to_dict(plan)))
    return file


def test_a_saved_plan_holds_while_the_world_is_the_same(description: Description, tmp_path: Path) -> None:
    made = plan_of(description, seen(memory(), operations=()))
    saved = read_saved(saved_plan(tmp_path, made))
    assert changed_since(saved, made) == []
    over = plan_of(description, seen(memory(), operations=(), slurm={"gpu": SlurmSeen()}))
    assert changed_since(saved, over) == [], "its job has ended"


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"file": "g"}, "the cluster file is another"),
        ({"artifacts": (Artifact("a", "missing"),)}, "images or containers"),
        ({"machines": {"gpu": Machines(True, {**RUNNING, "compute-01": "stopped"})}}, "machines are not"),
        ({"operations": (Operation("Hosts", ("a",), (), ()),)}, "the nodes are not as they were"),
        (
            {"slurm": {"gpu": SlurmSeen(jobs=(JOB, replace(JOB, number=9)))}},
            "jobs run that it does not know: 9",
        ),
    ],
)
def test_a_saved_plan_does_not_hold_in_another_world(
    description: Description, tmp_path: Path, other: dict[str, object], said: str
) -> None:
    saved = read_saved(saved_plan(tmp_path, plan_of(description, seen(memory(), operations=()))))
    rows: dict[str, object] = {"operations": (), **other}
    lines = changed_since(saved, plan_of(description, seen(memory(), **rows)))  # type: ignore[arg-type]
    assert any(said in line for line in lines), lines


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 1}', '{"version": 1, "digests": 3, "jobs": [], "steps": []}']
)
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "plan.json"
    file.write_text(text)
    with pytest.raises(HpcstateError, match="this is no plan"):
        read_saved(file)
    with pytest.raises(HpcstateError):
        read_saved(tmp_path / "none.json")


def test_a_plan_of_another_version_is_refused(description: Description, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    file.write_text(json.dumps({**to_dict(plan_of(description, seen())), "version": 99}))
    with pytest.raises(HpcstateError, match="another version"):
        read_saved(file)


def test_a_job_survives_its_way_through_json() -> None:
    assert json.loads(json.dumps(asdict(JOB)))["seconds_left"] == 3600
