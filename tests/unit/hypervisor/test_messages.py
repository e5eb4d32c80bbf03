"""What libvirt says, in words of ours: texts of libvirt 9 and 11 and of QEMU 7 to 10."""

from __future__ import annotations

import threading
from dataclasses import replace

import libvirt
import pytest

from hpcstate.errors import HpcstateError
from hpcstate.hypervisor import connection as libvirt_host
from hpcstate.hypervisor.connection import LibvirtHost, reason_of, state_of
from hpcstate.hypervisor.messages import refused
from hpcstate.model import PassthroughDevice
from tests.unit.fake_live import a_node

KVM_BUSY = (
    "internal error: process exited while connecting to monitor: ioctl(KVM_CREATE_VM) failed: 16 Device or "
    "resource busy\n2026-01-02T03:04:05.678901Z qemu-system-x86_64: failed to initialize kvm: Device or "
    "resource busy"
)
NOT_VIABLE = (
    "internal error: qemu unexpectedly closed the monitor: 2026-01-02T03:04:05.678901Z qemu-system-x86_64: "
    '-device {"driver":"vfio-pci","host":"0000:01:00.0"}: vfio 0000:01:00.0: group 14 is not viable\n'
    "Please ensure all devices within the iommu_group are bound to their vfio bus driver."
)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("cannot write data to file '/x': No space left on device", "disk is full", "df"),
        (
            "authentication unavailable: no polkit agent available",
            "may not use libvirt",
            "usermod -aG libvirt",
        ),
        (
            "Timed out during operation: cannot acquire state change lock (held by "
            "monitor=remoteDispatchDomainCreateXML)",
            "another operation is working on this machine (remoteDispatchDomainCreateXML)",
            "domjobinfo",
        ),
        (KVM_BUSY, "another hypervisor holds", "VirtualBox"),
        (
            "Unable to reset PCI device 0000:03:00.0: no FLR, PM reset or bus reset available",
            "cannot be reset",
            "power off",
        ),
        (
            "vfio 0000:01:00.0: failed to setup container for group 14: "
            "memory listener initialization failed: Region pc.ram: vfio_dma_map(0x55, 0x0, 0x80000000, 0x7f) "
            "= -12 (Cannot allocate memory)",
            "cannot be pinned",
            "VFIO pins",
        ),
        (
            "qemu-system-x86_64: Address space limit 0xffffffffff < 0x1ffffffffff phys-bits too low (40)",
            "too few address bits",
            "host-passthrough",
        ),
        (
            "unsupported configuration: host doesn't support passthrough of host PCI devices",
            "IOMMU of the hypervisor is off",
            "inventory pcie",
        ),
        (
            "PCI device 0000:01:00.0 is in use by driver QEMU, domain win11",
            "another machine (win11) has the device 0000:01:00.0",
            "virsh shutdown win11",
        ),
        (
            "vfio 0000:01:00.0: failed to open /dev/vfio/14: Device or resource busy",
            "another program has the IOMMU group 14",
            "inventory pcie",
        ),
        (
            "vfio 0000:01:00.0: error getting device from group 14: busy\nVerify all devices "
            "in group 14 are bound to vfio-<bus> or pci-stub and not already in use",
            "IOMMU group 14 has a device with a driver",
            "--all",
        ),
        (
            "error: internal error: Failed to apply firewall rules /usr/sbin/iptables -w --table filter "
            "--list-rules: iptables v1.8.9: Could not fetch rule set generation id",
            "firewall refused",
            "restart libvirtd",
        ),
        (
            "COMMAND_FAILED: INVALID_ZONE: firewalld can't find the 'libvirt' zone",
            "firewall refused",
            "restart libvirtd",
        ),
        (
            "error creating bridge interface virbr152: File exists",
            "interface virbr152 already",
            "link delete",
        ),
        (
            "Unable to open /dev/net/tun, is tun module loaded?: No such file or directory",
            "tun",
            "modprobe tun",
        ),
        (
            "Cannot check dnsmasq binary /usr/sbin/dnsmasq: No such file or directory",
            "no dnsmasq",
            "dnsmasq-base",
        ),
        (
            "internal error: hugetlbfs filesystem is not mounted or disabled by administrator config",
            "no huge pages",
            "deploys/hypervisor.py",
        ),
        (
            "internal error: process exited while connecting to monitor: qemu-system-x86_64: cannot set up "
            "guest memory 'pc.ram': Cannot allocate memory",
            "not have enough free memory",
            "memory_gb",
        ),
        (NOT_VIABLE, "IOMMU group 14", "inventory pcie --all"),
        (
            "internal error: Network is already in use by interface wlan0",
            "in use by the interface wlan0",
            "subnet",
        ),
        (
            "internal error: Child process (dnsmasq) unexpected exit status 2: dnsmasq: failed to create "
            "listening socket for 192.168.150.1: Address already in use",
            "port 53",
            "sport = 53",
        ),
        ("Cannot recv data: Connection reset by peer", "libvirtd ended", "journalctl"),
    ],
    ids=lambda value: value.split(":")[-1][:30] if len(value) > 40 else value,
)
def test_a_refusal_names_its_cause_and_the_next_step(text: str, message: str, hint: str) -> None:
    error = refused(text, "qemu:///system")
    assert message in error.message
    assert hint in f"{error.message} {error.hint}"
    assert "\n" not in error.message


