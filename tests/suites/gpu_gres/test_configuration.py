"""GPUs are configured as generic resources of Slurm: gres.conf on the nodes, GresTypes in slurm.conf."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hpcstate.check.suite import DEPLOY_AGAIN, CheckFailed, RecordProperty, fault
from hpcstate.model import Cluster
from hpcstate.node.ssh import Live
from hpcstate.slurm.conf import slurm_conf
from hpcstate.slurm.gres import assign, declared_gres
from hpcstate.slurm.read import meaning
from tests.suites.breaking import GRES_CONF, Edit, edited, last_gpu_node, last_worker, mode
from tests.suites.node_state import NodeState, gres_files, owned_by_root
from tests.suites.slurm import ControllerView


def test_gres_conf(live: Live, node_states: dict[str, NodeState], record_property: RecordProperty) -> None:
    """gres.conf of every node is what hpcstate renders for its GPUs, and only root may write it"""
    findings = [finding for state in node_states.values() for finding in gres_conf_findings(live, state)]
    if findings:
        raise CheckFailed(
            f"{GRES_CONF} as rendered, root:root 644",
            "; ".join(findings),
            f"{DEPLOY_AGAIN}; `hpcstate plan` shows what it would change",
        )
    record_property("observed", "; ".join(_summary(state) for state in node_states.values()))


def gres_conf_findings(live: Live, state: NodeState) -> list[str]:
    """What is wrong with the gres.conf of a node, one sentence each."""
    findings = list(owned_by_root(state, GRES_CONF))
    declared = declared_gres(live.node(state.name))
    assignment = assign(state.name, declared, state.gpus)
    if assignment.problem:
        return [*findings, assignment.problem.partition("\n")[0]]
    wanted = assignment.text
    found = state.contents.get("gres.conf", "")
    different = sorted(set(wanted.splitlines()) ^ set(found.splitlines()))
    if wanted != found:
        findings.append(f"{state.name}: {GRES_CONF} differs in {' / '.join(different) or 'its order'}")
    return findings


def _summary(state: NodeState) -> str:
    simulated = " (SIMULATED)" if any(device["simulated"] for device in state.gpus["devices"]) else ""
    return f"{state.name}: {', '.join(gres_files(state.contents['gres.conf'])) or 'no device'}{simulated}"


@pytest.mark.needs(gpus=1)
def test_configured(
    cluster: Cluster, controller_view: ControllerView, record_property: RecordProperty
) -> None:
    """slurmctld runs with GPUs as a type of GRES and the scheduler that gives them out one by one"""
    running = controller_view.config
    rendered = meaning(slurm_conf(cluster), "slurm.conf").parameters
    findings = [
        f"{key} is {running.get(key) or 'not set'}, rendered is {rendered[key.lower()]}"
        for key in ("GresTypes", "SelectType")
        if _words(running.get(key, "")) != _words(rendered[key.lower()])
    ]
    # slurm.conf(5), AccountingStorageTRES: the accounts know of GRES only when they are named there.
    accounts, kept = running.get("AccountingStorageType", ""), running.get("AccountingStorageTRES", "")
    if accounts and "gres/gpu" not in _words(kept):
        findings.append(f"accounting is on ({accounts}), and AccountingStorageTRES={kept} lacks gres/gpu")
    if findings:
        raise CheckFailed(
            "GresTypes and SelectType as rendered, and gres/gpu in the accounts where there are any",
            "; ".join(findings),
            "slurm.conf on the controller; `scontrol show config` tells what slurmctld runs with",
        )
    tres = f"{accounts} keeps gres/gpu" if accounts else "accounting is off, so there is no TRES to look at"
    record_property(
        "observed", f"GresTypes={running['GresTypes']}, SelectType={running['SelectType']}; {tres}"
    )


def _words(text: str) -> set[str]:
    return set(text.lower().split(","))


@fault("gres.conf of a node may be written by everybody", "gpu-gres.gres_conf")
def writable(live: Live) -> Iterator[None]:
    with mode(live, last_worker(live).name, GRES_CONF, "666"):
        yield


@fault(
    "gres.conf of a node gives the last GPU another type",
    "gpu-gres.gres_conf",
    "gpu-gres.slurmd",
    needs_gpus=1,
)
def other_type(live: Live) -> Iterator[None]:
    """Only the file: slurmd has read the old one, and `slurmd -G` reads the new one."""
    with edited(live, [Edit(last_gpu_node(live).name, GRES_CONF, _other_type)]):
        yield


def _other_type(text: str) -> str:
    before, key, after = text.rpartition("Type=")
    return f"{before}{key}other{after[len(after.split()[0]) :]}"
