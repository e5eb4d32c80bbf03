"""libvirt's XML of whole nodes, compared with golden copies and judged by libvirt's own schemas.

Write the copies anew with ``HPCSTATE_GOLDEN=write pytest tests/render`` and read the diff.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from hpcstate import paths, schema
from hpcstate.hypervisor import xml as objects
from hpcstate.hypervisor.xml import HypervisorFacts
from hpcstate.model import Cluster
from hpcstate.probe.cpus import HostCell
from hpcstate.run import run
from tests.render.test_golden import GOLDEN, INVENTORIES, compare

KVM, TCG = HypervisorFacts(kvm=True), HypervisorFacts(kvm=False)


@dataclass(frozen=True)
class Case:
    """One compute node: its keys, the cluster's ``hardware.acceleration``, and the host it runs on; or the
    ``controller`` beside it."""

    node: str
    host: HypervisorFacts = KVM
    acceleration: str = "{}"
    controller: bool = False

    def cluster(self) -> Cluster:
        text = f"""
clusters:
  hpc:
    name: golden
    network: {{subnet: 10.1.2.0/24}}
    hardware: {{acceleration: {self.acceleration}}}
    controller: {{memory_gb: 4}}
    compute_nodes:
      - {self.node}
"""
        return schema.parse(text, Path("golden.yaml")).clusters[0]

    def xml(self) -> str:
        cluster = self.cluster()
        return objects.domain_xml(cluster, cluster.nodes[0 if self.controller else 1], self.host)


def passing(*devices: str, cpu_cores: int = 4) -> str:
    """A node that takes ``devices``, each an address and a type, and what is added to them."""
    listed = ", ".join(
        "{{pci_address: '{}', device_type: {}}}".format(*device.split(maxsplit=1)) for device in devices
    )
    return (
        f"{{cpu_cores: {cpu_cores}, memory_gb: 8, pcie_passthrough: {{enabled: true, devices: [{listed}]}}}}"
    )


GPU, AUDIO = "0000:01:00.0 gpu", "0000:01:00.1 audio"
CASES = {
    "plain-tcg": Case("{cpu_cores: 2}", TCG),
    "plain-kvm": Case("{cpu_cores: 2}"),
    "controller-tcg": Case("{cpu_cores: 2}", TCG, controller=True),
    "controller-kvm": Case("{cpu_cores: 2}", controller=True),
    "gpu-and-audio": Case(passing(GPU, AUDIO)),
    "gpu-and-audio-tcg": Case(passing(GPU, AUDIO), TCG),
    "two-gpus": Case(passing("0000:41:00.0 gpu", AUDIO, GPU, "0000:41:00.1 audio")),
    "function-1-only": Case(passing("0000:01:00.1 network")),
    "functions-1-and-3": Case(passing("0000:3b:02.3 network", "0000:3b:02.1 network")),
    "rom-and-x-vga": Case(
        passing(f"{GPU}, rom_file: '/srv/roms/a & \"b\".rom', x_vga: true", f"{AUDIO}, rom_bar: false")
    ),
}


TUNED = """{
  enable_nested: true, cpu_model: host-passthrough, cpu_features: ["+avx2", "-hle"],
  numa_topology: {nodes: 2}, cpu_topology: {sockets: 2, cores: 2, threads: 2},
  performance: {enable_hugepages: true, hugepage_size: 1G, cpu_pinning: true}}"""
# A host of two NUMA nodes with six cores of two threads each: 0 and 12 are one core.
TWO_SOCKETS = tuple(
    HostCell(cell, tuple((cpu, cpu + 12) for cpu in range(6 * cell, 6 * cell + 6))) for cell in (0, 1)
)
CASES |= {
    "tuned": Case(passing(GPU, AUDIO, cpu_cores=8), HypervisorFacts(True, TWO_SOCKETS), TUNED),
    "tuned-tcg": Case("{cpu_cores: 8, memory_gb: 8}", HypervisorFacts(False, TWO_SOCKETS), TUNED),
    "pinned": Case(
        "{cpu_cores: 6}", HypervisorFacts(True, TWO_SOCKETS), "{performance: {cpu_pinning: true}}"
    ),
    # The GPU is at the second socket: so are the cores and the memory, which are free at the first one too.
    "pinned-near-the-gpu": Case(
        passing(GPU, AUDIO),
        HypervisorFacts(True, TWO_SOCKETS, {"0000:01:00.0": 1, "0000:01:00.1": 1}),
        "{performance: {cpu_pinning: true, enable_hugepages: true}}",
    ),
}


def judge(xml: str, kind: str, folder: Path) -> None:
    """Have libvirt's schema of ``kind`` read ``xml``."""
    if not (shutil.which("virt-xml-validate") and shutil.which("xmllint")):
        pytest.fail("virt-xml-validate or xmllint is not installed: ./hpc test installs them")
    file = folder / f"{kind}.xml"
    file.write_text(xml, encoding="utf-8")
    result = run(["virt-xml-validate", str(file), kind], check=False)
    assert result.code == 0, result.stderr


def test_the_domains_are_the_golden_ones() -> None:
    compare(GOLDEN / "libvirt", {f"{name}.xml": case.xml() for name, case in CASES.items()})


@pytest.mark.parametrize("name", CASES)
def test_libvirt_accepts_each_golden_domain(name: str, tmp_path: Path) -> None:
    judge(CASES[name].xml(), "domain", tmp_path)


@pytest.mark.parametrize("inventory", INVENTORIES, ids=lambda path: path.stem)
def test_libvirt_accepts_what_the_inventories_become(inventory: Path, tmp_path: Path) -> None:
    for cluster in schema.load(inventory).clusters:
        judge(objects.network_xml(cluster), "network", tmp_path)
        judge(objects.pool_xml(cluster), "storagepool", tmp_path)
        for node in cluster.nodes:
            for host in (KVM, TCG):
                judge(objects.domain_xml(cluster, node, host), "domain", tmp_path)


def test_libvirt_accepts_a_network_of_the_site(tmp_path: Path) -> None:
    text = (
        "clusters: {hpc: {name: site, network: {subnet: 10.1.2.0/24, forward: bridge, bridge: br0, "
        "gateway: 10.1.2.1, dns_servers: [10.1.2.1]}, controller: {ip: 10.1.2.9}, "
        "compute_nodes: [{ip: 10.1.2.10}]}}\n"
    )
    judge(objects.network_xml(schema.parse(text, Path("site.yaml")).clusters[0]), "network", tmp_path)


@pytest.mark.parametrize("broken", ["<address type='pci' slot='0x20'/>", "<rom bar='perhaps'/>", "<color/>"])
def test_libvirt_refuses_a_broken_hostdev(broken: str, tmp_path: Path) -> None:
    xml = CASES["gpu-and-audio"].xml().replace("</hostdev>", f"{broken}</hostdev>", 1)
    with pytest.raises(AssertionError, match="fails to validate"):
        judge(xml, "domain", tmp_path)


def test_files_of_the_earlier_system_become_domains(tmp_path: Path) -> None:
    for file in sorted((paths.ROOT / "tests" / "unit" / "earlier").glob("*.yaml")):
        for cluster in schema.load(file).clusters:
            for node in cluster.nodes:
                judge(objects.domain_xml(cluster, node, KVM), "domain", tmp_path)
