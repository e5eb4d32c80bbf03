"""The processes that have a device by vfio, from a made-up sysfs and proc."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate.passthrough import verdict as pcie
from hpcstate.passthrough.verdict import State
from hpcstate.probe import device_holders
from hpcstate.probe.device_holders import Holder
from operations import vfio
from tests.unit.pci_hosts import DEVICES, GROUPS, host

PAIR = ("0000:07:00.0", "0000:07:00.1")
ALONE = "0000:0a:00.0"


@pytest.fixture
def found(tmp_path: Path) -> list[Holder]:
    """Somebody's QEMU with a group, a guest of libvirt's, and one that has a device by iommufd."""
    sysfs, proc, libvirt = tmp_path / "sys", tmp_path / "proc", tmp_path / "libvirt"
    for address in PAIR:
        (sysfs / "kernel/iommu_groups/14/devices" / address).mkdir(parents=True)
    (sysfs / "kernel/iommu_groups/15/devices/0000:09:00.0").mkdir(parents=True)
    (sysfs / "devices" / ALONE).mkdir(parents=True)
    (sysfs / "class/vfio-dev/vfio3").mkdir(parents=True)
    (sysfs / "class/vfio-dev/vfio3/device").symlink_to(f"../../../devices/{ALONE}")
    libvirt.mkdir()
    (libvirt / "other-guest.pid").write_text("31\n")
    for pid, name, node in (
        (3, "qemu-system-x86", "/dev/vfio/14"),
        (31, "qemu-system-x86", "/dev/vfio/15"),
        (40, "cloud hyper", "/dev/vfio/devices/vfio3"),
    ):
        files = proc / str(pid) / "fd"
        files.mkdir(parents=True)
        (proc / str(pid) / "comm").write_text(f"{name}\n")
        (files / "8").symlink_to("/dev/vfio/vfio")
        (files / "9").symlink_to(node)
    command = device_holders.command(str(sysfs), str(proc), str(libvirt))
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return device_holders.parse(done.stdout)


def test_who_has_a_device_by_vfio_is_named_unless_libvirt_does(found: list[Holder]) -> None:
    assert {(holder["pid"], holder["command"], holder["node"], holder["address"]) for holder in found} == {
        (3, "qemu-system-x86", "/dev/vfio/14", PAIR[0]),
        (3, "qemu-system-x86", "/dev/vfio/14", PAIR[1]),
        (40, "cloud_hyper", "/dev/vfio/devices/vfio3", ALONE),
    }


def test_a_device_that_somebodys_guest_has_is_blocked(found: list[Holder]) -> None:
    """All functions of the group, whatever their class; before, this was libvirt's error at the start."""
    verdict = pcie.verdict(replace(host(DEVICES, GROUPS), holders=found), PAIR[0])
    assert verdict.state is State.BLOCKED
    assert verdict.reasons == tuple(
        f"{address} is open in qemu-system-x86 (process 3, /dev/vfio/14)" for address in PAIR
    )
    assert verdict.steps == ("end qemu-system-x86 first",)


def test_to_bind_it_again_is_not_refused(found: list[Holder]) -> None:
    """The guest has vfio-pci there, which is all that deploys/vfio.py is about."""
    assert vfio.refusal(replace(host(DEVICES, GROUPS), holders=found), PAIR) == ""
