"""Ports of the hypervisor that lead to nodes (`network.ports`), looked at from the hypervisor."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hpcstate import programs
from hpcstate.check.suite import CheckFailed, RecordProperty, fault
from hpcstate.hypervisor import ports
from hpcstate.model import PortForward
from hpcstate.model.network import EVERY_ADDRESS
from hpcstate.node.ssh import Live

_HINT = "`hpcstate start FILE` makes the ports anew; docs/network.md"
_HOLD = Path(__file__).with_name("hold_port.sh")
_SEEN_SECONDS = 15


def test_ports(live: Live, record_property: RecordProperty) -> None:
    """Each port of the hypervisor listens, and a connection to it arrives at its node"""
    cluster = live.cluster
    shell = ports.shell_of(cluster.uri, root=False)
    if not cluster.network.ports or shell is None:
        pytest.skip("the cluster file has no network.ports, or no programs run on its hypervisor")
    if rows := ports.differences(cluster):
        raise CheckFailed("the ports of the cluster file", "; ".join(str(row) for row in rows), _HINT)
    observed = []
    for port in cluster.network.ports:
        live.demand(port.node)
        if port.protocol == "udp" or not _listens(live, port):
            # A datagram leaves no trace there, and where nothing listens nothing arrives.
            observed.append(f"{port.host}/{port.protocol} listens")
            continue
        before = _peers(live, port)
        address = "127.0.0.1" if port.address == EVERY_ADDRESS else str(port.address)
        with ThreadPoolExecutor(1) as pool:
            holds = pool.submit(shell, programs.command(_HOLD, arguments=(address, port.host)))
            limit = time.monotonic() + _SEEN_SECONDS
            while not (arrived := _peers(live, port) - before) and time.monotonic() < limit:
                if holds.done():
                    break
                time.sleep(0.5)
        if not arrived:
            raise CheckFailed(
                f"a connection to port {port.host} of the hypervisor arrives at {port.node}:{port.port}",
                "none did",
                f"journalctl -u {ports.unit_name(cluster, port)} on the hypervisor; {_HINT}",
            )
        observed.append(f"{port.host} leads to {port.node}:{port.port}")
    record_property("observed", "; ".join(observed))


def _listens(live: Live, port: PortForward) -> bool:
    return bool(live.run(port.node, f"ss -Hltn 'sport = :{port.port}'").stdout.strip())


def _peers(live: Live, port: PortForward) -> set[str]:
    """Who is connected to the port of the node."""
    said = live.run(port.node, f"ss -Htn state established 'sport = :{port.port}'").stdout
    return {line.split()[-1] for line in said.splitlines() if line.strip()}


@fault("a port of the hypervisor is closed", "users.ports")
def closed_port(live: Live) -> Iterator[None]:
    if not live.cluster.network.ports or ports.shell_of(live.cluster.uri, root=True) is None:
        pytest.skip("the cluster file has no network.ports")
    ports.remove(live.cluster, ports.going(live.cluster)[:1])
    try:
        yield
    finally:
        ports.bring(live.cluster)
