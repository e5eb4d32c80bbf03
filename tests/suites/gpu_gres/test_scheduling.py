"""GPUs are given to jobs as they ask for them, and a job reaches only its own."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest

from hpcstate.check.jobs import (
    POLL_SECONDS,
    Job,
    JobState,
    describe,
    on,
    skip_if_busy,
    srun,
    together,
)
from hpcstate.check.plugin import StartJobs
from hpcstate.check.suite import CheckFailed, RecordProperty, fault
from hpcstate.model import Cluster, Node
from hpcstate.node.ssh import Live
from tests.suites.breaking import GRES_CONF, SLURM_CONF, Edit, append, edited
from tests.suites.job_view import (
    LOOK_SECONDS,
    JobView,
    gpu_nodes,
    look_command,
    own_device_problem,
    views,
    whole_gpu_nodes,
)
from tests.suites.refusals import Answer, demand_refused
from tests.suites.slurm import gres_counts, slurm_nodes

MEMORY_MB = 64
HOLD_SECONDS = 100
FREE_SECONDS = 20


@pytest.mark.needs(gpus=1)
def test_own_device(live: Live, with_gpu: list[JobView], record_property: RecordProperty) -> None:
    """A job with --gres=gpu:1 opens one device, the others are refused"""
    problems = [own_device_problem(live.node(view.host), view) for view in with_gpu]
    if any(problems):
        raise CheckFailed(
            "one device passes the filter, the others answer EPERM",
            "; ".join(filter(None, problems)),
            "ConstrainDevices=yes in cgroup.conf, the device files in gres.conf and in /dev",
        )
    record_property("observed", "; ".join(str(view) for view in with_gpu))


@pytest.mark.needs(gpus=1)
def test_without_gres(live: Live, without_gpu: list[JobView], record_property: RecordProperty) -> None:
    """A job that asks for no GPU is refused every device"""
    names = {node.name for node in gpu_nodes(live)}
    seen = [view for view in without_gpu if view.host in names]
    bad = [view for view in seen if view.reached or view.gpus or not view.gpu_files]
    if bad:
        raise CheckFailed(
            "every device answers EPERM",
            "; ".join(map(str, bad)),
            "ConstrainDevices=yes in cgroup.conf, and every device file in gres.conf",
        )
    record_property("observed", "; ".join(str(view) for view in seen))


@pytest.mark.needs(gpus=1, real_gpus=1)
def test_nvidia_smi(live: Live, with_gpu: list[JobView], record_property: RecordProperty) -> None:
    """nvidia-smi in a job with --gres=gpu:1 lists the job's GPU and no other"""
    seen = [view for view in with_gpu if live.node(view.host).simulated_gpus is None]
    bad = [view for view in seen if len(listed_gpus(view.smi)) != 1]
    if bad:
        raise CheckFailed(
            "one GPU listed",
            "; ".join(f"{view.host}: {' / '.join(view.smi) or 'no nvidia-smi'}" for view in bad),
            "ConstrainDevices=yes in cgroup.conf; `nvidia-smi -L` on the node shows them all",
        )
    record_property("observed", "; ".join(f"{view.host}: {listed_gpus(view.smi)[0]}" for view in seen))


def listed_gpus(lines: Sequence[str]) -> list[str]:
    """The GPUs that ``nvidia-smi -L`` lists (``GPU 0: NVIDIA H200 (UUID: GPU-...)``), without their MIG
    instances."""
    return [line for line in lines if re.match(r"GPU \d+: ", line)]


@pytest.mark.needs(gpus=1)
def test_per_node(live: Live, record_property: RecordProperty) -> None:
    """A job with --gpus-per-node reaches as many GPUs of each node"""
    seen = []
    for count in sorted({len(node.gres_types) for node in whole_gpu_nodes(live)}):
        nodes = [node for node in whole_gpu_nodes(live) if len(node.gres_types) == count]
        seen += [
            (count, view) for view in _views(live, nodes, "--ntasks-per-node=1", f"--gpus-per-node={count}")
        ]
    _demand_counts(seen, "--gpus-per-node")
    record_property("observed", "; ".join(f"{view} for --gpus-per-node={count}" for count, view in seen))


@pytest.mark.needs(gpus=2, cpus=2)
def test_per_task(live: Live, record_property: RecordProperty) -> None:
    """Each task of a job with --gpus-per-task=1 reaches a GPU of its own"""
    seen = _views(live, whole_gpu_nodes(live, 2), "--ntasks-per-node=2", "--gpus-per-task=1")
    _demand_counts([(1, view) for view in seen], "--gpus-per-task")
    reached = {f"{view.host} {path}" for view in seen for path in view.reached}
    if len(reached) != 2 * len(whole_gpu_nodes(live, 2)):
        raise CheckFailed("two tasks with different devices on each node", "; ".join(map(str, seen)))
    record_property("observed", f"two tasks a node: {', '.join(sorted(reached))}")


