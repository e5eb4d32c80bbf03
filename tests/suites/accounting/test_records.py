"""Every job is recorded: slurmdbd and its database answer, and what a job had is found when it has ended."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator

import pytest

from hpcstate.check.jobs import POLL_SECONDS, on, srun
from hpcstate.check.suite import DEPLOY_AGAIN, CheckFailed, RecordProperty, fault
from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster, Node
from hpcstate.node.ssh import Live
from hpcstate.probe import accounting
from hpcstate.probe.accounting import AccountingState
from hpcstate.slurm.accounting import DATABASE, SLURMDBD_CONF, USER, question
from tests.suites.breaking import SLURM_CONF, Edit, edited, mode, stopped

RECORD_SECONDS = 20
"""How long a job that has ended may be on its way to the database."""

CATCH_UP_SECONDS = 90
"""How long slurmctld may take to send what it kept while slurmdbd was down."""

_MYSQL_PORT = 3306


def _demand_accounting(cluster: Cluster) -> None:
    if not cluster.accounting.on:
        pytest.skip("the cluster file has no database of its own for its jobs (accounting.enabled)")


def test_answers(live: Live, cluster: Cluster, controller: Node, record_property: RecordProperty) -> None:
    """slurmdbd answers with its database, and knows the cluster"""
    _demand_accounting(cluster)
    command = accounting.command(**question(cluster.name))
    found = accounting.parse(live.run(controller.name, command, user="root").stdout)
    if problems := answer_problems(found, cluster.name):
        raise CheckFailed(
            "slurmdbd and MariaDB run, and answer",
            "; ".join(problems),
            f"journalctl -u slurmdbd -u mariadb on {controller.name} says why; {DEPLOY_AGAIN}",
        )
    record_property(
        "observed",
        f"slurmdbd is UP, database {DATABASE}, {cluster.name} has the number {found['cluster_id']}",
    )


def answer_problems(found: AccountingState, cluster_name: str) -> list[str]:
    """What of ``found`` keeps jobs of the cluster from being recorded, in words."""
    problems = [f"{name} does not run" for name, unit in found["units"].items() if not unit["active"]]
    if not found["answers"]:
        problems.append("slurmdbd does not answer (`sacctmgr ping`)")
    if DATABASE not in found["databases"]:
        problems.append(f"MariaDB has no database {DATABASE}, or does not answer")
    elif not found["cluster_id"]:
        problems.append(f"slurmdbd does not know the cluster {cluster_name}")
    return problems


@fault(
    "slurmdbd is stopped",
    "accounting.answers",
    "accounting.recorded",
    "diagnosis.failed_job",
    "diagnosis.healthy_job",
)
def slurmdbd_stopped(live: Live) -> Iterator[None]:
    with stopped(live, live.cluster.controller.name, "slurmdbd"):
        yield
    _wait_for_slurmdbd(live)


@fault("the database is stopped", "accounting.answers")
def database_stopped(live: Live) -> Iterator[None]:
    with stopped(live, live.cluster.controller.name, "mariadb"):
        yield
    _wait_for_slurmdbd(live)


def _wait_for_slurmdbd(live: Live) -> None:
    script = "for _ in $(seq 60); do timeout 20 sacctmgr ping >/dev/null 2>&1 && exit; sleep 1; done; exit 1"
    live.run(live.cluster.controller.name, script, user="root", timeout=90)


def test_sent(live: Live, cluster: Cluster, controller: Node, record_property: RecordProperty) -> None:
    """slurmdbd has taken all that slurmctld had to tell it, or is about to"""
    _demand_accounting(cluster)
    first = size = _waiting(live)
    limit = time.monotonic() + RECORD_SECONDS
    while size >= first > 0 and time.monotonic() < limit:
        time.sleep(POLL_SECONDS)
        size = _waiting(live)
    if size >= first > 0:
        raise CheckFailed(
            "no message of slurmctld waits for slurmdbd, or they become fewer",
            f"{size} wait, {RECORD_SECONDS} s after {first} did",
            f"slurmctld keeps them (StateSaveLocation, dbd.messages); journalctl -u slurmdbd -u mariadb on "
            f"{controller.name} says why it takes none; {DEPLOY_AGAIN}",
        )
    record_property("observed", f"{size} messages wait" + (f", {first} did before" if size < first else ""))


def _waiting(live: Live) -> int:
    """How many messages slurmctld keeps for slurmdbd. Raises CheckFailed when it does not say."""
    name = live.cluster.controller.name
    said = live.run(name, "timeout 20 sdiag", user="root", check=False).stdout
    found = re.search(r"^DBD Agent queue size: *(\d+)", said, re.MULTILINE)
    if found is None:
        raise CheckFailed(
            "slurmctld says how many messages wait for slurmdbd (`sdiag`, DBD Agent queue size)",
            "it does not",
            f"journalctl -u slurmctld on {name} says why",
        )
    return int(found[1])


@fault("slurmdbd is down while jobs end", "accounting.sent")
def messages_that_nobody_takes(live: Live) -> Iterator[None]:
    with stopped(live, live.cluster.controller.name, "slurmdbd"):
        srun(live, on(live, live.workers[0]), ["true"])
        yield
    _wait_for_slurmdbd(live)
    limit = time.monotonic() + CATCH_UP_SECONDS
    while left := _waiting(live):
        if time.monotonic() > limit:
            raise HpcstateError(f"{left} messages still wait for slurmdbd, which is up again")
        time.sleep(POLL_SECONDS)


def test_closed(live: Live, cluster: Cluster, controller: Node, record_property: RecordProperty) -> None:
    """The database listens on no network, and slurmdbd's configuration is its own"""
    _demand_accounting(cluster)
    wanted = f"600 {USER}:{USER}"
    script = f"stat --format '%a %U:%G' {SLURMDBD_CONF}\nss --no-header --listening --numeric --tcp"
    seen, _, sockets = live.run(controller.name, script, user="root", check=False).stdout.partition("\n")
    ports = re.findall(r":(\d+)\s", sockets)
    problems = [f"{SLURMDBD_CONF} is {seen}"] if seen != wanted else []
    if str(_MYSQL_PORT) in ports:
        problems.append(f"somebody listens on port {_MYSQL_PORT}")
    if problems:
        raise CheckFailed(
            f"{SLURMDBD_CONF} is {wanted}, and nobody listens on port {_MYSQL_PORT}",
            "; ".join(problems),
            DEPLOY_AGAIN,
        )
    record_property("observed", f"{SLURMDBD_CONF} {seen}, nobody on port {_MYSQL_PORT}")


