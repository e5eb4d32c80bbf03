"""hpcstate init: what is written is read back, and fits the host it was written for."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from hpcstate import cli, schema
from hpcstate.errors import HpcstateError
from hpcstate.hypervisor.first_file import HostSize, first_file, gres_type
from hpcstate.model import Cluster
from hpcstate.passthrough import request as pcie_request
from hpcstate.passthrough.verdict import PciHost
from tests.unit.pci_hosts import AUDIO, BRIDGE, DEVICES, GPU, GROUPS, SECOND, SECOND_AUDIO, WORKSTATION, host

LARGE = HostSize("rack-1", cpus=32, memory_mb=128 * 1024)


def written(on: PciHost, size: HostSize = LARGE) -> tuple[str, Cluster]:
    text = first_file("local", "inventories/local.yaml", on, size)
    return text, schema.parse(text, Path("inventories/local.yaml")).clusters[0]


def test_each_gpu_is_a_node_with_its_whole_group() -> None:
    _, cluster = written(WORKSTATION)
    assert [[d.pci_address for d in node.passthrough] for node in cluster.workers] == [
        ["0000:01:00.0", "0000:01:00.1"],
        ["0000:07:00.0", "0000:07:00.1"],
    ]
    assert [node.gres for node in cluster.workers] == ["gpu:rtx4060ti16gb:1", "gpu:2504:1"]
    assert sum(node.cpu_cores for node in cluster.nodes) <= LARGE.cpus
    assert sum(node.memory_mb for node in cluster.nodes) < LARGE.memory_mb


def test_what_is_written_fits_the_host() -> None:
    _, cluster = written(WORKSTATION)
    assert not list(pcie_request.findings([cluster], WORKSTATION))


def test_gpus_of_one_group_are_one_node() -> None:
    together = host(DEVICES, {1: [d["address"] for d in DEVICES]})
    _, cluster = written(together)
    (node,) = cluster.workers
    assert len(node.passthrough) == 4
    assert len(node.gres_types) == 2


def test_blocked_gpus_stand_in_comments_with_the_reason() -> None:
    display = {**GPU, "boot_vga": True}
    text, cluster = written(host((BRIDGE, display, AUDIO, SECOND, SECOND_AUDIO), GROUPS))  # type: ignore[arg-type]
    assert [len(node.passthrough) for node in cluster.workers] == [2]
    assert "# Left out: 0000:01:00.0 (10de:2805 NVIDIA" in text
    assert "#   0000:01:00.0 is the host's own: the display it boots with" in text


def test_a_host_without_gpus_gets_simulated_ones() -> None:
    _, cluster = written(host((), {}), HostSize("laptop", cpus=2, memory_mb=8 * 1024))
    assert [node.gres for node in cluster.workers] == ["gpu:simulated:2"] * 2


def test_the_subnet_is_a_free_one() -> None:
    size = HostSize("h", 8, 32768, (IPv4Network("0.0.0.0/0"), IPv4Network("192.168.150.0/23")))
    assert str(written(WORKSTATION, size)[1].network.subnet) == "192.168.152.0/24"
    # Beside a VPN with all of it a network of our own works (workstation case 3); one that is free is better.
    for wide in ("192.168.0.0/16", "128.0.0.0/1"):
        vpn = HostSize("h", 8, 32768, (IPv4Network(wide), IPv4Network("192.168.150.0/24")))
        assert str(written(WORKSTATION, vpn)[1].network.subnet) == "192.168.151.0/24"
    with pytest.raises(HpcstateError, match="all overlap routes"):
        written(
            WORKSTATION, HostSize("h", 8, 32768, tuple(IPv4Network("192.168.0.0/16").subnets(new_prefix=24)))
        )


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("AD106 [GeForce RTX 4060 Ti 16GB]", "rtx4060ti16gb"),
        ("GH100 [H200 NVL]", "h200nvl"),
        ("GA100 [A100 PCIe 40GB]", "a100pcie40gb"),
        ("Virtual device", "1111"),
        ("[GeForce]", "1111"),
        ("", "1111"),
    ],
)
def test_gres_types_are_what_people_call_the_gpu(name: str, kind: str) -> None:
    assert gres_type(name, "1111") == kind


def test_the_command_writes_both_files_and_spares_those_that_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    assert cli.main(["init", str(file)]) == 0
    assert f"wrote {file}" in capsys.readouterr().out
    assert schema.load(file).clusters[0].name == "mine"
    assert "groups_beside" in file.with_suffix(".py").read_text()
    file.write_text("precious\n")
    assert cli.main(["init", str(file)]) == 2
    assert "hint: another name, or --force" in capsys.readouterr().err
    assert file.read_text() == "precious\n"
    assert cli.main(["init", str(tmp_path / "mine.txt")]) == 2
