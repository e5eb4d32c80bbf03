"""What somebody tries on the first day on any Slurm cluster, through an SSH login: one login and two jobs, of
which each check looks at a part."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hpcstate import programs
from hpcstate.check.jobs import new_name, on, pair, skip_if_busy, together
from hpcstate.check.suite import DEPLOY_AGAIN, CheckFailed, RecordProperty, fault
from hpcstate.model import Cluster, Node
from hpcstate.node.base_files import SSH_KNOWN_HOSTS
from hpcstate.node.data_volume import HOME
from hpcstate.node.homes import AUTOMOUNT, MOUNT
from hpcstate.node.ssh import JOB_USER, Live
from hpcstate.node.work_files import MOTD, SEFF
from hpcstate.run import Result
from tests.suites.breaking import SLURM_CONF, Edit, edited, mode, moved, set_key, wait_idle
from tests.suites.login import REFUSAL, login, login_node
from tests.suites.slurm import reports

_PROGRAM = Path(__file__).with_name("_day.sh")
_RING = Path(__file__).parents[1] / "environment" / "_ring.c"

SECONDS = 240
"""How long the whole day may take: a compiler, an interpreter and two jobs, one after the other."""


@dataclass(frozen=True)
class Day:
    """What a login printed: ``parts`` by their names in _day.sh. ``nodes`` are those of the job on two."""

    name: str
    nodes: tuple[Node, Node]
    parts: Mapping[str, str]
    read_by_another: Result
    another: str

    def part(self, name: str) -> str:
        """What stands in a part; empty when the login ended before it."""
        return self.parts.get(name, "").strip()


@pytest.fixture(scope="session")
def day(live: Live) -> Iterator[Day]:
    """The day of the job user, in a folder of their home that is gone afterwards."""
    if live.cluster.home == "local":
        pytest.skip("each node has its own homes (storage.home: local): output lies where a job ran")
    first, second = pair(live)
    name = new_name()
    features = second.slurm_features
    door = login_node(live)
    script = programs.command(
        _PROGRAM,
        name=name,
        two=" ".join(together(live, [first, second])[0]),
        one=" ".join(on(live, second)),
        node=second.name,
        feature=features[0] if features else "",
        ring=_RING.read_text(),
    )
    # The shell of the account is bash; the day is written for any.
    answer = login(live, door, f"exec sh -c {shlex.quote(script)}", seconds=SECONDS)
    users = [user.name for user in live.cluster.users if not user.admin]
    another = users[0] if users else "nobody"
    path = shlex.quote(f"{HOME}/{JOB_USER}/{name}/job.sh")
    try:
        parts = dict(part.partition("\n")[::2] for part in answer.stdout.split("\n=== ")[1:])
        if not parts:
            raise CheckFailed(
                f"{JOB_USER} gets in on {door.name} and has a home",
                answer.stderr.strip() or f"ssh ended with {answer.code}",
                DEPLOY_AGAIN,
            )
        read = live.run(door.name, f"runuser -u {another} -- cat {path}", user="root", check=False)
        yield Day(name, (first, second), parts, read, another)
    finally:
        folder = shlex.quote(f"{HOME}/{JOB_USER}/{name}")
        clean = f"scancel --quiet --name={name}; timeout 30 rm -rf {folder}"
        live.run(door.name, clean, user="hpc", check=False)


def _demand(live: Live, wrong: list[str], expected: str, hint: str) -> None:
    """Raises CheckFailed where something is wrong; skips the check when others' jobs were in the way."""
    if wrong:
        skip_if_busy(live)
        raise CheckFailed(expected, "; ".join(wrong), hint)


def _last(text: str) -> str:
    return text.splitlines()[-1] if text else "nothing"


@pytest.mark.needs(nodes=2)
def test_output(live: Live, day: Day, record_property: RecordProperty) -> None:
    """The output of a job lies where it was submitted, and in the folder that -o names"""
    first, second = day.nodes
    wrong = []
    if f"from {first.name} to" not in day.part("output"):
        said = _last(day.part("output"))
        wrong.append(f"slurm-{day.part('job') or 'ID'}.out of a job on {first.name}: {said}")
    if day.part("folder").split() != [second.name, f"{HOME}/{JOB_USER}/{day.name}"]:
        wrong.append(f"-o out/%x.txt of a job on {second.name}: {_last(day.part('folder'))}")
    _demand(
        live, wrong, "both files, with what the jobs printed", "storage.homes tells whether homes are one"
    )
    record_property("observed", f"slurm-{day.part('job')}.out from {first.name}, out/… from {second.name}")


@pytest.mark.needs(nodes=2)
def test_own_program(live: Live, day: Day, record_property: RecordProperty) -> None:
    """A program that a user compiled with mpicc at login runs on two nodes as one world"""
    found, wanted = reports(day.part("output")), {"size": 2, "sum": 1}
    wrong = [] if found == [wanted] else [str(found) if found else _last(day.part("output"))]
    if wrong and day.part("prepared") != "yes":
        wrong.append(f"at login: {_last(day.part('prepared'))}")
    _demand(live, wrong, f"one world of two: {wanted}", "mpi.two_nodes and environment.compiled tell more")
    record_property(
        "observed", f"job {day.part('job')}: 2 ranks on {' '.join(node.name for node in day.nodes)}"
    )


