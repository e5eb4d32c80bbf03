"""The nodes' disks on the hypervisor are nobody else's to read."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from hpcstate.check.suite import CheckFailed, RecordProperty, fault
from hpcstate.hypervisor.connection import connect
from hpcstate.hypervisor.xml import OTHERS, VOLUME_MODE
from hpcstate.model import Cluster
from hpcstate.node.ssh import Live


def test_disks(cluster: Cluster, record_property: RecordProperty) -> None:
    """Other users of the hypervisor cannot read the disks of the nodes, where their keys are"""
    with connect(cluster.uri) as host:
        modes = host.volumes.modes(cluster)
    if not modes:
        pytest.skip("the hypervisor has no volume of this cluster")
    if wrong := sorted(path for path, mode in modes.items() if mode & OTHERS):
        raise CheckFailed(
            f"mode {VOLUME_MODE:04o} for all {len(modes)} volumes",
            ", ".join(f"{path} has {modes[path]:04o}" for path in wrong),
            "hpcstate start mends it; whoever could read them has had the keys: make new ones",
        )
    record_property("observed", f"{len(modes)} volumes that only their owner may read")


@fault("the disk of the controller may be read by all", "nodes.disks")
def open_disk(live: Live) -> Iterator[None]:
    assert live.hypervisor is not None, "the lab's hypervisor is this machine"
    name = f"/{live.cluster.controller.name}.qcow2"
    with connect(live.cluster.uri) as host:
        path = shlex.quote(next(path for path in host.volumes.modes(live.cluster) if path.endswith(name)))
    try:
        live.hypervisor(f"chmod 0644 {path}")
        yield
    finally:
        live.hypervisor(f"chmod {VOLUME_MODE:04o} {path}")
