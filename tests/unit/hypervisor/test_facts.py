"""What the domains depend on of their host, and that nobody waits for libvirt to find it out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hpcstate.hypervisor import connection
from hpcstate.hypervisor.connection import LibvirtHost
from hpcstate.model import Cluster
from hpcstate.probe.cpus import HostCell
from tests.unit.fake_live import TWO

PINNED = replace(TWO, acceleration=replace(TWO.acceleration, cpu_pinning=True))
SYSFS = """\
/sys/devices/system/cpu/cpu0/topology/thread_siblings_list:0
/sys/devices/system/cpu/cpu1/topology/thread_siblings_list:1
"""
CAPABILITIES = """\
<capabilities><host><topology><cells><cell id='0'><memory unit='KiB'>2048</memory>
<cpus><cpu id='0' siblings='0'/><cpu id='1' siblings='1'/></cpus></cell></cells></topology></host>
<guest><arch><domain type='kvm'/></arch></guest></capabilities>"""


class Connection:
    """libvirt's, which counts how often its capabilities are asked for."""

    asked = 0

    def getCapabilities(self) -> str:
        self.asked += 1
        return CAPABILITIES


@pytest.fixture(autouse=True)
def this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "kvm_works", lambda: False)
    monkeypatch.setattr(connection, "local", lambda command: SYSFS if "thread_siblings" in command else "")


@pytest.mark.parametrize(("cluster", "cores"), [(TWO, 0), (PINNED, 2)])
def test_this_machine_is_looked_at_without_libvirt(cluster: Cluster, cores: int) -> None:
    host = LibvirtHost(asked := Connection(), "qemu:///system")
    facts = host.facts(cluster)
    assert (facts.kvm, sum(len(cell.cores) for cell in facts.cells)) == (False, cores)
    assert asked.asked == 0


def test_a_remote_one_is_asked_once() -> None:
    host = LibvirtHost(asked := Connection(), "qemu+ssh://root@there/system")
    for _ in range(3):
        facts = host.facts(PINNED)
        assert (facts.kvm, facts.cells) == (True, (HostCell(0, ((0,), (1,)), 2),))
    assert asked.asked == 1
