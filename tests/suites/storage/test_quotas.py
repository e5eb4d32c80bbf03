"""What the cluster file lets each user have of the data volume holds, also for who writes by NFS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from hpcstate.check.jobs import new_name
from hpcstate.check.suite import DEPLOY_AGAIN, CheckFailed, RecordProperty, fault
from hpcstate.model import Cluster, Node
from hpcstate.node.base_files import JOB_UID
from hpcstate.node.data_volume import DEVICE, HOME, TOP
from hpcstate.node.quotas import KIB_OF_GIB, RECORD, SERVICE
from hpcstate.node.ssh import JOB_USER, Live
from hpcstate.probe import quotas
from hpcstate.probe.quotas import QuotasState

MORE_KIB = 4096
"""What the ordinary user may have for a moment beyond what they have; twice as much is tried."""

SECONDS = 60


def test_quotas(live: Live, cluster: Cluster, controller: Node, record_property: RecordProperty) -> None:
    """Each user's quota is that of the cluster file, and who writes more on a node is refused"""
    if not cluster.home_quotas:
        pytest.skip("the cluster file has no home_quota_gb")
    found = _look(live, controller)
    node = live.workers[0]
    live.demand(node.name)
    tried = ""
    if found["on"] and found["programs"]:
        before = found["limits"].get(JOB_UID, 0)
        limit = found["used"].get(JOB_UID, 0) + MORE_KIB
        path = f"{HOME}/{JOB_USER}/{new_name()}"
        try:
            live.run(controller.name, f"setquota -u {JOB_UID} 0 {limit} 0 0 {TOP}", user="root")
            write = f"dd if=/dev/zero of={path} bs=1024 count={2 * MORE_KIB} conv=fsync 2>&1"
            tried = live.run(
                node.name, f"timeout -k 5 {SECONDS} {write}", user="hpc", timeout=SECONDS + 30, check=False
            ).stdout
        finally:
            live.run(
                controller.name, f"setquota -u {JOB_UID} 0 {before} 0 0 {TOP}; rm -f {path}", user="root"
            )
    if wrong := wrongs(found, cluster.home_quotas, tried, node.name):
        raise CheckFailed(
            f"the quotas of {len(cluster.home_quotas)} users on {TOP} of {controller.name}, and they hold",
            "; ".join(wrong),
            f"repquota -u {TOP} and quotaon -p -u {TOP} on {controller.name}; " + DEPLOY_AGAIN,
        )
    record_property(
        "observed", f"{len(cluster.home_quotas)} users with a quota; on {node.name} more was refused"
    )


def wrongs(found: QuotasState, wanted: Mapping[int, int], tried: str, node: str) -> list[str]:
    """What is wrong with the quotas, in words. ``wanted`` is GiB by number, ``tried`` what dd said on
    ``node`` of more than its user may have."""
    if found["feature"] != "yes":
        return ["the file system was made without: it gets them as the controller goes off and on"]
    if not found["programs"]:
        return ["the programs of quota are not installed"]
    if not found["on"]:
        return ["they do not hold (quotaon)"]
    differing = [
        f"user {uid} has {found['limits'].get(uid, 0)} KiB instead of {gb * KIB_OF_GIB}"
        for uid, gb in wanted.items()
        if found["limits"].get(uid, 0) != gb * KIB_OF_GIB
    ]
    # glibc's word for EDQUOT, in the C locale.
    if "quota exceeded" not in tried:
        said = tried.strip().splitlines()[-1:] or ["nothing"]
        differing.append(f"on {node} more was written than allowed: {said[0]}")
    return differing


def _look(live: Live, controller: Node) -> QuotasState:
    question = quotas.command(TOP, DEVICE, RECORD, [], SERVICE)
    return quotas.parse(live.run(controller.name, question, user="root").stdout)


@fault("quotas count and do not hold", "storage.quotas")
def not_enforced(live: Live) -> Iterator[None]:
    if not live.cluster.home_quotas:
        pytest.skip("the cluster file has no home_quota_gb")
    controller = live.cluster.controller.name
    try:
        live.run(controller, f"quotaoff -u {TOP}", user="root")
        yield
    finally:
        live.run(controller, f"quotaon -u {TOP}", user="root")


@fault("a user has more than the cluster file says", "storage.quotas")
def too_much(live: Live) -> Iterator[None]:
    if not live.cluster.home_quotas:
        pytest.skip("the cluster file has no home_quota_gb")
    uid, gb = next(iter(live.cluster.home_quotas.items()))
    controller = live.cluster.controller.name
    try:
        live.run(controller, f"setquota -u {uid} 0 0 0 0 {TOP}", user="root")
        yield
    finally:
        live.run(controller, f"setquota -u {uid} 0 {gb * KIB_OF_GIB} 0 0 {TOP}", user="root")
