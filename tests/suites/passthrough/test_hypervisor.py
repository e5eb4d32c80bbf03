"""On the hypervisor: the devices of the file are there, all of their groups, and guests can have them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from hpcstate.check.suite import CheckFailed, RecordProperty, fault
from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster
from hpcstate.node.ssh import Live
from hpcstate.passthrough import kinds
from hpcstate.passthrough import request as pcie_request
from hpcstate.passthrough import verdict as pcie
from hpcstate.passthrough import vfio as vfio_files
from hpcstate.passthrough.kinds import VFIO
from hpcstate.passthrough.verdict import PciHost
from hpcstate.passthrough.vfio import MODULES_LOAD
from hpcstate.probe import hugepages as hugepages_probe
from hpcstate.probe.pci import PciDevice
from hpcstate.probe.vfio import CONFIGURATION
from tests.suites.pci import Shell, given_to, off_the_bus, on_hypervisor, seen, there, wanted

VIRTIO = "1af4"
"""Vendor of virtio devices: every kernel of our images has a driver that a fault can give them back to."""


@pytest.mark.needs(passthrough=True)
def test_devices(live: Live, record_property: RecordProperty) -> None:
    """Each declared device is on the hypervisor's bus and is what the file says"""
    host = seen(live)
    problems = [
        f"no device at {device.pci_address} ({node.name})"
        for node, device in wanted(live)
        if device.pci_address not in host.devices
    ]
    problems += [
        finding.message
        for node, device in there(live, host)
        for finding in pcie_request.identity(node.place, device, host)
    ]
    if problems:
        raise CheckFailed(
            "the devices of the file", "; ".join(problems), "hpcstate inventory pcie --all shows the bus"
        )
    record_property(
        "observed",
        "; ".join(
            f"{node.name}: {kinds.described(host.devices[device.pci_address])}"
            for node, device in wanted(live)
        ),
    )


@pytest.mark.needs(passthrough=True)
def test_bound(live: Live, record_property: RecordProperty) -> None:
    """vfio-pci has each declared device"""
    host = seen(live)
    drivers = {d.pci_address: host.devices[d.pci_address]["driver"] for _, d in there(live, host)}
    text = ", ".join(f"{address} {driver or 'no driver'}" for address, driver in drivers.items())
    if not drivers or set(drivers.values()) != {VFIO}:
        raise CheckFailed(
            f"{VFIO} for each of {len(wanted(live))}", text or "none on the bus", "pyinfra deploys/vfio.py"
        )
    record_property("observed", text)


@pytest.mark.needs(passthrough=True)
def test_group(live: Live, record_property: RecordProperty) -> None:
    """Whole IOMMU groups go to one node, and no driver of the hypervisor is left in them"""
    host = seen(live)
    problems = []
    for node, device in there(live, host):
        given = {device.pci_address for device in node.passthrough}
        number = host.group_of(device.pci_address)
        if number is None:
            problems.append(f"{device.pci_address} is in no IOMMU group")
        for other in pcie.companions(host, device.pci_address):
            driver = host.devices[other]["driver"]
            if other not in given:
                problems.append(f"{node.name} has {device.pci_address} without {other} (group {number})")
            if driver not in ("", VFIO):
                problems.append(f"{other}, in group {number} with {device.pci_address}, has {driver}")
    if problems:
        raise CheckFailed(
            "all of each group at one node, with vfio-pci or no driver",
            "; ".join(dict.fromkeys(problems)),
            "hpcstate validate prints the entries that are missing",
        )
    groups = {number: host.iommu["groups"][number] for number in _groups(live, host)}
    record_property(
        "observed", "; ".join(f"group {number}: {', '.join(members)}" for number, members in groups.items())
    )


def _groups(live: Live, host: PciHost) -> list[int]:
    numbers = {host.group_of(device.pci_address) for _, device in there(live, host)}
    return sorted(number for number in numbers if number is not None)


@pytest.mark.needs(passthrough=True)
def test_host_free(live: Live, record_property: RecordProperty) -> None:
    """No file system and no default route of the hypervisor lives on a declared device"""
    host = seen(live)
    problems = [
        f"{device.pci_address} is the host's own: {', '.join(host.uses[device.pci_address])}"
        for _, device in there(live, host)
        if host.uses.get(device.pci_address)
    ]
    if problems:
        raise CheckFailed(
            "devices that the hypervisor does without",
            "; ".join(problems),
            "give the node another device, or the hypervisor another disk or card",
        )
    own = ", ".join(f"{address} ({'; '.join(uses)})" for address, uses in host.uses.items())
    given_away = [
        device.pci_address for _, device in there(live, host) if host.devices[device.pci_address]["boot_vga"]
    ]
    shown = f"; the file gives away the display of the boot, {given_away[0]}" if given_away else ""
    record_property("observed", f"the hypervisor lives on {own or 'no PCI device'}{shown}")


@pytest.mark.needs(passthrough=True)
def test_at_boot(live: Live, record_property: RecordProperty) -> None:
    """The devices go to vfio-pci again when the hypervisor boots"""
    configured = seen(live).vfio["configured"]
    if not configured:
        pytest.skip(f"there is no {CONFIGURATION} that names devices: libvirt binds them as a node starts")
    missing = [device.pci_address for _, device in wanted(live) if device.pci_address not in configured]
    problems = [f"{CONFIGURATION} does not name {', '.join(missing)}"] if missing else []
    if VFIO not in _read(on_hypervisor(live), MODULES_LOAD).splitlines():
        problems.append(f"{MODULES_LOAD} does not load {VFIO}")
    if problems:
        raise CheckFailed(
            "files that bind each device at boot", "; ".join(problems), "pyinfra deploys/vfio.py"
        )
    record_property("observed", f"{CONFIGURATION} names {', '.join(configured)}, {MODULES_LOAD} loads {VFIO}")


