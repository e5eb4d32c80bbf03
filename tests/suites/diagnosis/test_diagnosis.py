"""Why a job failed is told: by the program on the nodes, and by hpcstate diagnose of all nodes of a job."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator

import pytest

from hpcstate.check.suite import DEPLOY_AGAIN, CheckFailed, RecordProperty, fault
from hpcstate.diagnose.decide import Diagnosis
from hpcstate.diagnose.deployed import PROGRAM
from hpcstate.diagnose.look import NotRecordedError, look
from hpcstate.diagnose.text import as_text
from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster, Node
from hpcstate.node.ssh import Live
from tests.suites.breaking import last_worker, moved

LOG = "slurmstepd: error: Detected 1 oom_kill event in StepId=1.0"
MODULE = "hpcstate_no_such_module"
RECORD_SECONDS = 60
"""How long a job that has ended may be on its way to the database."""
ANSWER_SECONDS = 10
"""The same, where nobody answers who could tell."""


def test_program(live: Live, record_property: RecordProperty) -> None:
    """diagnose_training_failure on each compute node reads a log, by the node's own Python"""
    script = (
        f'log=$(mktemp); trap \'rm -f "$log"\' EXIT; echo {shlex.quote(LOG)} >"$log"; '
        f'{PROGRAM} --no-slurm --log "$log"; [ $? = 1 ]'
    )
    answers = live.run_each({node.name: script for node in live.workers}, user="hpc", check=False)
    wrong = [
        f"{name}: {(answer.stderr or answer.stdout).strip()[-200:]}"
        for name, answer in answers.items()
        if answer.code or "[memory]" not in answer.stdout
    ]
    if wrong:
        raise CheckFailed(f"{PROGRAM} says [memory] of: {LOG}", "; ".join(wrong), DEPLOY_AGAIN)
    record_property("observed", f"[memory] on {', '.join(answers)}")


@fault("the program is gone from a node", "diagnosis.program")
def without_program(live: Live) -> Iterator[None]:
    with moved(live, last_worker(live).name, PROGRAM):
        yield


def test_failed_job(live: Live, cluster: Cluster, controller: Node, record_property: RecordProperty) -> None:
    """A job that lacks a Python module is diagnosed as that, with the line of its output"""
    _demand_accounting(cluster)
    job = _ended(live, controller, f"python3 -c 'import {MODULE}'")
    found = _looked(live, cluster, job)
    if found.cause.name != "missing-software" or not any(MODULE in one.line.text for one in found.evidence):
        raise CheckFailed(
            f"job {job}: [missing-software], by a line with {MODULE}",
            as_text(found),
            "does accounting.recorded pass, and is the job's output read (the lines 'not read')?",
        )
    record_property(
        "observed", f"job {job}: {found.cause.name}, {found.sure}, {found.evidence[0].line.place}"
    )


def test_healthy_job(live: Live, cluster: Cluster, controller: Node, record_property: RecordProperty) -> None:
    """A job that was well is not accused, whatever its output says"""
    _demand_accounting(cluster)
    job = _ended(live, controller, "echo 'CUDA out of memory, retrying; error: 0; Killed 3 monsters'")
    found = _looked(live, cluster, job)
    if found.cause.name != "none":
        raise CheckFailed(
            f"job {job}: nothing", as_text(found), "`hpcstate diagnose` shows the rule that fitted"
        )
    record_property("observed", f"job {job}: {found.summary}")


def _demand_accounting(cluster: Cluster) -> None:
    if not cluster.accounting.on:
        pytest.skip("the cluster file has no database of its own for its jobs (accounting.enabled)")


def _ended(live: Live, controller: Node, command: str) -> str:
    """The number of a job of ``command`` that has ended."""
    script = f'cd "$HOME" && sbatch --parsable --wait --mem=50M --wrap={shlex.quote(command)}'
    said = live.run(controller.name, script, user="hpc", timeout=150, check=False)
    job = said.stdout.strip().partition(";")[0]
    if not job.isdecimal():
        raise CheckFailed("a job that ends", said.stderr.strip() or "no number", "does nodes.srun pass?")
    return job


def _looked(live: Live, cluster: Cluster, job: str) -> Diagnosis:
    """What is said of ``job`` when its record has come."""
    begun = time.monotonic()
    end = begun + RECORD_SECONDS
    while True:
        seen = f"job {job} is not recorded"
        try:
            _, _, found = look(live, cluster, job, lambda said: None)
            if found.record is not None and found.record.over:
                return found
            seen = as_text(found)
        except NotRecordedError:
            pass
        except HpcstateError as error:
            seen, end = error.message, begun + ANSWER_SECONDS
        if time.monotonic() > end:
            raise CheckFailed(f"job {job} is recorded as ended", seen, "does accounting.recorded pass?")
        time.sleep(3)