@pytest.mark.needs(nodes=2)
def test_venv(live: Live, day: Day, record_property: RecordProperty) -> None:
    """A Python environment made at login is used by the tasks of a job on two nodes"""
    wanted = f"prefix {HOME}/{JOB_USER}/{day.name}/env"
    count = day.part("output").splitlines().count(wanted)
    wrong = [] if count == 2 else [f"{count} of 2 tasks: {_last(day.part('output'))}"]
    _demand(live, wrong, "both tasks run its Python", "environment.programs tells what nodes lack")
    record_property("observed", f"both tasks of job {day.part('job')}")


@pytest.mark.needs(nodes=2)
def test_ssh(live: Live, day: Day, record_property: RecordProperty) -> None:
    """ssh to a node of one's job asks nothing, and to another one it is refused"""
    first, second = day.nodes
    wrong = []
    if REFUSAL not in day.part("refused"):
        wrong.append(f"without a job, to {second.name}: {_last(day.part('refused'))}")
    line = next((line for line in day.part("output").splitlines() if line.startswith("from ")), "no output")
    if line != f"from {first.name} to {second.name}":
        wrong.append(f"in a job: {line}")
    hint = f"{SSH_KNOWN_HOSTS} and `sshd -T` (hostbasedauthentication) of the nodes; {DEPLOY_AGAIN}"
    _demand(live, wrong, f"refused without a job, {first.name} to {second.name} with one", hint)
    record_property("observed", f"{line} within the job; without one: {REFUSAL}")


@pytest.mark.needs(nodes=2)
def test_seff(live: Live, day: Day, cluster: Cluster, record_property: RecordProperty) -> None:
    """seff tells how much of what a job had it used"""
    if not cluster.accounting.on:
        pytest.skip("the cluster file has no database of its own for its jobs (accounting.enabled)")
    said = dict(line.partition(": ")[::2] for line in day.part("seff").splitlines())
    wanted = {"Job ID": day.part("job"), "Nodes": "2", "Cores per node": "1"}
    wrong = [f"{key}: {said.get(key, 'missing')}" for key, value in wanted.items() if said.get(key) != value]
    if not day.part("job").isdecimal():
        wrong.append(f"the job: {_last(day.part('job'))}")
    if not said.get("State", "").startswith("COMPLETED"):
        wrong.append(f"State: {said.get('State') or _last(day.part('seff'))}")
    if not re.fullmatch(r"[\d.]+% of .* core-walltime", said.get("CPU Efficiency", "")):
        wrong.append(f"CPU Efficiency: {said.get('CPU Efficiency', 'missing')}")
    _demand(
        live,
        wrong,
        f"job {day.part('job')}, COMPLETED on 2 nodes",
        f"{SEFF}; accounting.recorded; {DEPLOY_AGAIN}",
    )
    record_property("observed", f"{said['State']}, CPU Efficiency {said['CPU Efficiency']}")


@pytest.mark.needs(nodes=2)
def test_constraint(live: Live, day: Day, record_property: RecordProperty) -> None:
    """A job with --constraint gets a node that has the feature, and is refused for one that no node has"""
    second = day.nodes[1]
    features = second.slurm_features
    wrong = []
    if "nvalid feature" not in day.part("constraint"):
        wrong.append(f"--constraint=no_such_feature: {_last(day.part('constraint'))}")
    if features and second.name not in day.part("folder"):
        wrong.append(f"--constraint={features[0]}: {_last(day.part('folder'))}")
    _demand(
        live, wrong, "one job runs, the other one is refused", f"Feature= in {SLURM_CONF}; {DEPLOY_AGAIN}"
    )
    record_property(
        "observed", f"{features[0] if features else 'no feature'} on {second.name}; others refused"
    )


@pytest.mark.needs(nodes=2)
def test_nice(live: Live, day: Day, record_property: RecordProperty) -> None:
    """A job with --nice goes after others"""
    jobs = [line for line in day.part("nice").splitlines() if line.isdecimal()]
    found = dict(re.findall(r"^priority (\d+) (\d+)$", day.part("nice"), re.MULTILINE))
    priorities = [int(found[job]) for job in jobs if job in found]
    ordered = len(priorities) == 2 and priorities[0] > priorities[1]
    wrong = [] if ordered else [" and ".join(map(str, priorities)) or _last(day.part("nice"))]
    _demand(
        live, wrong, "a lower priority with --nice=1000", "all weights (PriorityWeight…) of slurm.conf are 0?"
    )
    record_property("observed", f"priority {priorities[0]}, with --nice=1000 {priorities[1]}")