def _views(live: Live, nodes: Sequence[Node], *arguments: str) -> list[JobView]:
    """The reports of jobs with these arguments on ``nodes``, one job for all where one partition has them."""
    seen = []
    for place in together(live, nodes):
        words = (*place, "--cpus-per-task=1", f"--mem={MEMORY_MB}M", *arguments)
        seen += views(srun(live, words, look_command(), seconds=LOOK_SECONDS))
    return sorted(seen, key=lambda view: view.host)


def _demand_counts(seen: Sequence[tuple[int, JobView]], option: str) -> None:
    bad = [
        f"{view} for {option}={count}"
        for count, view in seen
        if len(view.reached) != count or len(view.visible.split(",")) != count
    ]
    if bad or not seen:
        raise CheckFailed(
            "as many devices, and as many in CUDA_VISIBLE_DEVICES, as asked for",
            "; ".join(bad) or "no report",
            "the device files in gres.conf and in /dev; `scontrol show job -d` names a job's GPUs",
        )


@pytest.mark.needs(gpus=1)
def test_types(live: Live, answers: dict[str, Answer], record_property: RecordProperty) -> None:
    """A job gets a GPU of the type that it names, and one that names a type that is not there is refused"""
    seen = []
    for kind in dict.fromkeys(kind for node in gpu_nodes(live) for kind in node.gres_types):
        node = next(node for node in gpu_nodes(live) if kind in node.gres_types)
        arguments = (*on(live, node), "--ntasks=1", f"--mem={MEMORY_MB}M", f"--gres=gpu:{kind}:1")
        given = srun(live, arguments, ["printenv", "SLURM_STEP_GPUS"]).strip()
        seen.append(f"--gres=gpu:{kind}:1 got GPU {given} of {node.name}")
    record_property("observed", f"{'; '.join(seen)}; {demand_refused(live, answers, 'type')}")


@pytest.mark.needs(gpus=1)
def test_too_many(live: Live, answers: dict[str, Answer], record_property: RecordProperty) -> None:
    """A job that asks for more GPUs than any node has is refused"""
    record_property("observed", demand_refused(live, answers, "gres", "gpus"))


@pytest.mark.needs(gpus=2, cpus=2)
def test_different(live: Live, jobs: StartJobs, record_property: RecordProperty) -> None:
    """Jobs that run at once on a node have different GPUs"""
    seen = []
    for node in whole_gpu_nodes(live, 2):
        labels = [f"job{number}" for number in range(min(len(node.gres_types), node.cpu_cores))]
        with jobs({label: _holder(live, node, 1) for label in labels}) as running:
            states = running.wait(
                _all_report(labels), f"{len(labels)} jobs with one GPU each run on {node.name}"
            )
        given = [views(states[label].output)[0] for label in labels]
        problems = list(filter(None, (own_device_problem(node, view) for view in given)))
        devices = [path for view in given for path in view.reached]
        numbers = [view.gpus for view in given]
        if problems or len(set(devices)) != len(labels) or len(set(numbers)) != len(labels):
            raise CheckFailed(
                f"{len(labels)} different devices on {node.name}",
                "; ".join(problems or map(str, given)),
                "gres.conf must name one File for each GPU, and each file must be a device of its own",
            )
        seen.append(f"{node.name}: {' and '.join(devices)}")
    record_property("observed", "; ".join(seen))


@pytest.mark.needs(gpus=2, cpus=2)
def test_waits(live: Live, cluster: Cluster, jobs: StartJobs, record_property: RecordProperty) -> None:
    """When all GPUs are taken, the next job waits for one

        The holders leave a core and memory free, so that the GPUs are all that the last job can wait for: one
    GPU each where the node has cores enough, several where it has not.
    """
    node = whole_gpu_nodes(live, 2)[-1]
    total, cores = (
        len(node.gres_types),
        node.cpu_cores // cluster.acceleration.topology_of(node.cpu_cores).threads,
    )
    if cores < 2:
        pytest.skip(f"{node.name} has one core, which a job that waits for a GPU would wait for as well")
    shares = _split(total, min(total, cores - 1))
    holders = {f"holder{number}": _holder(live, node, share) for number, share in enumerate(shares)}
    with jobs(holders) as running:
        running.wait(
            _all_report(list(holders)), f"{len(holders)} jobs with all {total} GPUs run on {node.name}"
        )
        running.demand_alone(node)
        running.start({"waiter": _holder(live, node, 1)})
        states = running.wait(_decided("waiter"), "the last job is queued")
        running.demand_alone(node)
        _demand_waiting(states["waiter"])
        running.cancel("holder0")
        after = running.wait(_all_report(["waiter"]), "the waiting job runs once a GPU is free")
    _wait_unused(live, node)
    record_property(
        "observed",
        (
            f"{node.name}: all {total} GPUs held by {_jobs(len(holders))}, "
            f"the next was {states['waiter'].state} ({states['waiter'].reason}), "
            f"then got {views(after['waiter'].output)[0].reached[0]}; "
            "no GPU in use after that"
        ),
    )


