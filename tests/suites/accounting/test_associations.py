"""Accounts, users and QOS: slurmdbd has what the cluster file declares, and slurmctld enforces it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from hpcstate.check.suite import DEPLOY_AGAIN, CheckFailed, RecordProperty, fault
from hpcstate.model import Cluster, Node
from hpcstate.node.ssh import JOB_USER, SSH_USER, Live
from hpcstate.probe import associations
from hpcstate.slurm.accounting import CLIENT_CONF
from hpcstate.slurm.associations import difference, wanted
from tests.suites.breaking import SLURM_CONF, Edit, edited

NO_ACCOUNT = "hpcstate-no-such-account"
_SACCTMGR = f"SLURM_CONF={CLIENT_CONF} timeout 60 sacctmgr --immediate"


def _demand_declared(cluster: Cluster) -> None:
    if not cluster.accounting.declared:
        pytest.skip("the cluster file declares no accounts, users or QOS (accounting)")


def test_declared(live: Live, cluster: Cluster, controller: Node, record_property: RecordProperty) -> None:
    """slurmdbd has the accounts, users and QOS of the cluster file, with their limits"""
    _demand_declared(cluster)
    wants = wanted(cluster, (JOB_USER, SSH_USER))
    command = associations.command(**wants.question(jobs=False))
    found = associations.parse(live.run(controller.name, command, user="root").stdout)
    if not found["answers"]:
        raise CheckFailed(
            "slurmdbd says which accounts there are",
            "it does not answer",
            f"journalctl -u slurmdbd on {controller.name}; {DEPLOY_AGAIN}",
        )
    steps = [" ".join(step) for step in difference(wants, found, ahead=True).steps]
    if steps:
        raise CheckFailed(
            "nothing that the file declares is missing in slurmdbd, or other than declared",
            f"it lacks what these would do: {'; '.join(steps[:5])}",
            DEPLOY_AGAIN,
        )
    record_property("observed", f"{len(wants.things)} accounts, users, QOS and associations are as declared")


@fault("the association of a user is deleted by hand", "accounting.declared")
def association_deleted(live: Live) -> Iterator[None]:
    things = wanted(live.cluster, (JOB_USER, SSH_USER)).things
    # Not of the user that the checks run jobs as.
    _, account, user = next(
        name.split(" ")
        for name in things
        if name.startswith("association ") and name.count(" ") == 2 and not name.endswith(f" {JOB_USER}")
    )
    own = [name for name in things if name.endswith(f" {user}") and name.startswith("association ")]
    controller = live.cluster.controller.name
    live.run(
        controller, f"{_SACCTMGR} remove user where name={user} cluster={live.cluster.name}", user="root"
    )
    yield
    for name in own:
        account = name.split(" ")[1]
        add = f"{_SACCTMGR} add user name={user} account={account} cluster={live.cluster.name}"
        # A deploy in between has put it back: then sacctmgr ends with 1, "Nothing added".
        live.run(controller, f"{_with_settings(add, things[name])} || :", user="root")


def _with_settings(command: str, values: associations.Values) -> str:
    words: dict[str, list[str]] = {}
    for word, value in values.items():
        name, _, tres = word.partition(" ")
        if name != "Default":
            words.setdefault(name, []).append(f"{tres}={value}" if tres else value)
    return " ".join([command, *(f"{name}={','.join(values)}" for name, values in words.items())])


@fault("the shares of an account are changed by hand", "accounting.declared")
def other_shares(live: Live) -> Iterator[None]:
    things = wanted(live.cluster, (JOB_USER, SSH_USER)).things
    name = next(name for name in things if name.count(" ") == 1 and "Fairshare" in things[name])
    account, shares = name.split(" ")[1], things[name]["Fairshare"]
    change = f"{_SACCTMGR} modify account where name={account} cluster={live.cluster.name} set Fairshare="
    other = "77" if shares != "77" else "78"
    live.run(live.cluster.controller.name, f"{change}{other}", user="root")
    yield
    live.run(live.cluster.controller.name, f"{change}{shares}", user="root")


def test_enforced(live: Live, cluster: Cluster, controller: Node, record_property: RecordProperty) -> None:
    """slurmctld refuses a job of an account that there is not"""
    _demand_declared(cluster)
    script = f"timeout 60 sbatch --test-only --account={NO_ACCOUNT} --wrap=true"
    done = live.run(controller.name, script, user="hpc", check=False)
    if done.code == 0 or "Invalid account" not in done.stderr:
        raise CheckFailed(
            f"`sbatch --account={NO_ACCOUNT}` is refused as an invalid account",
            done.stderr.strip() or "it is taken",
            f"scontrol show config names AccountingStorageEnforce; {DEPLOY_AGAIN}",
        )
    record_property("observed", done.stderr.strip().splitlines()[-1])


@fault("slurmctld enforces nothing", "accounting.enforced")
def nothing_enforced(live: Live) -> Iterator[None]:
    name = live.cluster.controller.name
    change = Edit(name, SLURM_CONF, lambda text: re.sub(r"(?m)^AccountingStorageEnforce=.*\n", "", text))
    with edited(live, [change], restart=[(name, "slurmctld")]):
        yield
