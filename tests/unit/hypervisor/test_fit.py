"""A cluster file against a host. The hosts here are made up; one test looks at the real one."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from hpcstate import paths, schema
from hpcstate.errors import HpcstateError, Problem
from hpcstate.hypervisor import fit as validate
from hpcstate.hypervisor.fit import HostHardware, HostState, read_head
from hpcstate.hypervisor.fit_host import HostAccess, virtiofsd_missing
from hpcstate.hypervisor.routes import ROUTES, Route, parse_routes
from hpcstate.passthrough.verdict import PciHost
from hpcstate.probe.cpus import HostCell
from hpcstate.probe.hugepages import Hugepages
from tests.unit.pci_hosts import DEVICES, GROUPS, WORKSTATION, device, host
from tests.unit.pci_hosts import GPU as GPU_DEVICE

PASSTHROUGH = paths.ROOT / "inventories" / "passthrough.yaml"
GPU = paths.ROOT / "inventories" / "gpu.yaml"
FIRST = ".clusters.hpc.compute_nodes[0].pcie_passthrough.devices[0]"

HARDWARE = HostHardware(
    hugepages={"2M": Hugepages(total=0, free=0)},
    cells=(HostCell(0, tuple((cpu,) for cpu in range(32))),),
    numa_nodes={},
    head=lambda _path: b"\x55\xaa",
)
HOST = HostState(
    routes=(Route(IPv4Network("192.0.2.0/24"), "eth0"),),
    memory_mb=64 * 1024,
    cpus=32,
    pci=WORKSTATION,
    hardware=HARDWARE,
    exists=lambda path: path.name in ("hpc-base", "cloud-base"),
)


def found(host: HostState, file: Path = PASSTHROUGH) -> tuple[Problem, ...]:
    """The findings about ``file`` on ``host``."""
    return validate.host_findings(schema.load(file), host)


def on(pci: PciHost) -> HostState:
    """The same host with other PCI devices."""
    return replace(HOST, pci=pci)


def changed(address: str, **changes: object) -> HostState:
    """The host with one of its devices changed."""
    return on(host([{**d, **changes} if d["address"] == address else d for d in DEVICES], GROUPS))  # type: ignore[typeddict-item]


def test_a_host_that_has_everything_has_no_findings() -> None:
    assert found(HOST) == ()


@pytest.mark.parametrize(
    ("route", "severity"),
    [
        (Route(IPv4Network("192.168.152.0/24"), "eth1"), "error"),
        (Route(IPv4Network("192.168.152.64/26"), "wlan0", "192.168.0.1"), "error"),
        (Route(IPv4Network("192.168.0.0/16"), "eth1"), "warning"),
        # A VPN: halves of everything, and a table of its own.
        (Route(IPv4Network("128.0.0.0/1"), "tun0"), "warning"),
        (Route(IPv4Network("192.168.0.0/16"), "wg0", table="51820"), "warning"),
        (Route(IPv4Network("192.168.152.0/24"), "wg0", table="51820"), "error"),
        (Route(IPv4Network("192.168.152.128/25"), "wg0", table="51820"), "error"),
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
    problems = found(on(host([d for d in DEVICES if d["address"] != "0000:07:00.1"], GROUPS)))
    (problem,) = problems
    assert problem.place == ".clusters.hpc.compute_nodes[1].pcie_passthrough.devices[1].pci_address"
    assert (problem.severity, problem.line) == ("error", _line(PASSTHROUGH, '"0000:07:00.1"'))


def test_a_device_that_moved_is_found_where_it_is() -> None:
    moved = {**GPU_DEVICE, "address": "0000:09:00.0"}
    problems = found(on(host([*(d for d in DEVICES if d != GPU_DEVICE), moved], GROUPS)))  # type: ignore[list-item]
    assert "10de:2805 is at 0000:09:00.0" in [problem.hint for problem in problems]


def test_a_device_that_is_another() -> None:
    (problem,) = found(changed("0000:01:00.0", device="1b80"))
    assert (problem.place, problem.severity) == (f"{FIRST}.device_id", "error")
    assert "10de:1b80" in problem.message


def test_a_device_of_another_kind() -> None:
    (problem,) = found(changed("0000:01:00.0", class_code="020000"))
    assert (problem.place, problem.severity) == (f"{FIRST}.device_type", "error")
    assert "is of the kind network, not gpu" in problem.message


def test_a_host_without_iommu() -> None:
    problems = found(on(host(DEVICES, {}, arguments={})))
    assert {problem.severity for problem in problems} == {"error"}
    assert len(problems) == 4
    assert "the IOMMU is off" in problems[0].message
    assert "enable VT-d" in problems[0].hint


def test_a_group_must_be_given_as_a_whole_but_for_bridges() -> None:
    card = device("0000:02:00.0", "8086:1533", "020000", "igb")
    problems = found(on(host([*DEVICES, card], {**GROUPS, 12: [*GROUPS[12], "0000:02:00.0"]})))
    assert {problem.place for problem in problems} == {
        f"{FIRST}.pci_address",
        FIRST.replace("devices[0]", "devices[1]") + ".pci_address",
    }
    assert all(
        "must go together with 0000:02:00.0 (8086:1533) (IOMMU group 12)" in p.message for p in problems
    )
    assert all('- pci_address: "0000:02:00.0"' in problem.hint for problem in problems)


def test_the_hosts_own_root_disk_and_its_display_are_refused() -> None:
    (problem,) = found(changed("0000:01:00.0", boot_vga=True))
    assert (problem.severity, "the display it boots with" in problem.message) == ("error", True)
    assert "in_use: false" in problem.hint
    (problem,) = found(on(host(DEVICES, GROUPS, uses={"0000:01:00.1": ["mounted at /"]})))
    assert (problem.severity, problem.place) == (
        "error",
        FIRST.replace("devices[0]", "devices[1]") + ".pci_address",
    )


def test_a_group_with_another_number_is_a_warning(tmp_path: Path) -> None:
    text = PASSTHROUGH.read_text().replace(
        'device_id: "2805"', 'device_id: "2805"\n              iommu_group: 3'
    )
    (tmp_path / "x.yaml").write_text(text)
    (problem,) = found(HOST, tmp_path / "x.yaml")
    assert (problem.place, problem.severity) == (f"{FIRST}.iommu_group", "warning")


SHARED = "      - virtio_fs_mounts: [{tag: data, host_path: /srv/x, mount_point: /data%s}]\n"


def sharing(tmp_path: Path, more: str = "", path: str = "/srv/x") -> Path:
    """The shipped file, with a folder for one node more."""
    entry = (SHARED % more).replace("/srv/x", path) + "        cpu_cores: 1\n        memory_gb: 1\n"
    file = tmp_path / "gpu.yaml"
    file.write_text(GPU.read_text().replace("compute_nodes:\n", f"compute_nodes:\n{entry}", 1))
    return file


def about_shares(host: HostState, file: Path) -> list[Problem]:
    return [problem for problem in found(host, file) if "virtio_fs" in problem.place]


def test_a_folder_that_is_to_be_shared_must_be_there(tmp_path: Path) -> None:
    (problem,) = about_shares(HOST, sharing(tmp_path))
    assert (problem.severity, problem.message) == ("error", "there is no folder /srv/x on this host")
    there = replace(HOST, exists=lambda _: True)
    assert about_shares(there, sharing(tmp_path)) == []


def test_the_folder_of_the_homes_must_be_there_and_is_told_once(tmp_path: Path) -> None:
    file = tmp_path / "gpu.yaml"
    more = "    storage: {home: virtio_fs, home_path: /srv/homes}\n    controller:\n"
    file.write_text(GPU.read_text().replace("    controller:\n", more, 1))
    (problem,) = [problem for problem in found(HOST, file) if "storage" in problem.place]
    assert problem.place == ".clusters.hpc.storage.home_path"
    assert problem.message == "there is no folder /srv/homes on this host"


def test_a_folder_with_the_keys_of_the_cluster_is_warned_of(tmp_path: Path) -> None:
    there = replace(HOST, exists=lambda _: True)
    for more, said in (("", "may change the programs"), (", readonly: true", "reads the keys")):
        (problem,) = about_shares(there, sharing(tmp_path, more, str(paths.ROOT)))
        assert problem.severity == "warning" and said in problem.message
    assert "may change" not in problem.message


@pytest.mark.parametrize(
    ("access", "more", "words"),
    [
        (HostAccess(virtiofsd="this host has no virtiofsd"), "", "this host has no virtiofsd"),
        (HostAccess(libvirt_version=9_000_000), ", readonly: true", "libvirt 9.0 of this host cannot share"),
    ],
)
def test_a_host_that_cannot_share_folders(access: HostAccess, more: str, words: str, tmp_path: Path) -> None:
    there = replace(HOST, exists=lambda _: True, access=access)
    (problem,) = about_shares(there, sharing(tmp_path, more))
    assert problem.severity == "error" and words in problem.message and problem.hint


@pytest.mark.parametrize("version", [11_003_000, None])
def test_a_libvirt_that_keeps_folders_read_only(version: int | None, tmp_path: Path) -> None:
    there = replace(HOST, exists=lambda _: True, access=HostAccess(libvirt_version=version))
    assert about_shares(there, sharing(tmp_path, ", readonly: true")) == []
    old = replace(there, access=HostAccess(libvirt_version=9_000_000))
    assert about_shares(old, sharing(tmp_path)) == []


def test_where_libvirt_finds_virtiofsd(tmp_path: Path) -> None:
    """50-qemu-virtiofsd.json is that of qemu-system-common 7.2 (Debian 12)."""
    assert virtiofsd_missing(root=tmp_path) == "this host has no virtiofsd"
    folder = tmp_path / "usr/share/qemu/vhost-user"
    folder.mkdir(parents=True)
    (folder / "10-broken.json").write_text("{")
    (folder / "20-gpu.json").write_text('{"type": "gpu", "binary": "/bin/sh"}')
    (folder / "50-qemu-virtiofsd.json").write_text(
        '{\n  "description": "QEMU virtiofsd vhost-user-fs",\n  "type": "fs",\n'
        '  "binary": "/usr/lib/qemu/virtiofsd"\n}\n'
    )
    assert virtiofsd_missing(root=tmp_path) == "/usr/lib/qemu/virtiofsd is not there"
    binary = tmp_path / "usr/lib/qemu/virtiofsd"
    binary.parent.mkdir(parents=True)
    binary.touch(mode=0o755)
    assert virtiofsd_missing(root=tmp_path) == ""


def test_devices_are_skipped_on_request() -> None:
    assert found(replace(HOST, pci=None)) == ()


def test_a_cluster_on_another_host_is_not_held_against_this_one(tmp_path: Path) -> None:
    text = PASSTHROUGH.read_text().replace(
        "    network:", "    uri: qemu+ssh://root@other/system\n    network:", 1
    )
    (tmp_path / "x.yaml").write_text(text)
    (problem,) = found(replace(HOST, memory_mb=1, cpus=1, pci=host((), {})), tmp_path / "x.yaml")
    assert (problem.place, problem.severity) == (".clusters.hpc.uri", "warning")


def test_routes_are_read_from_iproute2() -> None:
    output = [
        {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"},
        {"dst": "192.0.2.0/24", "dev": "eth0", "protocol": "kernel", "scope": "link"},
        {"dst": "198.51.100.7", "gateway": "192.0.2.9", "dev": "eth0"},
        {"type": "blackhole", "dst": "10.0.0.0/8", "flags": []},
    ]
    assert parse_routes(json.dumps(output)) == (
        Route(IPv4Network("192.0.2.0/24"), "eth0"),
        Route(IPv4Network("198.51.100.7/32"), "eth0", "192.0.2.9"),
        Route(IPv4Network("10.0.0.0/8"), "", kind="blackhole"),
    )
    assert parse_routes("") == ()


GIB = 2**30


def with_bars(count: int, gib: int, cpu_model: str, bits: int) -> list[Problem]:
    """What is said of a node with ``count`` GPUs of ``gib`` GiB each, on a host of ``bits`` address bits."""
    addresses = [f"0000:{10 + number}:00.0" for number in range(count)]
    gpus = [
        device(address, "10de:2330", "030200", bars=[16 * 2**20, gib * GIB, 32 * 2**20])
        for address in addresses
    ]
    devices = "\n".join(f"          - {{pci_address: '{a}', device_type: gpu}}" for a in addresses)
    text = (
        "clusters:\n  hpc:\n    name: a\n    network: {subnet: 192.168.150.0/24}\n    controller: {}\n"
        f"    hardware: {{acceleration: {{cpu_model: {cpu_model}}}}}\n"
        "    compute_nodes:\n    - pcie_passthrough:\n        enabled: true\n        devices:\n"
        f"{devices}\n"
    )
    here = replace(
        HOST,
        pci=host(gpus, {number: [address] for number, address in enumerate(addresses)}),
        hardware=replace(HARDWARE, address_bits=bits),
    )
    description = schema.parse(text, Path("a.yaml"))
    return [
        problem for problem in validate.host_findings(description, here) if "addresses" in problem.message
    ]


@pytest.mark.parametrize(
    ("count", "gib", "cpu_model", "bits", "hint"),
    [
        # kubevirt#11093, edk2#12997: 40 address bits have room for one of 256 GiB, or three of 128.
        (1, 256, "host-model", 46, None),
        (2, 256, "host-model", 46, "cpu_model: host-passthrough} gives it the 46 bits"),
        (3, 128, "host-model", 46, None),
        (4, 128, "host-model", 46, "host-passthrough"),
        (8, 128, "host-passthrough", 46, None),
        (4, 128, "host-passthrough", 0, "fewer"),
        (1, 256, "host-passthrough", 39, "fewer"),
        (1, 32, "host-passthrough", 39, None),
        (1, 1024, "host-model", 40, "fewer"),
    ],
)
def test_regions_of_devices_are_added_up(
    count: int, gib: int, cpu_model: str, bits: int, hint: str | None
) -> None:
    problems = with_bars(count, gib, cpu_model, bits)
    assert [problem.severity for problem in problems] == (["error"] if hint else [])
    assert all(hint in problem.hint for problem in problems if hint)


def test_address_bits_are_those_of_the_processor() -> None:
    text = "processor\t: 0\naddress sizes\t: 46 bits physical, 48 bits virtual\n\nprocessor\t: 1\n"
    assert validate.parse_address_bits(text) == 46
    assert validate.parse_address_bits("processor\t: 0\n") == 0


def test_routes_of_all_tables_are_read_and_addresses_of_the_host_are_none() -> None:
    """A VPN by policy routing: its routes are in no other listing (ip-route(8), show table all)."""
    output = [
        {"dst": "default", "dev": "wg0", "table": "51820"},
        {"dst": "192.168.0.0/16", "dev": "wg0", "table": "51820"},
        {"dst": "0.0.0.0/1", "dev": "tun0", "gateway": "10.8.0.1"},
        {"type": "unreachable", "dst": "10.0.0.0/8", "dev": "lo", "table": "220"},
        {"type": "local", "dst": "10.8.0.2", "dev": "tun0", "table": "local"},
        {"type": "broadcast", "dst": "192.168.150.255", "dev": "virbr0", "table": "local"},
        {"type": "multicast", "dst": "224.0.0.0/4", "dev": "eth0", "table": "local"},
    ]
    assert parse_routes(json.dumps(output)) == (
        Route(IPv4Network("0.0.0.0/0"), "wg0", table="51820"),
        Route(IPv4Network("192.168.0.0/16"), "wg0", table="51820"),
        Route(IPv4Network("0.0.0.0/1"), "tun0", "10.8.0.1"),
        Route(IPv4Network("10.0.0.0/8"), "lo", table="220", kind="unreachable"),
    )
    assert ROUTES[-3:] == ("show", "table", "all")


@pytest.mark.parametrize("output", ["{", '{"dst": 1}', '[{"dev": "eth0"}]', '[{"dst": "unknown"}]'])
def test_output_that_is_no_list_of_routes(output: str) -> None:
    with pytest.raises(HpcstateError):
        parse_routes(output)


def test_memory_is_read_from_proc() -> None:
    assert validate.parse_memory("MemTotal:       24634848 kB\nMemFree: 1 kB\n") == 24057
    with pytest.raises(HpcstateError):
        validate.parse_memory("")


def test_the_real_host_can_be_looked_at() -> None:
    host = validate.host_state()
    assert host.memory_mb > 100
    assert host.cpus >= 1
    assert host.pci is not None
    assert validate.host_state(pcie_devices=False).pci is None


def _line(file: Path, words: str) -> int:
    return next(number for number, line in enumerate(file.read_text().splitlines(), 1) if words in line)


def tuned(tmp_path: Path, tuning: str, device: str = "") -> Path:
    """A file that asks for ``tuning`` on the host, for a node of 2 CPUs and 4 GiB beside a head of 1."""
    devices = f"pcie_passthrough: {{enabled: true, devices: [{device}]}}" if device else "disk_gb: 20"
    file = tmp_path / "tuned.yaml"
    file.write_text(
        f"""
