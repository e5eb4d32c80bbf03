"""A cluster file against a host. The hosts here are made up; one test looks at the real one."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from hpcstate import paths, pcie, schema, validate
from hpcstate.errors import HpcstateError, Problem
from hpcstate.pcie import PciDevice
from hpcstate.validate import HostState, Route

PASSTHROUGH = paths.ROOT / "inventories" / "passthrough.yaml"
GPU = paths.ROOT / "inventories" / "gpu.yaml"
FIRST = ".clusters.hpc.compute_nodes[0].pcie_passthrough.devices[0]"

DEVICES = (
    PciDevice("0000:00:01.0", "8086", "1901", 0x060400, "pcieport", 12),
    PciDevice("0000:01:00.0", "10de", "2805", 0x030000, "nvidia", 12),
    PciDevice("0000:01:00.1", "10de", "22bd", 0x040300, "snd_hda_intel", 12),
    PciDevice("0000:07:00.0", "10de", "2504", 0x030000, "vfio-pci", 14),
    PciDevice("0000:07:00.1", "10de", "228e", 0x040300, "vfio-pci", 14),
)
HOST = HostState(
    routes=(Route(IPv4Network("192.0.2.0/24"), "eth0"),),
    memory_mb=64 * 1024,
    cpus=32,
    devices=DEVICES,
    exists=lambda path: path.name in ("hpc-base", "cloud-base"),
)


def found(host: HostState, file: Path = PASSTHROUGH) -> tuple[Problem, ...]:
    """The findings about ``file`` on ``host``."""
    return validate.host_findings(schema.load(file), host)


def with_device(host: HostState, address: str, **changes: object) -> HostState:
    """``host`` with one of its devices changed."""
    assert host.devices is not None
    devices = (replace(device, **changes) if device.address == address else device for device in host.devices)  # type: ignore[arg-type]
    return replace(host, devices=tuple(devices))


def test_a_host_that_has_everything_has_no_findings() -> None:
    assert found(HOST) == ()


@pytest.mark.parametrize(
    ("route", "severity"),
    [
        (Route(IPv4Network("192.168.152.0/24"), "eth1"), "error"),
        (Route(IPv4Network("192.168.152.64/26"), "wlan0", "192.168.0.1"), "error"),
        (Route(IPv4Network("192.168.0.0/16"), "eth1"), "error"),
        (Route(IPv4Network("192.168.0.0/16"), "tun0", "10.8.0.1"), "warning"),
        (Route(IPv4Network("192.168.152.0/24"), "virbr152"), None),
        (Route(IPv4Network("192.168.153.0/24"), "eth1"), None),
    ],
)
def test_routes_that_overlap_the_subnet(route: Route, severity: str | None) -> None:
    problems = found(replace(HOST, routes=(route,)))
    assert [problem.severity for problem in problems] == ([severity] if severity else [])
    for problem in problems:
        assert problem.place == ".clusters.hpc.network.subnet"
        assert problem.line == _line(PASSTHROUGH, "subnet:")


def test_routes_that_cannot_be_read_are_said_to_be_unchecked() -> None:
    (problem,) = found(replace(HOST, routes=None))
    assert (problem.severity, "not checked" in problem.message) == ("warning", True)


def test_more_memory_than_the_host_has_is_a_warning() -> None:
    (problem,) = found(replace(HOST, memory_mb=39 * 1024))
    assert problem.severity == "warning"
    assert "40.0 GiB" in problem.message
    assert "39.0 GiB" in problem.message


def test_nodes_that_do_not_start_by_themselves_need_no_memory(tmp_path: Path) -> None:
    text = PASSTHROUGH.read_text().replace(
        "ip: 192.168.152.12", "ip: 192.168.152.12\n        auto_start: false"
    )
    (tmp_path / "x.yaml").write_text(text)
    assert found(replace(HOST, memory_mb=39 * 1024), tmp_path / "x.yaml") == ()


def test_more_cpus_than_the_host_has_is_a_warning() -> None:
    problems = found(replace(HOST, cpus=4))
    assert [problem.place for problem in problems] == [
        ".clusters.hpc.compute_nodes[0].cpu_cores",
        ".clusters.hpc.compute_nodes[1].cpu_cores",
    ]
    assert {problem.severity for problem in problems} == {"warning"}


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("/srv/images/none.qcow2", "there is no image"),
        ("build/packer/hpc-compute/hpc-compute/hpc-compute.qcow2", "no packer/hpc-compute/"),
        ("build/packer/hpc-base/hpc-base/hpc-base.qcow2", ""),
    ],
)
def test_images_that_nothing_builds_are_a_warning(image: str, words: str, tmp_path: Path) -> None:
    text = PASSTHROUGH.read_text().replace("disk_gb: 100", f"base_image_path: {image}")
    (tmp_path / "x.yaml").write_text(text)
    problems = found(HOST, tmp_path / "x.yaml")
    assert [problem.severity for problem in problems] == (["warning"] if words else [])
    assert all(words in problem.message for problem in problems)
    assert all(problem.place.endswith("controller.base_image_path") for problem in problems)


def test_a_device_that_the_host_lacks() -> None:
    (problem,) = found(replace(HOST, devices=tuple(d for d in DEVICES if d.address != "0000:07:00.1")))
    assert problem.place == ".clusters.hpc.compute_nodes[1].pcie_passthrough.devices[1].pci_address"
    assert (problem.severity, problem.line) == ("error", _line(PASSTHROUGH, '"0000:07:00.1"'))


def test_a_device_that_is_another() -> None:
    (problem,) = found(with_device(HOST, "0000:01:00.0", device_id="1b80"))
    assert (problem.place, problem.severity) == (f"{FIRST}.device_id", "error")
    assert "10de:1b80" in problem.message


def test_a_device_without_iommu() -> None:
    problems = found(with_device(HOST, "0000:01:00.0", iommu_group=None))
    assert (f"{FIRST}.pci_address", "error") in [(problem.place, problem.severity) for problem in problems]
    assert "IOMMU is off" in problems[0].message


def test_a_group_must_be_given_as_a_whole_but_for_bridges() -> None:
    network_card = PciDevice("0000:02:00.0", "8086", "1533", 0x020000, "igb", 12)
    problems = found(replace(HOST, devices=(*DEVICES, network_card)))
    assert {problem.place for problem in problems} == {
        f"{FIRST}.pci_address",
        FIRST.replace("devices[0]", "devices[1]") + ".pci_address",
    }
    assert all("0000:02:00.0" in problem.message for problem in problems)


def test_a_group_with_another_number_is_a_warning(tmp_path: Path) -> None:
    text = PASSTHROUGH.read_text().replace(
        'device_id: "2805"', 'device_id: "2805"\n              iommu_group: 3'
    )
    (tmp_path / "x.yaml").write_text(text)
    (problem,) = found(HOST, tmp_path / "x.yaml")
    assert (problem.place, problem.severity) == (f"{FIRST}.iommu_group", "warning")


def test_shares_that_are_not_set_up_are_said_to_be_so(tmp_path: Path) -> None:
    text = GPU.read_text().replace(
        "compute_nodes:\n",
        "compute_nodes:\n      - virtio_fs_mounts: [{tag: data, host_path: /srv, mount_point: /data}]\n"
        "        cpu_cores: 1\n        memory_gb: 1\n",
        1,
    )
    file = tmp_path / "gpu.yaml"
    file.write_text(text)
    (problem,) = [each for each in found(HOST, file) if "virtio_fs" in each.place]
    assert (problem.severity, "(data) are not set up" in problem.message) == ("warning", True)


def test_devices_are_skipped_on_request() -> None:
    assert found(replace(HOST, devices=None)) == ()


def test_a_cluster_on_another_host_is_not_held_against_this_one(tmp_path: Path) -> None:
    text = PASSTHROUGH.read_text().replace(
        "    network:", "    uri: qemu+ssh://root@other/system\n    network:", 1
    )
    (tmp_path / "x.yaml").write_text(text)
    (problem,) = found(replace(HOST, memory_mb=1, cpus=1, devices=()), tmp_path / "x.yaml")
    assert (problem.place, problem.severity) == (".clusters.hpc.uri", "warning")


def test_routes_are_read_from_iproute2() -> None:
    output = [
        {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"},
        {"dst": "192.0.2.0/24", "dev": "eth0", "protocol": "kernel", "scope": "link"},
        {"dst": "198.51.100.7", "gateway": "192.0.2.9", "dev": "eth0"},
        {"type": "blackhole", "dst": "10.0.0.0/8", "flags": []},
    ]
    assert validate.parse_routes(json.dumps(output)) == (
        Route(IPv4Network("192.0.2.0/24"), "eth0"),
        Route(IPv4Network("198.51.100.7/32"), "eth0", "192.0.2.9"),
        Route(IPv4Network("10.0.0.0/8"), ""),
    )
    assert validate.parse_routes("") == ()


@pytest.mark.parametrize("output", ["{", '{"dst": 1}', '[{"dev": "eth0"}]', '[{"dst": "unknown"}]'])
def test_output_that_is_no_list_of_routes(output: str) -> None:
    with pytest.raises(HpcstateError):
        validate.parse_routes(output)


def test_memory_is_read_from_proc() -> None:
    assert validate.parse_memory("MemTotal:       24634848 kB\nMemFree: 1 kB\n") == 24057
    with pytest.raises(HpcstateError):
        validate.parse_memory("")


def test_the_real_host_can_be_looked_at() -> None:
    host = validate.host_state()
    assert host.memory_mb > 100
    assert host.cpus >= 1
    assert host.devices is not None
    assert validate.host_state(pcie_devices=False).devices is None


def sysfs(root: Path) -> Path:
    """A tree like /sys with DEVICES in it."""
    for device in DEVICES:
        folder = root / "bus" / "pci" / "devices" / device.address
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(f"0x{device.vendor_id}\n")
        (folder / "device").write_text(f"0x{device.device_id}\n")
        (folder / "class").write_text(f"0x{device.class_code:06x}\n")
        (folder / "driver").symlink_to(f"../../../../bus/pci/drivers/{device.driver}")
        if device.address != "0000:07:00.0":
            (folder / "iommu_group").symlink_to(f"../../../../kernel/iommu_groups/{device.iommu_group}")
    return root


def test_devices_are_read_from_sysfs(tmp_path: Path) -> None:
    expected = with_device(HOST, "0000:07:00.0", iommu_group=None).devices
    assert pcie.read_devices(sysfs(tmp_path)) == expected
    assert [device.is_display for device in DEVICES] == [False, True, False, True, False]
    assert pcie.read_devices(tmp_path / "none") == ()


def test_a_device_that_cannot_be_read(tmp_path: Path) -> None:
    (sysfs(tmp_path) / "bus/pci/devices/0000:01:00.0/vendor").write_text("what\n")
    with pytest.raises(HpcstateError, match=r"0000:01:00\.0"):
        pcie.read_devices(tmp_path)


def _line(file: Path, words: str) -> int:
    return next(number for number, line in enumerate(file.read_text().splitlines(), 1) if words in line)
