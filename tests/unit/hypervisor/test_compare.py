"""What libvirt runs against what was rendered.

libvirt/running-with-devices.xml is what libvirt 11.3.0 with QEMU 10.0.13 (Debian 13) said of a node that ran
with a VGA and an e1000e by vfio, backed by huge pages, in a q35 guest with an IOMMU.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate import schema
from hpcstate.hypervisor import xml as libvirt_objects
from hpcstate.hypervisor.compare import differences, passed_through
from hpcstate.hypervisor.xml import HypervisorFacts
from tests.unit.hypervisor.test_placement import TWO_CELLS

RUNNING = (Path(__file__).parent / "libvirt" / "running-with-devices.xml").read_text()
FILE = """
clusters:
  hpc:
    name: guests
    network: {subnet: 192.168.77.0/24, bridge: virbr77}
    hardware: {acceleration: {performance: {PERFORMANCE}}}
    controller: {memory_gb: 0.5, auto_start: false}
    compute_nodes:
      - cpu_cores: 1
        memory_gb: 0.5
        pcie_passthrough:
          enabled: true
          devices:
            - {pci_address: "0000:03:00.0", device_type: gpuMORE}
            - {pci_address: "0000:03:00.1", device_type: network}
"""


def rendered(performance: str, more: str = "", host: HypervisorFacts | None = None) -> str:
    text = FILE.replace("PERFORMANCE", performance).replace("MORE", more)
    (cluster,) = schema.parse(text, Path("guests.yaml")).clusters
    return libvirt_objects.domain_xml(cluster, cluster.workers[0], host or HypervisorFacts(kvm=False))


PAGES = "enable_hugepages: true, hugepage_size: 2M"


def test_what_libvirt_runs_is_what_was_rendered() -> None:
    assert differences(rendered(PAGES), RUNNING) == []
    assert passed_through(RUNNING) == ["0000:03:00.0", "0000:03:00.1"]


@pytest.mark.parametrize(
    ("performance", "more", "said"),
    [
        ("enable_hugepages: false", "", ["huge pages: 2048 KiB instead of none"]),
        (PAGES, ", rom_bar: false", ["0000:03:00.0 ROM: none instead of bar=off"]),
        (PAGES, ", rom_file: /srv/gpu.rom", ["0000:03:00.0 ROM: none instead of file=/srv/gpu.rom"]),
        (PAGES, ", x_vga: true", ["0000:03:00.0 x-vga: none instead of true"]),
    ],
)
def test_each_difference_is_told(performance: str, more: str, said: list[str]) -> None:
    assert differences(rendered(performance, more), RUNNING) == said


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "slot='0x10'",
            "slot='0x11'",
            "0000:03:00.0 in the guest: 00.0 behind 00:11.0 instead of 00.0 behind",
        ),
        ("bus='0x03' slot='0x00' function='0x1'", "bus='0x04'", "0000:03:00.1 in the guest: none instead of"),
        (
            "bus='0x01' slot='0x00' function='0x1'",
            "bus='0x01' slot='0x00' function='0x2'",
            "0000:03:00.1 in the guest: 00.2 behind 00:10.0 instead of 00.1",
        ),
    ],
)
def test_a_device_in_another_place_is_told(old: str, new: str, said: str) -> None:
    assert old in RUNNING
    assert any(line.startswith(said) for line in differences(rendered(PAGES), RUNNING.replace(old, new)))


def test_pinning_is_compared() -> None:
    near = HypervisorFacts(True, TWO_CELLS, {"0000:03:00.0": 1})
    pinned = rendered("cpu_pinning: true", host=near)
    assert differences(pinned, pinned) == []
    elsewhere = rendered("cpu_pinning: true", host=replace(near, numa_nodes={}))
    assert differences(pinned, elsewhere) == [
        "CPU 0 pinned to: 1 instead of 2",
        "memory 0 on NUMA node: 0 instead of 1",
    ]
    assert "CPU 0 pinned to: none instead of 2" in differences(pinned, RUNNING)