def _wait_unused(live: Live, node: Node) -> None:
    """Wait until no job has a GPU of ``node``. Raises CheckFailed when that takes long."""
    limit = time.monotonic() + FREE_SECONDS
    while used := gres_counts(slurm_nodes(live)[node.name]["gres_used"]):
        if not any(used.values()):
            return
        if time.monotonic() > limit:
            skip_if_busy(live)
            raise CheckFailed(
                "every GPU free once the jobs have ended",
                f"{node.name} still has {used} in use after {FREE_SECONDS} s",
                "`squeue --states=all` shows jobs that do not end; journalctl -u slurmd on the node",
            )
        time.sleep(POLL_SECONDS)


def _demand_waiting(waiter: JobState) -> None:
    if not (waiter.waiting and waiter.reason in ("Resources", "Priority")):
        raise CheckFailed(
            "the last job is PENDING for Resources",
            f"it is {describe(waiter)}",
            "Gres= in slurm.conf must have the number of GPUs that the node really has",
        )


def _jobs(number: int) -> str:
    return "one job" if number == 1 else f"{number} jobs"


def _split(total: int, parts: int) -> list[int]:
    """``total`` in ``parts`` shares as equal as can be."""
    return [total // parts + (number < total % parts) for number in range(parts)]


def _holder(live: Live, node: Node, gpus: int) -> Job:
    place = (*on(live, node), "--ntasks=1", "--cpus-per-task=1", f"--mem={MEMORY_MB}M")
    return Job((*place, f"--gres=gpu:{gpus}"), look_command(HOLD_SECONDS))


def _all_report(labels: list[str]) -> Callable[[dict[str, JobState]], bool]:
    """True once each job has reported, or cannot any more."""

    def done(states: dict[str, JobState]) -> bool:
        ended = [label for label in labels if states[label].over]
        if ended:
            said = (f"{label}: {describe(states[label])}" for label in ended)
            raise CheckFailed("the jobs run", "; ".join(said))
        return all(views(states[label].output) for label in labels)

    return done


def _decided(label: str) -> Callable[[dict[str, JobState]], bool]:
    """True once Slurm has started the job or said why not."""
    return lambda states: not states[label].waiting or states[label].reason != "None"


@fault(
    "GPU nodes have one GPU more than the cluster file declares",
    "gpu-gres.waits",
    "gpu-gres.shown",
    needs_gpus=1,
)
def one_more(live: Live) -> Iterator[None]:
    nodes = gpu_nodes(live)
    names = [live.cluster.controller.name, *(node.name for node in live.workers)]
    edits = [Edit(name, SLURM_CONF, _one_gpu_more) for name in names]
    for node in nodes:
        line = f"Name=gpu Type={node.gres_types[-1]} File={_extra_device(node)}"
        edits.append(Edit(node.name, GRES_CONF, append(line)))
    restart = [(live.cluster.controller.name, "slurmctld"), *((node.name, "slurmd") for node in nodes)]
    with ExitStack() as stack:
        for node in nodes:
            number, path = len(node.gres_types), _extra_device(node)
            stack.callback(live.run, node.name, f"rm -f {path}", user="root")
            live.run(node.name, f"mknod -m 666 {path} c 195 {number}", user="root")
        with edited(live, edits, restart=restart):
            yield


def _extra_device(node: Node) -> str:
    return f"/dev/nvidia{len(node.gres_types)}"


def _one_gpu_more(text: str) -> str:
    """slurm.conf with one more of the last GPU type on every NodeName line that has GPUs."""
    pattern = re.compile(r"^(NodeName=.*Gres=\S*gpu\S*:)(\d+)", re.MULTILINE | re.IGNORECASE)
    return pattern.sub(lambda found: f"{found[1]}{int(found[2]) + 1}", text)
