"""GPUs are given to jobs one by one, and a job reaches only its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from hpcstate.check import CheckFailed, CheckSkipped, check, fault
from hpcstate.live import Live
from hpcstate.model import Node
from tests.suites.breaking import (
    CGROUP_CONF,
    GRES_CONF,
    SLURM_CONF,
    Edit,
    append,
    edited,
    last_gpu_node,
    set_key,
)
from tests.suites.jobs import Job, Jobs, JobState, describe, on, srun, together
from tests.suites.slurm import program, reports

MEMORY_MB = 64
REFUSED = "EPERM"
HOLD_SECONDS = "100"


@dataclass(frozen=True)
class View:
    """What a job sees of a node's GPUs: how each device file opened, and what Slurm told it."""

    host: str
    opened: dict[str, str]
    gpus: str
    visible: str

    @property
    def reached(self) -> list[str]:
        """The device files that the kernel's device filter let through."""
        return [path for path, answer in self.opened.items() if answer != REFUSED]

    def __str__(self) -> str:
        answers = ", ".join(f"{path} {answer}" for path, answer in self.opened.items()) or "no device file"
        return f"{self.host}: {answers} (GPU {self.gpus or 'none'}, CUDA_VISIBLE_DEVICES={self.visible})"


def views(text: str) -> list[View]:
    """The views reported in what a job printed."""
    return [View(**report) for report in reports(text)]


def own_device_problem(node: Node, view: View) -> str:
    """Why ``view`` is not that of a job with one GPU of ``node``: exactly one device passes the filter, all
    others are refused. Empty when it is."""
    accepted = {"OK"} if node.simulated_gpus is None else {"OK", "ENXIO"}
    if len(view.opened) != len(node.gres_types):
        return f"{len(view.opened)} device files for {len(node.gres_types)} declared GPUs: {view}"
    if len(view.reached) != 1:
        return f"{len(view.reached)} devices pass the filter: {view}"
    if view.opened[view.reached[0]] not in accepted:
        return f"the job's own device does not open: {view}"
    if not re.fullmatch(r"\d+", view.gpus) or not re.fullmatch(r"\d+", view.visible):
        return f"Slurm does not name one GPU: {view}"
    return ""


@check(
    "gpu.own_device",
    "A job with --gres=gpu:1 opens one device, the others are refused",
    needs_gpus=1,
)
def own_device(live: Live) -> str:
    seen = _look(live, "--gres=gpu:1")
    problems = [own_device_problem(live.node(view.host), view) for view in seen]
    if any(problems):
        raise CheckFailed(
            "one device passes the filter, the others answer EPERM",
            "; ".join(filter(None, problems)),
            "ConstrainDevices=yes in cgroup.conf, the device files in gres.conf and in /dev",
        )
    return "; ".join(str(view) for view in seen)


@check("gpu.without_gres", "A job that asks for no GPU is refused every device", needs_gpus=1)
def without_gres(live: Live) -> str:
    seen = _look(live, "--gres=none")
    bad = [view for view in seen if view.reached or view.gpus or not view.opened]
    if bad:
        raise CheckFailed(
            "every device answers EPERM",
            "; ".join(map(str, bad)),
            "ConstrainDevices=yes in cgroup.conf, and every device file in gres.conf",
        )
    return "; ".join(str(view) for view in seen)


def _look(live: Live, gres: str) -> list[View]:
    """What a job with ``gres`` sees, on every GPU node."""
    nodes = _gpu_nodes(live)
    seen = []
    for place in together(live, nodes):
        arguments = (*place, "--ntasks-per-node=1", "--cpus-per-task=1", f"--mem={MEMORY_MB}M", gres)
        seen += views(srun(live, arguments, program(__file__, "_devices.py", "0")))
    hosts = sorted(view.host for view in seen)
    if hosts != sorted(node.name for node in nodes):
        raise CheckFailed("a report from every GPU node", f"reports from {' '.join(hosts) or 'none'}")
    return sorted(seen, key=lambda view: view.host)


