"""The nodes' disks are nobody else's to read on the hypervisor, and what must outlive one is on another."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from hpcstate.check.suite import DEPLOY_AGAIN, CheckFailed, RecordProperty, fault
from hpcstate.hypervisor.connection import connect
from hpcstate.hypervisor.xml import OTHERS, VOLUME_MODE
from hpcstate.model import Cluster, Node
from hpcstate.model.container import REGISTRY
from hpcstate.node.data_volume import DEVICE, TOP, binds, unit
from hpcstate.node.ssh import Live
from hpcstate.probe import data_volume


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


def test_data(live: Live, controller: Node, record_property: RecordProperty) -> None:
    """Slurm's state, the registry, the database and shared homes lie on the controller's data volume"""
    if not controller.data_gb:
        pytest.skip("the controller has no data volume")
    on_it = binds(live.cluster)
    command = data_volume.command((TOP, *(bind.place for bind in on_it)), DEVICE)
    found = data_volume.parse(live.run(controller.name, command, user="root").stdout)
    wanted = {TOP: found["device"]} | {bind.place: f"{found['device']}[/{bind.name}]" for bind in on_it}
    there = found["mounts"]
    if wrong := [place for place, source in wanted.items() if not source or there.get(place) != source]:
        raise CheckFailed(
            f"{', '.join(wanted)} on the disk {DEVICE}",
            ", ".join(f"{place} on {there.get(place, 'the disk of the node')}" for place in wrong),
            DEPLOY_AGAIN,
        )
    free = live.run(controller.name, f"df --output=avail -B1G {TOP} | tail -n 1").stdout.strip()
    record_property("observed", f"{', '.join(bind.place for bind in on_it)}; {free} GiB free")


@fault("the registry is not mounted from the data volume", "nodes.data")
def registry_unmounted(live: Live) -> Iterator[None]:
    name, mount = live.cluster.controller.name, shlex.quote(unit(REGISTRY))
    try:
        live.run(name, f"systemctl stop {mount}", user="root")
        yield
    finally:
        live.run(name, f"systemctl start {mount}", user="root")