@pytest.mark.needs(passthrough=True)
def test_hugepages(live: Live, cluster: Cluster, record_property: RecordProperty) -> None:
    """The hypervisor has the huge pages that the nodes are backed by"""
    if not cluster.acceleration.hugepages:
        pytest.skip("the file asks for no huge pages")
    needed = {size: pages for size, pages in vfio_files.hugepages_needed([cluster]).items() if pages}
    found = hugepages_probe.parse(on_hypervisor(live)(hugepages_probe.command()))
    total = {size: found[size]["total"] if size in found else 0 for size in needed}
    text = ", ".join(f"{total[size]} of {size}, {pages} needed" for size, pages in needed.items())
    if any(total[size] < pages for size, pages in needed.items()):
        raise CheckFailed(
            "as many as the nodes need", text, "pyinfra deploys/hypervisor.py, and a boot for 1G"
        )
    record_property("observed", text)


def _read(shell: Shell, path: str) -> str:
    return shell(f"if [ -r {path} ]; then cat {path}; fi")


@fault("the last declared device is off its bus", "passthrough.devices")
def unplugged(live: Live) -> Iterator[None]:
    with off_the_bus(on_hypervisor(live), _last(live)):
        yield


@fault("the file names another device_id", "passthrough.devices")
def another(live: Live) -> Iterator[None]:
    with _file_says(live, device_id="ffff"):
        yield


@fault("the last declared device has no driver", "passthrough.bound")
def unbound(live: Live) -> Iterator[None]:
    with given_to(on_hypervisor(live), _last(live), ""):
        yield


@fault("the file gives a node a device without the others of its slot", "passthrough.group")
def half(live: Live) -> Iterator[None]:
    host, before = seen(live), live.nodes
    node, device = next(
        (node, device) for node, device in there(live, host) if pcie.companions(host, device.pci_address)
    )
    alone = replace(node, passthrough=(device,))
    try:
        live.nodes = tuple(alone if other is node else other for other in before)
        yield
    finally:
        live.nodes = before


@fault("a device of a group is given back to its driver", "passthrough.group")
def given_back(live: Live) -> Iterator[None]:
    host = seen(live)
    address = _virtio(live, host, lambda device: bool(pcie.companions(host, device["address"])))
    with given_to(on_hypervisor(live), address, "virtio-pci"):
        yield


@fault("a declared network card has a default route of the hypervisor", "passthrough.host_free")
def default_route(live: Live) -> Iterator[None]:
    shell = on_hypervisor(live)
    address = _virtio(live, seen(live), lambda device: kinds.kind_of(device) == "network")
    with given_to(shell, address, "virtio-pci"):
        name = f'"$(ls /sys/bus/pci/devices/{address}/virtio*/net)"'
        # With such a metric it loses against any other route: it is only there to be seen.
        shell(f"ip link set {name} up && ip route add default dev {name} metric 65000")
        yield


def _virtio(live: Live, host: PciHost, fits: Callable[[PciDevice], bool]) -> str:
    """The last declared virtio device that ``fits``. Raises HpcstateError where there is none."""
    found = [host.devices[device.pci_address] for _, device in there(live, host)]
    for device in reversed(found):
        if device["vendor"] == VIRTIO and fits(device):
            return device["address"]
    raise HpcstateError("this fault needs such a virtio device in the cluster file", where=live.cluster.name)


@fault("the configuration of vfio-pci lacks a device", "passthrough.at_boot")
def not_named(live: Live) -> Iterator[None]:
    with _kept(on_hypervisor(live), CONFIGURATION) as shell:
        shell(f"sed -i 's/ {_last(live)}//' {CONFIGURATION}")
        yield


@fault("vfio-pci is not loaded at boot", "passthrough.at_boot")
def not_loaded(live: Live) -> Iterator[None]:
    with _kept(on_hypervisor(live), MODULES_LOAD) as shell:
        shell(f"sed -i '/^{VFIO}$/d' {MODULES_LOAD}")
        yield


@fault("the hypervisor has set none aside", "passthrough.hugepages")
def no_pages(live: Live) -> Iterator[None]:
    shell = on_hypervisor(live)
    kib = {"2M": 2048, "1G": 1 << 20}[live.cluster.acceleration.hugepage_size]
    file = f"/sys/kernel/mm/hugepages/hugepages-{kib}kB/nr_hugepages"
    before = shell(f"cat {file}").strip()
    try:
        shell(f"echo 0 >{file}")
        yield
    finally:
        shell(f"echo {before} >{file}")


@contextmanager
def _kept(shell: Shell, path: str) -> Iterator[Shell]:
    """The shell; afterwards the file at ``path`` is the one it was, with owner, mode and times."""
    kept = f"{path}.hpcstate-kept"
    try:
        shell(f"[ ! -e {kept} ] || mv -f {kept} {path}; cp -a {path} {kept}")
        yield shell
    finally:
        shell(f"[ ! -e {kept} ] || mv -f {kept} {path}")


@contextmanager
def _file_says(live: Live, device_id: str) -> Iterator[None]:
    """The cluster file as if it named ``device_id`` for the last declared device."""
    before = live.nodes
    node, device = wanted(live)[-1]
    other = replace(node, passthrough=(*node.passthrough[:-1], replace(device, device_id=device_id)))
    try:
        live.nodes = tuple(other if known is node else known for known in before)
        yield
    finally:
        live.nodes = before


def _last(live: Live) -> str:
    return wanted(live)[-1][1].pci_address