clusters:
  hpc:
    name: tuned
    network: {{subnet: 10.9.8.0/24, bridge: virbr9}}
    hardware: {{acceleration: {{performance: {tuning}}}}}
    controller: {{cpu_cores: 1, memory_gb: 2}}
    compute_nodes:
      - {{cpu_cores: 2, memory_gb: 4, {devices}}}
"""
    )
    return file


@pytest.mark.parametrize(
    ("size", "pages", "said"),
    [
        ("2M", {}, ("error", "need 3072 huge pages of 2M, this host has set 0 aside")),
        ("2M", {"2M": Hugepages(total=3071, free=3071)}, ("error", "has set 3071 aside")),
        ("2M", {"2M": Hugepages(total=3072, free=10)}, ("warning", "10 of 3072 are free")),
        ("2M", {"2M": Hugepages(total=3072, free=3072)}, None),
        ("1G", {"2M": Hugepages(total=3072, free=3072)}, ("error", "need 6 huge pages of 1G")),
        ("1G", {"1G": Hugepages(total=6, free=6)}, None),
    ],
)
def test_huge_pages_that_are_not_there_are_missed(
    tmp_path: Path, size: str, pages: dict[str, Hugepages], said: tuple[str, str] | None
) -> None:
    file = tuned(tmp_path, f"{{enable_hugepages: true, hugepage_size: {size}}}")
    problems = found(replace(HOST, hardware=replace(HARDWARE, hugepages=pages)), file)
    if said is None:
        assert problems == ()
        return
    (problem,) = problems
    assert problem.severity == said[0]
    assert said[1] in problem.message
    assert problem.place == ".clusters.hpc.hardware.acceleration"
    if problem.severity == "error":
        assert "deploys/hypervisor.py" in problem.hint
        assert ("a boot" in problem.hint) is (size == "1G")


def test_nodes_that_nobody_starts_need_no_pages(tmp_path: Path) -> None:
    file = tuned(tmp_path, "{enable_hugepages: true}")
    file.write_text(file.read_text().replace("disk_gb: 20", "auto_start: false"))
    (problem,) = found(HOST, file)
    assert "need 1024 huge pages" in problem.message


@pytest.mark.parametrize(("cores", "unpinned"), [(4, ""), (3, ""), (2, "controller"), (1, "compute-01")])
def test_too_few_cores_to_pin_to_is_a_warning(tmp_path: Path, cores: int, unpinned: str) -> None:
    cells = (HostCell(0, tuple((cpu,) for cpu in range(cores))),)
    host = replace(HOST, hardware=replace(HARDWARE, cells=cells))
    problems = found(host, tuned(tmp_path, "{cpu_pinning: true}"))
    assert [problem.severity for problem in problems] == ["warning"] * bool(unpinned)
    assert all(f"to pin {unpinned} to" in problem.message for problem in problems)
    assert found(host, tuned(tmp_path, "{cpu_pinning: false}")) == ()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x55\xaa\x40", None),
        (b"NVGI", "is no option ROM: it begins with 4e 56, not with 55 aa"),
        (b"", "it begins with nothing"),
        (None, "cannot be read: no such file or directory"),
    ],
)
def test_a_rom_file_must_be_an_option_rom(tmp_path: Path, content: bytes | None, said: str | None) -> None:
    rom = tmp_path / "gpu.rom"
    if content is not None:
        rom.write_bytes(content)
    gpu = f"{{pci_address: '0000:01:00.0', device_type: gpu, rom_file: '{rom}'}}"
    file = tuned(tmp_path, "{}", gpu + ", {pci_address: '0000:01:00.1', device_type: audio}")
    host = replace(HOST, hardware=replace(HARDWARE, head=read_head))
    problems = found(host, file)
    assert [problem.place for problem in problems] == [f"{FIRST}.rom_file"] * bool(said)
    assert all(said in problem.message and problem.severity == "error" for problem in problems if said)
    assert found(replace(host, pci=None), file) == ()
