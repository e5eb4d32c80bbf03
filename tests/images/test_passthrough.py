"""A hypervisor without a GPU: a q35 guest with an IOMMU; facts, verdicts, binding and refusals are real.

The suite ``passthrough`` is proven on it too: it stands in for the hypervisor, and for the nodes that got the
devices. What the suite asks libvirt is proven in tests/unit/check/test_suite_passthrough.py.
"""

from __future__ import annotations

import shutil
import subprocess
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from hpcstate import paths, schema
from hpcstate.check.runner import load_suites, run_check
from hpcstate.check.suite import Check, Fault
from hpcstate.node.ssh import Live
from hpcstate.passthrough import kinds
from hpcstate.passthrough import report as pcie_report
from hpcstate.passthrough import verdict as pcie
from hpcstate.passthrough.verdict import State
from hpcstate.paths import ClusterPaths
from tests.images.q35 import ALONE, BEHIND, BRIDGE, CARD, COMPANION, DISPLAY, GPU, PAIR, Q35
from tests.suites.pci import given_to

FOR_GUESTS = {GPU: "gpu", COMPANION: "network", PAIR[0]: "network", PAIR[1]: "other", ALONE: "network"}
"""The devices that the suite is proven with, and what the file calls them."""

LIBVIRT = frozenset({"passthrough.holder", "passthrough.domain"})
"""Checks of what libvirt runs: it does not run here."""

SUITES = load_suites()
FAULTS = [
    pytest.param(fault, check, id=f"{check.name}, {fault.description}")
    for check in SUITES.select(suite="passthrough")
    for fault in SUITES.faults_of(check)
    if check.name not in LIBVIRT
]


@pytest.fixture(scope="module")
def hypervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Q35]:
    machine = Q35(tmp_path_factory.mktemp("hypervisor"))
    try:
        machine.wait()
        yield machine
    finally:
        machine.end()


def cluster_file(machine: Q35, devices: Mapping[str, str]) -> Path:
    """A cluster file with a node for these devices (address to device_type), and huge pages for it."""
    listed = [f'{{pci_address: "{address}", device_type: {kind}}}' for address, kind in devices.items()]
    file = machine.folder / "cluster.yaml"
    file.write_text(
        textwrap.dedent(f"""
            clusters:
              hpc:
                name: guests
                network: {{subnet: 192.168.77.0/24, bridge: virbr77}}
                hardware: {{acceleration: {{performance: {{enable_hugepages: true, hugepage_size: 2M}}}}}}
                controller: {{memory_gb: 0.5, auto_start: false}}
                compute_nodes:
                  - memory_gb: 0.5
                    pcie_passthrough: {{enabled: true, devices: [{", ".join(listed)}]}}
        """)
    )
    return file


