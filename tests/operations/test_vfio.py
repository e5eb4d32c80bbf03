"""operations.vfio and what deploys/hypervisor.py writes: bind, give back, noop, every refusal."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpcstate import paths, schema, vfio_files
from hpcstate.pcie import PciHost
from hpcstate.probe.vfio import CONFIGURATION
from operations import vfio
from tests.operations.harness import Outcome, run
from tests.unit.pci_hosts import AUDIO, BRIDGE, DEVICES, GPU, GROUPS, SECOND, host

PAIR = ["0000:01:00.0", "0000:01:00.1"]
SECOND_PAIR = ["0000:07:00.0", "0000:07:00.1"]


def facts(on: PciHost) -> dict[str, Any]:
    return {
        "facts.pci.PciDevices": dict(on.devices),
        "facts.iommu.IommuGroups": on.iommu,
        "facts.vfio.VfioState": on.vfio,
        "facts.pci.PciUses": {"devices": dict(on.uses), "untraced": dict(on.untraced)},
    }


def bound(on: PciHost, *addresses: str, **kwargs: Any) -> Outcome:
    return run(vfio.bind, list(addresses), facts=facts(on), **kwargs)


def test_devices_are_unbound_overridden_and_probed() -> None:
    commands = [str(command) for command in bound(host(DEVICES, GROUPS), *PAIR).commands]
    assert commands[0] == "modprobe vfio-pci"
    assert len(commands) == 3
    for address, command in zip(PAIR, commands[1:], strict=True):
        at = f"/sys/bus/pci/devices/{address}"
        assert command.startswith(f"echo vfio-pci >{at}/driver_override && ")
        assert f"echo {address} >{at}/driver/unbind" in command
        assert command.index("unbind") < command.index("drivers_probe")


def test_what_has_vfio_pci_already_is_left_alone() -> None:
    outcome = bound(host(DEVICES, GROUPS), *SECOND_PAIR)
    assert outcome.commands == []
    assert outcome.noops == ["0000:07:00.0, 0000:07:00.1 have vfio-pci"]


def test_only_the_rest_of_a_group_is_bound() -> None:
    half = host((BRIDGE, {**GPU, "driver": "vfio-pci"}, AUDIO), GROUPS)
    commands = bound(half, *PAIR).commands
    assert len(commands) == 2
    assert PAIR[1] in commands[1]


@pytest.mark.parametrize(
    ("on", "addresses", "reason"),
    [
        pytest.param(host(DEVICES, GROUPS), ["0000:09:00.0"], "there is no PCI device", id="absent"),
        pytest.param(
            host(DEVICES, {}),
            PAIR,
            "the kernel was asked for the IOMMU but found none: enable VT-d",
            id="no IOMMU",
        ),
        pytest.param(
            host(DEVICES, GROUPS),
            PAIR[:1],
            "0000:01:00.0 must go together with 0000:01:00.1",
            id="half a group",
        ),
        pytest.param(
            host((BRIDGE, {**GPU, "boot_vga": True}, AUDIO), GROUPS),
            PAIR,
            "the display it boots with",
            id="display",
        ),
        pytest.param(
            host(DEVICES, GROUPS, uses={PAIR[1]: ["mounted at /"]}),
            PAIR,
            "is the host's own: mounted at /",
            id="root",
        ),
        pytest.param(
            host(DEVICES, GROUPS, uses={PAIR[0]: ["default route by eth0"]}),
            PAIR,
            "default route",
            id="network",
        ),
    ],
)
def test_refusals_change_nothing(on: PciHost, addresses: list[str], reason: str) -> None:
    (stop,) = bound(on, *addresses).commands
    assert "fail" in str(stop)
    assert reason in str(stop)


def test_force_takes_what_the_host_lives_on_but_never_half_a_group() -> None:
    display = host((BRIDGE, {**GPU, "boot_vga": True}, AUDIO), GROUPS)
    assert len(bound(display, *PAIR, force=True).commands) == 3
    (stop,) = bound(display, PAIR[0], force=True).commands
    assert "must go together" in str(stop)


def test_devices_are_given_back() -> None:
    commands = run(vfio.unbind, SECOND_PAIR, facts=facts(host(DEVICES, GROUPS))).commands
    assert len(commands) == 2
    assert "grep -qx /dev/vfio/14" in commands[0]
    assert str(commands[0]).endswith("echo 0000:07:00.0 >/sys/bus/pci/drivers_probe")


def test_what_vfio_pci_does_not_have_is_not_given_back() -> None:
    outcome = run(vfio.unbind, [*PAIR, "0000:0a:00.0"], facts=facts(host(DEVICES, GROUPS)))
    assert outcome.commands == []
    assert "vfio-pci has none of" in outcome.noops[0]


def kernel(tmp_path: Path, command: str) -> str:
    """Run ``command`` with /sys/bus/pci replaced by a folder, and say how it ended."""
    script = command.replace("/sys/bus/pci", str(tmp_path))
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False, timeout=20)
    return f"{done.returncode} {done.stderr}"


def test_a_device_that_the_kernel_did_not_give_to_vfio_is_a_failure(tmp_path: Path) -> None:
    at = tmp_path / "devices" / SECOND["address"]
    (at / "driver").mkdir(parents=True)
    command = vfio._bind_script(SECOND["address"])
    assert kernel(tmp_path, command).startswith("1")
    (at / "driver" / "unbind").unlink()
    (at / "driver").rmdir()
    (tmp_path / "drivers" / "vfio-pci").mkdir(parents=True)
    (at / "driver").symlink_to("../../drivers/vfio-pci")
    assert kernel(tmp_path, command) == "0 "
    assert (at / "driver_override").read_text() == "vfio-pci\n"
    assert (tmp_path / "drivers_probe").read_text() == f"{SECOND['address']}\n"


PASSTHROUGH = schema.load(paths.ROOT / "inventories" / "passthrough.yaml")


def test_the_files_of_a_hypervisor() -> None:
    addresses = vfio_files.devices_of(PASSTHROUGH)
    assert addresses == (*PAIR, *SECOND_PAIR)
    files = vfio_files.boot_files(PASSTHROUGH, addresses)
    modprobe = files[CONFIGURATION].content
    assert f"# devices: {' '.join(addresses)}\n" in modprobe
    assert "softdep nvidia pre: vfio-pci\n" in modprobe
    assert files[vfio_files.MODULES_LOAD].content.endswith("\nvfio-pci\n")
    assert (
        'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX intel_iommu=on iommu=pt"' in files[vfio_files.GRUB].content
    )
    assert files[vfio_files.INITRAMFS_HOOK].mode == "755"
    assert vfio_files.HUGEPAGES not in files


def test_the_line_of_modprobe_claims_the_devices_that_are_there(tmp_path: Path) -> None:
    """The first device is free, the second has a driver that was first, the third is not there."""
    bus = tmp_path / "bus"
    (bus / "drivers" / "vfio-pci").mkdir(parents=True)
    (bus / "drivers" / "virtio-pci").mkdir()
    for address in PAIR:
        (bus / "devices" / address).mkdir(parents=True)
    (bus / "devices" / PAIR[1] / "driver").symlink_to("../../drivers/virtio-pci")
    (line,) = [
        line.removeprefix("install vfio-pci ")
        for line in vfio_files.modprobe_conf([*PAIR, "0000:0f:00.0"]).splitlines()
        if line.startswith("install")
    ]
    bind_first = f"ln -s ../../drivers/vfio-pci {bus}/devices/{PAIR[0]}/driver"
    script = line.replace("/sys/bus/pci", str(bus)).replace("modprobe --ignore-install vfio-pci", bind_first)
    subprocess.run(["sh", "-ec", script], check=True)
    for address in PAIR:
        assert (bus / "devices" / address / "driver_override").read_text() == "vfio-pci\n"
    assert (bus / "drivers" / "virtio-pci" / "unbind").read_text() == f"{PAIR[1]}\n"
    assert (bus / "drivers_probe").read_text() == f"{PAIR[1]}\n"
    assert not (bus / "drivers" / "vfio-pci" / "unbind").exists()
    assert not (bus / "devices" / "0000:0f:00.0").exists()


@pytest.mark.parametrize(("before_boot", "stopped"), [(True, False), (False, True)])
def test_an_iommu_that_is_off_may_come_with_the_next_boot(before_boot: bool, stopped: bool) -> None:
    assert bool(vfio.refusal(host(DEVICES, {}), PAIR, before_boot=before_boot)) is stopped


def test_what_may_be_given_to_guests_is_only_looked_at() -> None:
    outcome = run(vfio.require, PAIR, facts=facts(host(DEVICES, {}, arguments={})))
    assert (outcome.commands, outcome.noops) == ([], ["0000:01:00.0, 0000:01:00.1 may be given to guests"])
    (stop,) = run(vfio.require, PAIR[:1], facts=facts(host(DEVICES, {}))).commands
    assert "must go together" in str(stop)


@pytest.mark.parametrize(
    ("size", "path", "words"),
    [
        ("2M", vfio_files.HUGEPAGES, "vm.nr_hugepages = 20480"),
        ("1G", vfio_files.GRUB, "intel_iommu=on iommu=pt hugepagesz=1G hugepages=40"),
    ],
)
def test_hugepages_when_asked_for(size: str, path: str, words: str) -> None:
    (cluster,) = PASSTHROUGH.clusters
    wish = replace(cluster.acceleration, enable_hugepages=True, hugepage_size=size)
    asked = replace(PASSTHROUGH, clusters=(replace(cluster, acceleration=wish),))
    assert words in vfio_files.boot_files(asked, PAIR)[path].content
    assert sum(node.memory_mb for node in cluster.nodes) == 40 * 1024


def test_without_devices_a_host_gets_nothing_of_vfio() -> None:
    assert vfio_files.boot_files(schema.load(paths.ROOT / "inventories" / "gpu.yaml"), ()) == {}
