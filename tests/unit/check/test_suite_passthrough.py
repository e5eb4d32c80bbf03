"""The suite ``passthrough`` where the lab shows nothing: what it asks libvirt, and what it cannot reach.

libvirt is its own test driver here: real domains and XML, no machines. The rest of the suite is proven on a
machine with an IOMMU (tests/images/test_passthrough.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate import paths, schema
from hpcstate.check.runner import load_suites, run_check
from hpcstate.cluster import boot
from hpcstate.hypervisor import xml as libvirt_objects
from hpcstate.hypervisor.connection import LibvirtHost, connect
from hpcstate.hypervisor.mark import new_mark
from hpcstate.hypervisor.xml import HypervisorFacts
from hpcstate.model import Cluster
from hpcstate.node.ssh import Live
from tests.unit.fake_live import TWO, FakeLive

TEST_DRIVER = "test:///default"
CHECKS = {check.name: check for check in load_suites().checks if check.suite == "passthrough"}


@pytest.fixture
def cluster() -> Cluster:
    (cluster,) = schema.load(paths.ROOT / "inventories" / "passthrough.yaml").clusters
    return replace(cluster, uri=TEST_DRIVER)


@pytest.fixture
def host(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LibvirtHost]:
    """The cluster's nodes run in libvirt's test driver, whose domains are of the type ``test``."""
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    mark = new_mark(cluster, Path("passthrough.yaml"))
    rendered = libvirt_objects.domain_xml

    def of_type_test(*arguments: object) -> str:
        return rendered(*arguments).replace('<domain type="kvm">', '<domain type="test">')  # type: ignore[arg-type]

    monkeypatch.setattr(libvirt_objects, "domain_xml", of_type_test)
    monkeypatch.setattr(LibvirtHost, "facts", lambda *_: HypervisorFacts(kvm=True))
    monkeypatch.setattr(boot, "wait_for_ssh", lambda *_: None)
    with connect(TEST_DRIVER) as host:
        for node in cluster.workers:
            host.connection.defineXML(of_type_test(cluster, node, host.facts(cluster), mark)).create()
        yield host
        for node in cluster.workers:
            ours = host.domain(cluster, node)
            assert ours is not None
            host.power_off(cluster, node)
            ours.undefine()


@pytest.fixture
def live(cluster: Cluster) -> Live:
    return FakeLive(lambda _node, _script: "", cluster)


@pytest.mark.parametrize("name", ["passthrough.holder", "passthrough.domain"])
def test_a_node_that_runs_otherwise_is_seen(host: LibvirtHost, live: Live, name: str) -> None:
    assert host.uri == live.cluster.uri
    faults = [fault for fault in load_suites().faults if name in fault.checks]
    assert faults
    for fault in faults:
        before = run_check(CHECKS[name], live)
        assert before.outcome == "passed", before
        assert "compute-02" in before.observed
        with fault.injected(live):
            broken = run_check(CHECKS[name], live)
        assert broken.outcome == "failed", broken
        assert "0000:07:00.1" in broken.observed
        assert "0000:01:00.0" not in broken.observed
        assert run_check(CHECKS[name], live).observed == before.observed


def test_a_device_that_a_stranger_holds_is_named_with_its_holder(
    host: LibvirtHost, live: Live, cluster: Cluster
) -> None:
    host.power_off(cluster, cluster.workers[1])
    foreign = (
        "<domain type='test'><name>stranger</name><memory>8192</memory><os><type>hvm</type></os><devices>"
        "<hostdev mode='subsystem' type='pci'><source><address bus='0x07'/></source></hostdev>"
        "</devices></domain>"
    )
    stranger = host.connection.createXML(foreign)
    try:
        seen = run_check(CHECKS["passthrough.holder"], live)
    finally:
        stranger.destroy()
    assert seen.outcome == "failed"
    assert "0000:07:00.0 is held by stranger, not by passthrough-compute-02" in seen.observed
    assert "0000:07:00.1 is held by no domain" in seen.observed
    assert "compute-02 is not running" in run_check(CHECKS["passthrough.domain"], live).observed


@pytest.mark.parametrize("name", CHECKS)
def test_clusters_without_devices_are_skipped(name: str) -> None:
    seen = run_check(CHECKS[name], FakeLive(lambda _node, _script: "", TWO))
    assert (seen.outcome, "declares none" in seen.reason) == ("skipped", True)


ON_HYPERVISOR = [name for name in CHECKS if name.split(".")[1] in ("devices", "bound", "group", "host_free")]


@pytest.mark.parametrize("name", ON_HYPERVISOR)
def test_a_hypervisor_that_is_elsewhere_is_not_guessed(cluster: Cluster, name: str) -> None:
    elsewhere = FakeLive(lambda _node, _script: "", replace(cluster, uri="qemu+ssh://other/system"))
    seen = run_check(CHECKS[name], elsewhere)
    assert (seen.outcome, "another host" in seen.reason) == ("skipped", True)