def deploy(machine: Q35, devices: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """deploys/vfio.py with a cluster file that asks for these devices."""
    file = cluster_file(machine, dict.fromkeys(devices, "other"))
    return machine.pyinfra("-y", "deploys/vfio.py", environment={"HPCSTATE_CLUSTER_FILE": str(file)})


def test_verdicts_on_a_real_bus(hypervisor: Q35) -> None:
    found = hypervisor.pci()
    assert found.devices[DISPLAY]["boot_vga"]
    assert pcie.verdict(found, DISPLAY).reasons[0].endswith(pcie.BOOT_DISPLAY)
    uses = [use for uses in found.uses.values() for use in uses]
    assert "mounted at /" in uses
    assert any(use.startswith("default route by") for use in uses)
    assert pcie.verdict(found, PAIR[0]).state is State.BIND
    assert pcie.companions(found, PAIR[0]) == PAIR[1:]
    assert pcie.companions(found, ALONE) == ()
    # A GPU and its companion without drivers are ready as they are.
    assert pcie.verdict(found, GPU).state is State.READY
    assert pcie.companions(found, GPU) == (COMPANION,)
    assert found.group_of(GPU) == found.group_of(COMPANION) != found.group_of(CARD)
    card = found.devices[CARD]
    assert kinds.described(card) == f"{CARD} (8086:10d3 Intel Corporation 82574L Gigabit Network Connection)"
    assert kinds.kind_of(card) == "network"
    assert found.devices[GPU]["bars"][0] == 16 << 20
    gpus = pcie_report.as_text(found, everything=False)
    print(gpus)
    assert f"{DISPLAY} blocked:" in gpus
    assert CARD not in gpus
    everything = pcie_report.as_text(found, everything=True)
    print(everything)
    assert "82574L Gigabit Network Connection" in everything


VIABLE = """
import fcntl, os, sys
group = os.open(f"/dev/vfio/{sys.argv[1]}", os.O_RDWR)
status = bytearray(b"\\x08\\0\\0\\0\\0\\0\\0\\0")
fcntl.ioctl(group, 0x3B67, status)  # VFIO_GROUP_GET_STATUS (linux/vfio.h)
print(status[4] & 1)  # VFIO_GROUP_FLAGS_VIABLE
"""
"""Asks the kernel whether a group is viable: a program for the machine."""


def drive(machine: Q35, address: str, driver: str) -> None:
    """Gives the device at ``address`` to ``driver``; to none where that is empty."""
    at = f"/sys/bus/pci/devices/{address}"
    machine.ask(
        f"echo {driver or 'none'} >{at}/driver_override; "
        f"if [ -e {at}/driver ]; then echo {address} >{at}/driver/unbind; fi; "
        f"if [ -n '{driver}' ]; then modprobe {driver}; echo {address} >/sys/bus/pci/drivers_probe; fi"
    )


def viable(machine: Q35, address: str) -> tuple[bool, bool]:
    """Whether the group of the device at ``address`` is viable: to the kernel, and to us."""
    found = machine.pci()
    group = found.group_of(address)
    assert group is not None
    kernel = machine.ask(f"python3 - {group} <<'END'\n{VIABLE}END\n").strip() == "1"
    members = [found.devices[member] for member in found.iommu["groups"][group]]
    assert all(device["header_type"] >= 0 for device in members)
    print([(member["address"], member["header_type"], member["driver"]) for member in members], kernel)
    return kernel, not any(kinds.spoils_group(device) for device in members)


@pytest.mark.parametrize("driver", ["", "uio_pci_generic"])
def test_the_driver_of_a_bridge_counts_as_well(hypervisor: Q35, driver: str) -> None:
    """Its header type does not excuse it (Linux since 5.19); pcieport is not for such a bridge."""
    found = hypervisor.pci()
    assert found.devices[BRIDGE]["header_type"] == 1
    assert found.group_of(BRIDGE) == found.group_of(BEHIND)
    assert pcie.verdict(found, BEHIND).state is State.READY
    try:
        drive(hypervisor, BEHIND, "vfio-pci")
        drive(hypervisor, BRIDGE, driver)
        assert viable(hypervisor, BEHIND) == (not driver, not driver)
        assert (pcie.verdict(hypervisor.pci(), BEHIND).state is State.BLOCKED) is bool(driver)
    finally:
        drive(hypervisor, BRIDGE, "")
        drive(hypervisor, BEHIND, "")


def test_a_disk_that_a_program_has_open_is_the_hosts_own(hypervisor: Q35) -> None:
    """The disk of the seed, of which nothing is mounted: open in a program, then below a loop device too."""
    (disk,) = hypervisor.ask("readlink -f /sys/class/block/vdb/device/..").split()
    address = disk.rpartition("/")[2]
    assert address not in hypervisor.pci().uses
    try:
        hypervisor.ask("sleep 600 </dev/vdb >/dev/null 2>&1 & echo $! >/run/sleep")
        assert "a disk that sleep[" in str(hypervisor.pci().uses[address])
        assert pcie.verdict(hypervisor.pci(), address).state is State.BLOCKED
        hypervisor.ask("losetup -r /dev/loop0 /dev/vdb; mount -o ro /dev/loop0 /mnt")
        assert "mounted at /mnt" in hypervisor.pci().uses[address]
    finally:
        hypervisor.ask("umount /mnt; losetup -d /dev/loop0; kill $(cat /run/sleep)")
    assert address not in hypervisor.pci().uses


@pytest.mark.parametrize("driver", ["", "vfio-pci", "virtio-pci"])
def test_a_group_is_viable_where_the_kernel_says_so(hypervisor: Q35, driver: str) -> None:
    """One function of a group has vfio-pci, else the kernel has no group to ask; the other ``driver``.

    This kernel has no pci-stub: that one stands in tests/unit/passthrough/test_field_machines.py only.
    """
    try:
        drive(hypervisor, PAIR[0], "vfio-pci")
        drive(hypervisor, PAIR[1], driver)
        found = hypervisor.pci()
        assert found.devices[PAIR[1]]["driver"] == driver
        assert found.group_of(PAIR[0]) == found.group_of(PAIR[1])
        kernel, ours = viable(hypervisor, PAIR[0])
        assert ours is kernel
        assert kernel is (driver != "virtio-pci")
    finally:
        drive(hypervisor, PAIR[0], "virtio-pci")
        drive(hypervisor, PAIR[1], "virtio-pci")


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [("half", "must go together with"), ("root", "mounted at /"), ("display", pcie.BOOT_DISPLAY)],
)
def test_refusals_change_nothing(hypervisor: Q35, wanted: str, reason: str) -> None:
    found = hypervisor.pci()
    root = next(address for address, uses in found.uses.items() if "mounted at /" in uses)
    done = deploy(hypervisor, [{"half": GPU, "root": root, "display": DISPLAY}[wanted]])
    assert done.returncode != 0
    assert reason in done.stdout + done.stderr
    after = hypervisor.pci()
    assert {a: d["driver"] for a, d in after.devices.items()} == {
        a: d["driver"] for a, d in found.devices.items()
    }
    assert after.vfio["configured"] == []