def test_an_unknown_refusal_is_shown_as_it_is_with_the_place_of_the_log() -> None:
    error = refused("XML error: bad thing\n", "qemu:///system", "the network could not be started")
    assert error.message == "the network could not be started: XML error: bad thing"
    assert "/var/log/libvirt/qemu" in error.hint


class Domain:
    """A domain in a state, with a reason and disks that have errors."""

    def __init__(
        self, state: int, reason: int, errors: dict[str, int] | None = None, saved: bool = False
    ) -> None:
        self.at, self.errors, self.saved = [state, reason], errors or {}, saved

    def state(self) -> list[int]:
        return self.at

    def isActive(self) -> bool:
        return self.at[0] not in (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_CRASHED)

    def diskErrors(self) -> dict[str, int]:
        return self.errors

    def hasManagedSaveImage(self) -> bool:
        return self.saved


@pytest.mark.parametrize(
    ("domain", "state", "reason"),
    [
        (Domain(libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED), "running", ""),
        (
            Domain(
                libvirt.VIR_DOMAIN_PAUSED,
                libvirt.VIR_DOMAIN_PAUSED_IOERROR,
                {"vda": libvirt.VIR_DOMAIN_DISK_ERROR_NO_SPACE},
            ),
            "paused",
            "vda: no space left where its file is",
        ),
        (
            Domain(libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR),
            "paused",
            "a disk of it had an error",
        ),
        (Domain(libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER), "paused", "somebody paused it"),
        (Domain(libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SAVED, saved=True), "saved", ""),
        (Domain(libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN), "stopped", ""),
        (
            Domain(libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED),
            "stopped",
            "its emulator crashed",
        ),
        (
            Domain(libvirt.VIR_DOMAIN_CRASHED, libvirt.VIR_DOMAIN_CRASHED_PANICKED),
            "crashed",
            "its kernel panicked",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_libvirts_reason_for_a_state_is_said(domain: Domain, state: str, reason: str) -> None:
    assert state_of(domain) == state
    assert reason_of(domain) == reason


class Hanging:
    """A domain whose start waits for a driver."""

    def __init__(self) -> None:
        self.driver = threading.Event()

    def create(self) -> None:
        self.driver.wait(30)


def test_a_driver_that_does_not_let_go_is_not_waited_for_without_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(libvirt_host, "CREATE_SECONDS", 0.1)
    node = replace(a_node("compute-01", 11), passthrough=(PassthroughDevice("0000:01:00.0", "gpu"),))
    domain = Hanging()
    with pytest.raises(HpcstateError, match="did not start compute-01 within 0 s") as caught:
        libvirt_host._create_within(domain, node)
    hypervisor = LibvirtHost(connection := libvirt.open("test:///default"), "test:///default")
    monkeypatch.setattr(hypervisor, "domain", lambda *_: domain)
    with pytest.raises(HpcstateError, match="did not start compute-01"):
        hypervisor.power_on(None, node)  # type: ignore[arg-type]
    connection.close()
    domain.driver.set()
    assert "0000:01:00.0" in caught.value.message
    libvirt_host._create_within(domain, node)
