"""operations.vfio and what deploys/hypervisor.py writes: bind, give back, noop, every refusal."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpcstate import paths, schema
from hpcstate.passthrough import verdict as pcie
from hpcstate.passthrough import vfio as vfio_files
from hpcstate.passthrough.verdict import PciHost
from hpcstate.probe.device_holders import Holder
from hpcstate.probe.vfio import CONFIGURATION
from operations import vfio
from tests.operations.harness import Outcome, run
from tests.unit.pci_hosts import AUDIO, BRIDGE, DEVICES, GPU, GROUPS, host

PAIR = ["0000:01:00.0", "0000:01:00.1"]
SECOND_PAIR = ["0000:07:00.0", "0000:07:00.1"]


def facts(on: PciHost) -> dict[str, Any]:
    return {
        "facts.pci.PciDevices": dict(on.devices),
        "facts.iommu.IommuGroups": on.iommu,
        "facts.vfio.VfioState": on.vfio,
        "facts.device_holders.DeviceHolders": list(on.holders),
        "facts.pci.PciUses": {"devices": dict(on.uses), "untraced": dict(on.untraced)},
    }


def bound(on: PciHost, *addresses: str, **kwargs: Any) -> Outcome:
    return run(vfio.bind, list(addresses), facts=facts(on), **kwargs)


def test_devices_are_unbound_overridden_and_probed() -> None:
    commands = [str(command) for command in bound(host(DEVICES, GROUPS), *PAIR).commands]
    assert "modprobe vfio-pci" in commands[0]
    assert len(commands) == 3
    for address, command in zip(PAIR, commands[1:], strict=True):
        assert f"sh -s -- {address} vfio-pci" in command


def test_what_has_vfio_pci_already_is_left_alone() -> None:
    outcome = bound(host(DEVICES, GROUPS), *SECOND_PAIR)
    assert outcome.commands == []
    assert outcome.noops == ["0000:07:00.0, 0000:07:00.1 have vfio-pci"]


def test_only_the_rest_of_a_group_is_bound() -> None:
    half = host((BRIDGE, {**GPU, "driver": "vfio-pci"}, AUDIO), GROUPS)
    commands = bound(half, *PAIR).commands
    assert len(commands) == 2
    assert PAIR[1] in str(commands[1])


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
    commands = [
        str(command) for command in run(vfio.unbind, SECOND_PAIR, facts=facts(host(DEVICES, GROUPS))).commands
    ]
    assert len(commands) == 4
    assert "sh -s -- 0000:07:00.0" in commands[0]
    assert "sh -s -- 0000:07:00.0 ''" in commands[1]


def test_what_vfio_pci_does_not_have_is_not_given_back() -> None:
    outcome = run(vfio.unbind, [*PAIR, "0000:0a:00.0"], facts=facts(host(DEVICES, GROUPS)))
    assert outcome.commands == []
    assert "vfio-pci has none of" in outcome.noops[0]


class Kernel:
    """A folder for /sys/bus/pci: what is written to its files stays there; the kernel's part a test does."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "drivers" / "vfio-pci").mkdir(parents=True)

    def device(self, address: str, identifiers: str = "10de:2805", driver: str = "") -> Path:
        at = self.root / "devices" / address
        at.mkdir(parents=True)
        vendor, model = identifiers.split(":")
        (at / "vendor").write_text(f"0x{vendor}\n")
        (at / "device").write_text(f"0x{model}\n")
        if driver:
            (self.root / "drivers" / driver).mkdir(exist_ok=True)
            (at / "driver").symlink_to(f"../../drivers/{driver}")
        return at

    def run(self, program: str, *words: str, limit: int = 5) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "bus": str(self.root),
            "kmsg": str(self.root / "kmsg"),
            "limit": str(limit),
        }
        return subprocess.run(
            ["sh", "-s", "--", *words],
            input=program,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def stuck(self, file: str) -> None:
        """Whoever writes to ``file`` waits, as in a driver that does not let go: a pipe that nobody reads."""
        os.mkfifo(self.root / file)

    def release(self) -> None:
        """Let the writers go that were left behind, as the kernel does in the end. Waits for them."""
        for pipe in filter(Path.is_fifo, self.root.rglob("*")):
            with pipe.open() as reader:
                reader.read()

    def said(self) -> str:
        path = self.root / "kmsg"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def pci_bus(tmp_path: Path) -> Iterator[Kernel]:
    kernel = Kernel(tmp_path / "pci")
    yield kernel
    kernel.release()


def test_a_device_is_handed_over_and_looked_at(pci_bus: Kernel) -> None:
    at = pci_bus.device("0000:01:00.0", driver="vfio-pci")
    done = pci_bus.run(vfio.BIND_PROGRAM, "0000:01:00.0", "vfio-pci")
    assert done.returncode == 0, done.stderr
    assert (at / "driver_override").read_text() == "vfio-pci\n"
    assert (pci_bus.root / "drivers/vfio-pci/unbind").read_text() == "0000:01:00.0\n"
    assert (pci_bus.root / "drivers_probe").read_text() == "0000:01:00.0\n"


def test_a_device_that_the_kernel_did_not_give_to_vfio_is_a_failure(pci_bus: Kernel) -> None:
    pci_bus.device("0000:01:00.0", driver="nouveau")
    done = pci_bus.run(vfio.BIND_PROGRAM, "0000:01:00.0", "vfio-pci")
    assert done.returncode == 1
    assert "did not get the driver vfio-pci" in done.stderr


def test_a_driver_that_does_not_let_go_is_not_waited_for_without_limit(pci_bus: Kernel) -> None:
    pci_bus.device("0000:01:00.0", driver="nvidia")
    pci_bus.stuck("drivers/nvidia/unbind")
    begun = time.monotonic()
    done = pci_bus.run(vfio.BIND_PROGRAM, "0000:01:00.0", "vfio-pci", limit=1)
    assert done.returncode == 1
    assert "within 1 s" in done.stderr
    assert time.monotonic() - begun < 10
    assert not (pci_bus.root / "drivers_probe").exists()


CLAIM = (paths.ROOT / "hpcstate" / "passthrough" / "vfio_claim.sh").read_text()


def test_at_boot_only_the_devices_that_were_meant_are_claimed(pci_bus: Kernel) -> None:
    """After a card was added the root disk is where a GPU was."""
    gpu = pci_bus.device("0000:02:00.0", "10de:2805")
    disk = pci_bus.device("0000:01:00.0", "144d:a80a", driver="nvme")
    claims = ("0000:01:00.0=10de:2805", "0000:02:00.0=10de:2805", "0000:0f:00.0=10de:2805")
    for when in ("before", "after"):
        assert pci_bus.run(CLAIM, when, *claims).returncode == 0
    assert (gpu / "driver_override").read_text() == "vfio-pci\n"
    assert not (disk / "driver_override").exists()
    assert not (pci_bus.root / "drivers/nvme/unbind").exists()
    assert "0000:0f:00.0" in (said := pci_bus.said())
    assert "0000:02:00.0" not in said
    disk_alone = Kernel(pci_bus.root.with_name("alone"))
    disk_alone.device("0000:01:00.0", "144d:a80a", driver="nvme")
    disk_alone.run(CLAIM, "before", claims[0])
    assert "0000:01:00.0 is 144d:a80a and not 10de:2805: left alone" in disk_alone.said()


def test_at_boot_a_driver_that_was_first_gives_its_device_back(pci_bus: Kernel) -> None:
    pci_bus.device("0000:01:00.0", "10de:2805", driver="nouveau")
    pci_bus.device("0000:01:00.1", "10de:22bd", driver="vfio-pci")
    pci_bus.run(CLAIM, "after", "0000:01:00.0=10de:2805", "0000:01:00.1=10de:22bd")
    assert (pci_bus.root / "drivers/nouveau/unbind").read_text() == "0000:01:00.0\n"
    assert (pci_bus.root / "drivers_probe").read_text() == "0000:01:00.0\n"
    assert not (pci_bus.root / "drivers/vfio-pci/unbind").exists()


def test_at_boot_nothing_is_waited_for_without_limit(pci_bus: Kernel) -> None:
    pci_bus.device("0000:01:00.0", "10de:2805", driver="nvidia")
    pci_bus.stuck("drivers/nvidia/unbind")
    assert pci_bus.run(CLAIM, "after", "0000:01:00.0=10de:2805", limit=1).returncode == 0
    assert "did not let go within 1 s" in pci_bus.said()


def test_another_device_at_the_address_is_refused_now_as_well() -> None:
    on = host(DEVICES, GROUPS)
    said = vfio.refusal(on, PAIR, claimed={PAIR[0]: "10de:2206"})
    assert said == "0000:01:00.0 is 10de:2805, and not 10de:2206 as the file says"
    assert vfio.refusal(on, PAIR, claimed={PAIR[0]: "10de:2805"}) == ""


HOLDERS = [
    Holder(pid=812, command="Xorg", node="/dev/dri/card0", address="0000:01:00.0"),
    Holder(pid=900, command="nvidia-persiste", node="/dev/nvidiactl", address="0000:01:00.0"),
    Holder(pid=901, command="ollama", node="/dev/kfd", address="0000:09:00.0"),
]


def test_who_has_a_gpu_open_is_named_before_anything_is_unbound() -> None:
    on = replace(host(DEVICES, GROUPS), holders=HOLDERS)
    (stop,) = bound(on, *PAIR).commands
    assert "0000:01:00.0 is open in Xorg (process 812, /dev/dri/card0)" in str(stop)
    assert "0000:01:00.0 is open in nvidia-persiste (process 900, /dev/nvidiactl)" in str(stop)
    assert "ollama" not in str(stop)
    found = pcie.verdict(on, PAIR[0])
    assert found.state is pcie.State.BLOCKED
    assert "systemctl stop display-manager" in found.steps
    assert len(bound(on, *PAIR, force=True).commands) == 1


PASSTHROUGH = schema.load(paths.ROOT / "inventories" / "passthrough.yaml")
CLAIMED = vfio_files.claims(PASSTHROUGH, {})


def test_the_files_of_a_hypervisor() -> None:
    addresses = vfio_files.devices_of(PASSTHROUGH)
    assert tuple(CLAIMED) == addresses
    assert addresses == (*PAIR, *SECOND_PAIR)
    files = vfio_files.boot_files(PASSTHROUGH, CLAIMED)
    modprobe = files[CONFIGURATION].content
    assert f"# devices: {' '.join(addresses)}\n" in modprobe
    assert "softdep nvidia pre: vfio-pci\n" in modprobe
    assert files[vfio_files.MODULES_LOAD].content.endswith("\nvfio-pci\n")
    assert (
        'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX intel_iommu=on iommu=pt"' in files[vfio_files.GRUB].content
    )
    assert files[vfio_files.INITRAMFS_HOOK].mode == "755"
    assert vfio_files.HUGEPAGES not in files


def test_the_line_of_modprobe_claims_by_address_and_identifiers() -> None:
    (line,) = [line for line in vfio_files.modprobe_conf(CLAIMED).splitlines() if line.startswith("install")]
    words = " ".join(f"{address}={identifiers}" for address, identifiers in CLAIMED.items())
    assert line == (
        f"install vfio-pci {vfio_files.CLAIM} before {words}; "
        f"modprobe --ignore-install vfio-pci && {vfio_files.CLAIM} after {words}"
    )


def test_a_file_without_identifiers_claims_what_is_there() -> None:
    (cluster,) = PASSTHROUGH.clusters
    nodes = tuple(
        replace(node, passthrough=tuple(replace(d, vendor_id="", device_id="") for d in node.passthrough))
        for node in cluster.nodes
    )
    bare = replace(PASSTHROUGH, clusters=(replace(cluster, nodes=nodes),))
    there = {pci["address"]: pci for pci in (GPU, AUDIO)}
    assert vfio_files.claims(bare, there) == {PAIR[0]: "10de:2805", PAIR[1]: "10de:22bd"}
    assert vfio_files.claims(PASSTHROUGH, {}) == CLAIMED
    # The first start of the cluster decided: another card there now is no claim of it.
    known = {PAIR[0]: "10de:1111", PAIR[1]: "10de:22bd"}
    assert vfio_files.claims(bare, there, known) == known
    assert vfio_files.claims(PASSTHROUGH, {}, known) == CLAIMED


RUNNING = {"intel_iommu": "on", "iommu": "pt"}


@pytest.mark.parametrize(
    ("tools", "running", "way"),
    [
        (["update-initramfs", "update-grub"], {}, vfio_files.DEBIAN),
        (["dracut", "update-grub"], {}, vfio_files.BootWay("dracut")),
        (["update-initramfs", "bootctl", "systemd-boot"], RUNNING, vfio_files.BootWay(grub=False)),
        (["update-initramfs", "bootctl", "systemd-boot"], {}, "systemd-boot: add intel_iommu=on iommu=pt to"),
        (["update-initramfs", "update-grub", "systemd-boot"], {}, "this host boots by systemd-boot"),
        (["update-initramfs"], {}, "a boot loader without update-grub"),
        (["update-grub"], {}, "neither initramfs-tools nor dracut"),
    ],
)
def test_how_a_host_boots_is_found_out_before_anything_is_written(
    tools: list[str], running: dict[str, str], way: vfio_files.BootWay | str
) -> None:
    found = vfio_files.boot_way(PASSTHROUGH, tools, running)
    if isinstance(way, str):
        assert isinstance(found, str)
        assert way in found
        assert found.endswith("Nothing was written")
    else:
        assert found == way


def test_the_files_of_a_host_with_dracut_and_systemd_boot() -> None:
    way = vfio_files.BootWay("dracut", grub=False)
    files = vfio_files.boot_files(PASSTHROUGH, CLAIMED, way)
    assert vfio_files.INITRAMFS_HOOK not in files and vfio_files.GRUB not in files
    assert vfio_files.CLAIM in files[vfio_files.DRACUT].content
    assert {file.then for file in files.values()} <= {"dracut --force", ""}


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
        ("1G", vfio_files.HUGEPAGES_MOUNT, "Where=/dev/hugepages1G\nType=hugetlbfs\nOptions=pagesize=1G\n"),
    ],
)
def test_hugepages_when_asked_for(size: str, path: str, words: str) -> None:
    (cluster,) = PASSTHROUGH.clusters
    wish = replace(cluster.acceleration, enable_hugepages=True, hugepage_size=size)
    asked = replace(PASSTHROUGH, clusters=(replace(cluster, acceleration=wish),))
    assert words in vfio_files.boot_files(asked, CLAIMED)[path].content
    assert sum(node.memory_mb for node in cluster.nodes) == 40 * 1024


def test_without_devices_a_host_gets_nothing_of_vfio() -> None:
    assert vfio_files.boot_files(schema.load(paths.ROOT / "inventories" / "gpu.yaml"), {}) == {}