@fault("everybody may read slurmdbd's configuration", "accounting.closed")
def open_configuration(live: Live) -> Iterator[None]:
    with mode(live, live.cluster.controller.name, SLURMDBD_CONF, "644"):
        yield


def test_recorded(live: Live, cluster: Cluster, controller: Node, record_property: RecordProperty) -> None:
    """A job that has ended is found in sacct, with its CPUs, its memory and its GPUs"""
    _demand_accounting(cluster)
    with_gpus = [node for node in live.workers if node.gres_types]
    node = [*with_gpus, *live.workers][0]
    gpus = ("--gres=gpu:1",) if with_gpus else ()
    arguments = (*on(live, node), *gpus, "--cpus-per-task=1", "--mem=32M")
    job = srun(live, arguments, ["sh", "-c", "echo $SLURM_JOB_ID"]).strip()
    state, counted = _record(live, controller, job)
    text = ",".join(f"{kind}={count}" for kind, count in counted.items())
    lacks = _lacks(counted, node)
    if state != "COMPLETED" or lacks:
        raise CheckFailed(
            f"job {job} is COMPLETED, and all that it had was counted",
            f"it is {state}, with {text or 'nothing'}{f', and without {lacks}' if lacks else ''}",
            "AccountingStorageTRES in slurm.conf names what is counted",
        )
    record_property("observed", f"job {job} {state}, {text}")


def _lacks(counted: Collection[str], node: Node) -> str:
    """What a job on ``node`` had and ``counted`` has not; of several types of GPUs it got one."""
    typed = [f"gres/gpu:{kind}" for kind in dict.fromkeys(node.gres_types)]
    lacks = [kind for kind in ("cpu", "mem", "node") if kind not in counted]
    if typed and "gres/gpu" not in counted:
        lacks.append("gres/gpu")
    if typed and not set(typed) & set(counted):
        lacks.append(" or ".join(typed))
    return ", ".join(lacks)


def _record(live: Live, controller: Node, job: str) -> tuple[str, dict[str, str]]:
    """What sacct has of ``job``: its state, and what was counted. Raises CheckFailed when it is not found."""
    script = f"timeout 20 sacct --noheader --parsable2 --allocations --jobs={job} --format=State,AllocTRES"
    limit = time.monotonic() + RECORD_SECONDS
    while True:
        answer = live.run(controller.name, script, user="hpc", check=False)
        state, _, tres = answer.stdout.strip().partition("|")
        if answer.code or state not in ("", "PENDING", "RUNNING") or time.monotonic() > limit:
            break
        time.sleep(POLL_SECONDS)
    if answer.code or state in ("", "PENDING", "RUNNING"):
        raise CheckFailed(
            f"sacct finds job {job}, which has ended, within {RECORD_SECONDS} s",
            answer.stderr.strip() or (f"it is still {state}" if state else "it does not know it"),
            f"journalctl -u slurmdbd on {controller.name}; `sdiag` shows what slurmctld still has for it",
        )
    return state, dict(item.partition("=")[::2] for item in tres.split(",") if item)


@fault("slurm.conf counts no GPUs", "accounting.recorded", needs_gpus=1)
def without_tres(live: Live) -> Iterator[None]:
    name = live.cluster.controller.name
    change = Edit(name, SLURM_CONF, lambda text: re.sub(r"(?m)^AccountingStorageTRES=.*\n", "", text))
    with edited(live, [change], restart=[(name, "slurmctld")]):
        yield