@pytest.mark.needs(nodes=2)
def test_second_user(live: Live, day: Day, record_property: RecordProperty) -> None:
    """Another user cannot read what somebody has in their home"""
    wrong = [] if day.read_by_another.code else [f"{day.another} reads a file of {JOB_USER}"]
    if day.read_by_another.code and "Permission denied" not in day.read_by_another.stderr:
        wrong.append(_last(day.read_by_another.stderr.strip()))
    _demand(live, wrong, f"{day.another} is refused", f"the mode of {HOME}/{JOB_USER}; {DEPLOY_AGAIN}")
    record_property("observed", f"{day.another}: Permission denied")


def test_motd(live: Live, record_property: RecordProperty) -> None:
    """Who logs in at a terminal sees the partitions and how many of their nodes are idle"""
    door = login_node(live)
    for _ in range(2):  # slurmctld is given two seconds, which a busy machine may need for others
        answer = login(live, door, "exec bash -lic exit 2>/dev/null")
        if "does not answer" not in answer.stdout:
            break
    lines = [line.split() for line in answer.stdout.splitlines()]
    head = ["PARTITION", "NODES", "IDLE", "ALLOC", "DOWN"]
    partitions = [part.name for part in live.cluster.slurm.partitions] if live.cluster.slurm else []
    seen = (
        {line[0].rstrip("*") for line in lines[lines.index(head) + 1 :] if line} if head in lines else set()
    )
    if missing := [name for name in partitions if name not in seen]:
        raise CheckFailed(
            f"{', '.join(partitions)} with their nodes",
            f"nothing of {', '.join(missing)}: {_last(answer.stdout.strip())}",
            f"{MOTD} on {door.name}; {DEPLOY_AGAIN}",
        )
    record_property("observed", f"{', '.join(partitions)} with their nodes")


@fault(
    "two nodes have homes of their own",
    "first-day.output",
    "first-day.own_program",
    "first-day.venv",
    needs_nodes=2,
)
def homes_of_their_own(live: Live) -> Iterator[None]:
    names = [node.name for node in pair(live)]
    try:
        live.run_each(dict.fromkeys(names, f"systemctl stop {AUTOMOUNT} {MOUNT}"), user="root")
        yield
    finally:
        live.run_each(dict.fromkeys(names, f"systemctl start {AUTOMOUNT}"), user="root")
        wait_idle(live)


@fault("MPI starts without PMIx in a job", "first-day.own_program", needs_nodes=2)
def without_pmix(live: Live) -> Iterator[None]:
    # srun takes MpiDefault from the slurm.conf of the machine on which it runs: here that is the job's first.
    with edited(live, [Edit(pair(live)[0].name, SLURM_CONF, set_key("MpiDefault", "none"))]):
        yield


@fault("Python is gone from a node", "first-day.venv", needs_nodes=2)
def without_python(live: Live) -> Iterator[None]:
    with moved(live, pair(live)[1].name, "/usr/bin/python3"):
        yield


@fault(
    "host keys, seff, features, weights and the privacy of a home are gone at once",
    "first-day.ssh",
    "first-day.seff",
    "first-day.constraint",
    "first-day.nice",
    "first-day.second_user",
    needs_nodes=2,
    needs_gpus=1,
)
def without_five(live: Live) -> Iterator[None]:
    # One day shows all five red: a day takes most of a minute. The long lab has each by itself, below.
    with ExitStack() as stack:
        for broken in (without_host_keys, without_seff, open_home):
            stack.enter_context(broken.injected(live))
        stack.enter_context(_slurmctld_with(live, lambda text: _without_weights(_without_features(text))))
        yield


@fault("a node does not know the others' host keys", "first-day.ssh", needs_nodes=2)
def without_host_keys(live: Live) -> Iterator[None]:
    with moved(live, pair(live)[0].name, SSH_KNOWN_HOSTS):
        yield


@fault("seff is gone", "first-day.seff", needs_nodes=2)
def without_seff(live: Live) -> Iterator[None]:
    with moved(live, login_node(live).name, SEFF):
        yield


def _without_features(text: str) -> str:
    return re.sub(r" Feature=\S+", "", text)


def _without_weights(text: str) -> str:
    return re.sub(r"(PriorityWeight\w+)=\d+", r"\1=0", text)


@contextmanager
def _slurmctld_with(live: Live, change: Callable[[str], str]) -> Iterator[None]:
    name = live.cluster.controller.name
    with edited(live, [Edit(name, SLURM_CONF, change)], restart=[(name, "slurmctld")]):
        yield


@fault("slurm.conf gives no node a feature", "first-day.constraint", needs_nodes=2, needs_gpus=1)
def without_features(live: Live) -> Iterator[None]:
    with _slurmctld_with(live, _without_features):
        yield


@fault("all weights of priority are 0", "first-day.nice", needs_nodes=2)
def without_weights(live: Live) -> Iterator[None]:
    with _slurmctld_with(live, _without_weights):
        yield


@fault("others may look into a home", "first-day.second_user", needs_nodes=2)
def open_home(live: Live) -> Iterator[None]:
    with mode(live, live.cluster.controller.name, f"{HOME}/{JOB_USER}", "755"):
        yield


@fault("the message of the day is gone", "first-day.motd")
def without_motd(live: Live) -> Iterator[None]:
    with moved(live, login_node(live).name, MOTD):
        yield