def test_devices_are_given_back_to_the_driver_they_had(hypervisor: Q35) -> None:
    """The virtio card to its driver; the e1000e, for which this kernel has none, to nobody."""
    for name, drivers in (("bind", ["vfio-pci"] * 2), ("unbind", ["virtio-pci", ""])):
        file = hypervisor.folder / f"{name}.py"
        file.write_text(
            f"from operations import vfio\nvfio.{name}(addresses=['{ALONE}', '{CARD}'], _sudo=True)\n"
        )
        for run_again in (False, True):
            done = hypervisor.pyinfra("-y", str(file), environment={})
            assert done.returncode == 0, done.stderr
            assert ("No changes" in done.stderr + done.stdout) is run_again
            assert hypervisor.drivers(ALONE, CARD) == drivers


def test_the_deploy_binds_at_once_and_again_does_nothing(hypervisor: Q35) -> None:
    first = deploy(hypervisor, list(FOR_GUESTS))
    assert first.returncode == 0, first.stderr
    assert hypervisor.drivers(*FOR_GUESTS, CARD) == ["vfio-pci"] * len(FOR_GUESTS) + [""]
    assert pcie.verdict(hypervisor.pci(), GPU).state is State.READY
    again = deploy(hypervisor, list(FOR_GUESTS))
    assert (again.returncode, "Success" in (again.stdout + again.stderr).split("Results")[0]) == (0, False)


def test_after_a_boot_vfio_still_has_them(hypervisor: Q35) -> None:
    hypervisor.boot()
    found = hypervisor.pci()
    assert hypervisor.drivers(*FOR_GUESTS, CARD) == ["vfio-pci"] * len(FOR_GUESTS) + [""]
    assert found.vfio["configured"] == sorted(FOR_GUESTS)
    assert found.iommu["requested"]


@pytest.fixture(scope="module")
def live(hypervisor: Q35) -> Iterator[Live]:
    """The node of the file, with the machine in its place: it has the devices on its bus."""
    (cluster,) = schema.load(cluster_file(hypervisor, FOR_GUESTS)).clusters
    node = replace(cluster.workers[0], address=IPv4Address(hypervisor.address))
    cluster = replace(cluster, nodes=(cluster.controller, node))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(paths, "BUILD", hypervisor.folder / "build")
        at = ClusterPaths.of(cluster.name)
        at.secrets.mkdir(parents=True)
        shutil.copy(hypervisor.key, at.ssh_key)
        shutil.copy(hypervisor.known_hosts, at.known_hosts)
        with Live(cluster, hypervisor=hypervisor.ask) as live:
            yield live


@pytest.fixture
def node_live(live: Live, hypervisor: Q35) -> Iterator[Live]:
    """A node that has drivers for what it got: the virtio pair, of which the second function is its GPU."""
    before = live.nodes
    (node,) = live.workers
    pair = [device for device in node.passthrough if device.pci_address in PAIR]
    as_gpu = replace(node, passthrough=(pair[0], replace(pair[1], device_type="gpu")))
    with (
        given_to(hypervisor.ask, PAIR[0], "virtio-pci"),
        given_to(hypervisor.ask, PAIR[1], "virtio-pci"),
    ):
        live.nodes = tuple(as_gpu if other is node else other for other in before)
        try:
            yield live
        finally:
            live.nodes = before


SOUND: dict[str, str] = {}
"""What each check saw on the sound machine: at first, and again after each of its faults."""


@pytest.mark.parametrize(("fault", "check"), FAULTS)
def test_a_check_fails_on_its_fault(fault: Fault, check: Check, request: pytest.FixtureRequest) -> None:
    live: Live = request.getfixturevalue("node_live" if check.name == "passthrough.drivers" else "live")
    if check.name not in SOUND:
        before = run_check(check, live)
        assert before.outcome == "passed", before
        SOUND[check.name] = before.observed
        print(before)
    with fault.injected(live):
        broken = run_check(check, live)
    print(broken)
    assert broken.outcome == "failed", broken
    mended = run_check(check, live)
    assert (mended.outcome, mended.observed) == ("passed", SOUND[check.name]), mended


def test_the_faults_left_nothing_behind(hypervisor: Q35, live: Live) -> None:
    assert hypervisor.drivers(*FOR_GUESTS, CARD) == ["vfio-pci"] * len(FOR_GUESTS) + [""]
    assert "hpcstate-kept" not in hypervisor.ask("ls /etc/modprobe.d /etc/modules-load.d")