@check("gpu.different", "Jobs that run at once on a node have different GPUs", needs_gpus=2, needs_cpus=2)
def different(live: Live) -> str:
    seen = []
    for node in _gpu_nodes(live, 2):
        labels = [f"job{number}" for number in range(min(len(node.gres_types), node.cpu_cores))]
        with Jobs(live, {label: _holder(live, node, 1) for label in labels}) as jobs:
            states = jobs.wait(
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
    return "; ".join(seen)


@check(
    "gpu.waits",
    "When all GPUs are taken, the next job waits for one",
    needs_gpus=2,
    needs_cpus=2,
)
def waits(live: Live) -> str:
    """The holders leave a CPU and memory free, so that the GPUs are all that the last job can be waiting for:
    one GPU each where the node has CPUs enough, several where it has not."""
    node = _gpu_nodes(live, 2)[-1]
    total = len(node.gres_types)
    shares = _split(total, min(total, node.cpu_cores - 1))
    holders = {f"holder{number}": _holder(live, node, share) for number, share in enumerate(shares)}
    with Jobs(live, holders) as jobs:
        jobs.wait(_all_report(list(holders)), f"{len(holders)} jobs with all {total} GPUs run on {node.name}")
        jobs.start({"waiter": _holder(live, node, 1)})
        states = jobs.wait(_decided("waiter"), "the last job is queued")
        _demand_waiting(live, node, states["waiter"])
        jobs.cancel("holder0")
        after = jobs.wait(_all_report(["waiter"]), "the waiting job runs once a GPU is free")
    return (
        f"{node.name}: all {total} GPUs held by {_jobs(len(holders))}, the next was {states['waiter'].state} "
        f"({states['waiter'].reason}), and then got {views(after['waiter'].output)[0].reached[0]}"
    )


def _demand_waiting(live: Live, node: Node, waiter: JobState) -> None:
    cpus, memory_mb = _free(live, node)
    if cpus < 1 or memory_mb < MEMORY_MB:
        raise CheckSkipped(f"{node.name} is busy: {cpus} CPUs and {memory_mb} MiB are free")
    if not (waiter.waiting and waiter.reason in ("Resources", "Priority")):
        raise CheckFailed(
            "the last job is PENDING for Resources",
            f"it is {describe(waiter)}",
            "Gres= in slurm.conf must have the number of GPUs that the node really has",
        )


def _free(live: Live, node: Node) -> tuple[int, int]:
    """The CPUs and the memory (MiB) of ``node`` that no job has: with some of both left, a job that waits
    there waits for a GPU and for nothing else."""
    script = f"sinfo --noheader --Node --nodes={node.name} --Format=CPUsState:40,Memory:20,AllocMem:20"
    cpus, memory_mb, used_mb = live.run(live.cluster.controller.name, script).stdout.split()[:3]
    return int(cpus.split("/")[1]), int(memory_mb) - int(used_mb)


def _jobs(number: int) -> str:
    return "one job" if number == 1 else f"{number} jobs"


def _split(total: int, parts: int) -> list[int]:
    """``total`` in ``parts`` shares as equal as can be."""
    return [total // parts + (number < total % parts) for number in range(parts)]


def _holder(live: Live, node: Node, gpus: int) -> Job:
    place = (*on(live, node), "--ntasks=1", "--cpus-per-task=1", f"--mem={MEMORY_MB}M")
    return Job((*place, f"--gres=gpu:{gpus}"), program(__file__, "_devices.py", HOLD_SECONDS))


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


def _gpu_nodes(live: Live, least: int = 1) -> list[Node]:
    return [node for node in live.workers if len(node.gres_types) >= least]


def _unconstrained(live: Live) -> Iterator[None]:
    name = last_gpu_node(live).name
    edit = Edit(name, CGROUP_CONF, set_key("ConstrainDevices", "no"))
    with edited(live, [edit], restart=[(name, "slurmd")]):
        yield


own_unconstrained = fault(own_device, "ConstrainDevices is no on a node")(_unconstrained)
others_unconstrained = fault(without_gres, "ConstrainDevices is no on a node")(_unconstrained)


@fault(own_device, "a device file is missing on a node")
def device_missing(live: Live) -> Iterator[None]:
    with _moved(live, last_gpu_node(live), "nvidia0"):
        yield


@fault(different, "two device files of a node are one device")
def same_device(live: Live) -> Iterator[None]:
    node = next(node for node in reversed(live.workers) if len(node.gres_types) >= 2)
    with _moved(live, node, "nvidia1"):
        live.run(node.name, "mknod -m 666 /dev/nvidia1 c 195 0", user="root")
        yield


@contextmanager
def _moved(live: Live, node: Node, device: str) -> Iterator[None]:
    """Take the name of a device file of ``node`` away. Within /dev, it keeps its number, owner and mode."""
    kept = f"/dev/hpcstate-kept-{device}"
    try:
        live.run(node.name, f"mv /dev/{device} {kept}", user="root")
        yield
    finally:
        live.run(node.name, f"mv -f {kept} /dev/{device}", user="root")


@fault(waits, "GPU nodes have one GPU more than the cluster file declares")
def one_more(live: Live) -> Iterator[None]:
    nodes = _gpu_nodes(live)
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
