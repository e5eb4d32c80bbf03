"""What people met on real machines gets the same right answer from inventory, init, validate and vfio."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcstate import schema
from hpcstate.errors import HpcstateError
from hpcstate.hypervisor.first_file import HostSize, first_file
from hpcstate.passthrough import kinds
from hpcstate.passthrough import request as pcie_request
from hpcstate.passthrough import verdict as pcie
from hpcstate.passthrough.report import as_text
from hpcstate.passthrough.verdict import PciHost, State, verdict
from operations.vfio import refusal
from tests.unit import field_machines as field
from tests.unit.pci_hosts import device, host

SIZE = HostSize("ws1", cpus=16, memory_mb=65536)
ALL = {
    "ZFS root": field.ZFS_ROOT,
    "ZFS root, untraced": field.ZFS_ROOT_UNTRACED,
    "raw disk": field.RAW_DISK,
    "SR-IOV": field.SRIOV,
    "HGX": field.HGX,
    "ISA bridge": field.ISA_BRIDGE,
    "MI300X": field.MI300X,
    "other makers": field.OTHER_MAKERS,
    "Grace": field.GRACE,
    "VMD": field.VMD,
    "two makers": field.TWO_MAKERS,
    "USB-C": field.USB_C,
    "rev ff": field.REV_FF,
    "no BAR1": field.NO_BAR1,
    "unassigned": field.UNASSIGNED,
    "vGPU host": field.VGPU_HOST,
    "A16": field.A16,
}


def written(host: PciHost) -> str:
    """What init writes for the host."""
    return first_file("local", "local.yaml", host, SIZE)


def given(text: str) -> list[str]:
    """The addresses that a cluster file gives to nodes."""
    (cluster,) = schema.parse(text, Path("local.yaml")).clusters
    return [device.pci_address for node in cluster.nodes for device in node.passthrough]


def asked_for(host: PciHost, *addresses: str, kind: str = "", more: str = "") -> list[str]:
    """What validate says of a file that gives these devices to one node: its errors."""
    devices = []
    for address in addresses:
        declared = kind or kinds.kind_of(host.devices[address])
        devices.append(f'          - {{pci_address: "{address}", device_type: {declared}{more}}}')
    text = (
        "clusters:\n  hpc:\n    name: a\n    network: {subnet: 192.168.150.0/24}\n    controller: {}\n"
        "    compute_nodes:\n    - pcie_passthrough:\n        enabled: true\n        devices:\n"
        + "\n".join(devices)
    )
    description = schema.parse(text, Path("a.yaml"))
    return [
        found.message for found in pcie_request.findings(description.clusters, host) if not found.is_warning
    ]


@pytest.mark.parametrize("name", ALL)
def test_what_init_writes_is_what_validate_and_vfio_allow(name: str) -> None:
    text = written(ALL[name])
    description = schema.parse(text, Path("local.yaml"))
    assert [
        problem
        for problem in pcie_request.findings(description.clusters, ALL[name])
        if not problem.is_warning
    ] == []
    assert refusal(ALL[name], given(text)) == ""


@pytest.mark.parametrize("name", ALL)
def test_what_inventory_calls_blocked_is_refused_by_validate_and_vfio(name: str) -> None:
    host = ALL[name]
    for judged in pcie.verdicts(host, everything=True):
        together = (judged.address, *judged.companions)
        if judged.state is State.BLOCKED:
            assert judged.address not in given(written(host))
            assert refusal(host, together)
            # The schema knows no such domain.
            if "VMD: none is given away" not in " ".join(judged.reasons):
                assert asked_for(host, *together, kind="other")
        else:
            assert refusal(host, together) == ""


def test_a_disk_of_the_host_in_the_group_of_a_gpu_keeps_it_here() -> None:
    found = verdict(field.ZFS_ROOT, "0000:05:00.0")
    assert found.state is State.BLOCKED
    assert "0000:06:00.0 is the host's own: in the ZFS pool rpool" in found.reasons
    assert given(written(field.ZFS_ROOT)) == []
    assert "in the ZFS pool rpool" in written(field.ZFS_ROOT)
    assert "in the ZFS pool rpool" in refusal(field.ZFS_ROOT, ["0000:05:00.0", "0000:05:00.1"])


def test_a_use_that_cannot_be_traced_counts_for_each_device_of_its_kind() -> None:
    host = field.ZFS_ROOT_UNTRACED
    found = verdict(host, "0000:05:00.0")
    assert found.state is State.BLOCKED
    assert "0000:06:00.0 may be the host's own: / cannot be traced to a device" in found.reasons
    assert "0000:02:00.1 may be the host's own: / cannot be traced to a device" in found.reasons
    assert "0000:04:00.0 may be the host's own: /home cannot be traced to a device" in found.reasons
    assert any("in_use: false" in step for step in found.steps)
    together = (found.address, *found.companions)
    assert any("may be the host's own" in said for said in asked_for(host, *together))
    assert asked_for(host, *together, more=", in_use: false") == []
    assert refusal(host, together, unused=together) == ""


def test_what_the_file_says_of_a_known_use_counts_for_nothing() -> None:
    together = ("0000:05:00.0", *pcie.companions(field.ZFS_ROOT, "0000:05:00.0"))
    assert any("ZFS pool" in said for said in asked_for(field.ZFS_ROOT, *together, more=", in_use: false"))


def test_the_boot_display_goes_only_where_the_file_says_so() -> None:
    """One graphics card and no screen: everybody says no, until the file says that it may go."""
    alone = field.machine("0000:01:00.0 030000 10de:1c82 nouveau 1 boot_vga")
    assert verdict(alone, "0000:01:00.0").state is State.BLOCKED
    assert "boots with" in asked_for(alone, "0000:01:00.0", more=", gres_type: a")[0]
    assert "boots with" in refusal(alone, ["0000:01:00.0"])
    assert asked_for(alone, "0000:01:00.0", more=", gres_type: a, in_use: false") == []
    assert refusal(alone, ["0000:01:00.0"], unused=["0000:01:00.0"]) == ""


def test_a_disk_that_a_program_has_open_keeps_its_group_here() -> None:
    """A guest of somebody's with the whole disk: nothing is mounted, and its data would go all the same."""
    found = verdict(field.RAW_DISK, "0000:05:00.0")
    assert found.state is State.BLOCKED
    reason = "0000:06:00.0 is the host's own: a disk that qemu-system-x86[77] has open"
    assert reason in found.reasons
    assert any("virsh shutdown" in step for step in found.steps)
    assert given(written(field.RAW_DISK)) == []
    together = (found.address, *found.companions)
    assert any(reason in said for said in asked_for(field.RAW_DISK, *together, more=", in_use: false"))
    assert reason in refusal(field.RAW_DISK, together)


@pytest.mark.parametrize(
    ("class_code", "untraced", "blocked"),
    [("0c0400", "storage", True), ("0c0600", "network", True), ("0c0400", "network", False)],
)
def test_an_untraced_use_may_be_on_a_fabric(class_code: str, untraced: str, blocked: bool) -> None:
    """Fibre Channel and InfiniBand have classes of their own, beside those of disks and cards."""
    host = field.machine(f"0000:02:00.0 {class_code} 1077:2532 qla2xxx 1", untraced={untraced: ["/"]})
    assert (verdict(host, "0000:02:00.0").state is State.BLOCKED) is blocked


def test_a_virtual_function_goes_alone_and_its_maker_stays() -> None:
    for address in ("0000:00:02.1", "0000:00:02.2"):
        found = verdict(field.SRIOV, address)
        assert (found.state, found.companions) == (State.READY, ())
        assert refusal(field.SRIOV, [address]) == ""
    found = verdict(field.SRIOV, "0000:00:02.0")
    assert found.state is State.BLOCKED
    assert "0000:00:02.0 has virtual functions: 0000:00:02.1, 0000:00:02.2" in found.reasons
    both = asked_for(field.SRIOV, "0000:00:02.0", "0000:00:02.1", kind="other")
    assert any("has virtual functions" in said for said in both)


def test_nvswitches_are_seen_and_go_together_or_not_at_all() -> None:
    everything = as_text(field.HGX, everything=True)
    assert all(switch in everything for switch in field.NVSWITCHES)
    for switch in field.NVSWITCHES:
        assert set(verdict(field.HGX, switch).companions) == set(field.NVSWITCHES) - {switch}
    assert "must go together" in refusal(field.HGX, field.NVSWITCHES[:1])
    assert refusal(field.HGX, field.NVSWITCHES) == ""
    assert asked_for(field.HGX, field.NVSWITCHES[0])
    assert asked_for(field.HGX, *field.NVSWITCHES) == []
    assert "NVLink between GPUs in a guest needs the NVSwitches there too" in as_text(
        field.HGX, everything=False
    )


def test_gpus_of_a_fabric_without_its_switches_are_warned_of() -> None:
    def warned(*addresses: str) -> list[str]:
        text = (
            "clusters:\n  hpc:\n    name: a\n    network: {subnet: 192.168.150.0/24}\n    controller: {}\n"
            "    compute_nodes:\n    - pcie_passthrough:\n        enabled: true\n        devices:\n"
        )
        types = {address: kinds.kind_of(field.HGX.devices[address]) for address in addresses}
        text += "\n".join(
            f"        - {{pci_address: '{a}', device_type: {kind}}}" for a, kind in types.items()
        )
        found = pcie_request.findings(schema.parse(text, Path("a.yaml")).clusters, field.HGX)
        return [problem.message for problem in found if problem.is_warning]

    (said,) = warned("0000:1a:00.0", "0000:3d:00.0")
    assert "CUDA programs fail with error 802" in said
    assert warned("0000:1a:00.0", "0000:3d:00.0", *field.NVSWITCHES) == []


def test_an_isa_bridge_with_a_driver_spoils_its_group() -> None:
    found = verdict(field.ISA_BRIDGE, "0000:00:1f.3")
    assert found.state is State.BLOCKED
    assert "0000:00:1f.0 of its group stays with the host and has the driver lpc_ich" in found.reasons


def test_accelerators_are_gpus_and_the_screen_of_a_bmc_is_none() -> None:
    assert [judged.address for judged in pcie.verdicts(field.MI300X)] == ["0000:05:00.0", "0000:26:00.0"]
    text = written(field.MI300X)
    assert given(text) == []
    assert "hpcstate deploys NVIDIA's driver and no other yet" in text


def test_gpus_of_other_makers_are_refused_as_gres_before_anything_is_built() -> None:
    assert given(written(field.OTHER_MAKERS)) == []
    for address in field.OTHER_MAKERS.devices:
        said = asked_for(field.OTHER_MAKERS, address)
        assert any("does not become a GPU of Slurm" in line for line in said)
        assert asked_for(field.OTHER_MAKERS, address, kind="other") == []


def test_a_gpu_of_another_maker_in_the_group_goes_along_as_other() -> None:
    text = written(field.TWO_MAKERS)
    assert given(text) == ["0000:05:00.0", "0000:06:00.0"]
    assert text.count("device_type: gpu") == 1
    assert "device_type: other" in pcie.yaml_of(field.TWO_MAKERS, "0000:06:00.0")


def test_a_variant_driver_of_vfio_is_ready() -> None:
    assert verdict(field.GRACE, "0008:01:00.0").state is State.READY
    assert given(written(field.GRACE)) == ["0008:01:00.0"]


def test_a_domain_that_libvirt_cannot_name_is_left_out_with_a_word() -> None:
    text = written(field.VMD)
    assert given(text) == []
    assert "10000:01:00.0" in text
    assert "VMD: none is given away" in text
    with pytest.raises(HpcstateError, match="from behind Intel's VMD") as refused:
        asked_for(field.VMD, "10000:01:00.0")
    assert "VMD off" in str(refused.value)


@pytest.mark.parametrize(
    ("driver", "header_type", "class_code", "viable"),
    [
        ("", 0, "030000", True),
        ("vfio-pci", 0, "030000", True),
        ("nvgrace-gpu-vfio-pci", 0, "030200", True),
        ("mlx5_vfio_pci", 0, "020000", True),
        ("pci-stub", 0, "040300", True),
        ("pcieport", 1, "060400", True),
        ("yenta_cardbus", 2, "060700", False),
        ("shpchp", 1, "060400", False),
        ("", 1, "060400", True),
        ("lpc_ich", 0, "060100", False),
        ("nouveau", 0, "030000", False),
        ("nvidia-nvswitch", 0, "068000", False),
        ("pcieport", -1, "060400", True),
        ("lpc_ich", -1, "060100", False),
    ],
)
def test_the_kernels_rule(driver: str, header_type: int, class_code: str, viable: bool) -> None:
    found = device("0000:01:00.0", "1234:1111", class_code, driver, header_type=header_type)
    assert kinds.spoils_group(found) is not viable


def card(ids: str, *methods: str, functions: int = 1, class_code: str = "030000") -> PciHost:
    """One card with these ways to be reset."""
    parts = [
        device(f"0000:01:00.{number}", ids, class_code, "vfio-pci", reset_methods=list(methods))
        for number in range(functions)
    ]
    return host(parts, {1: [part["address"] for part in parts]})


@pytest.mark.parametrize(
    ("on", "note"),
    [
        # gnif/vendor-reset#46, and its README
        (card("1002:67df", "bus"), "Polaris 10"),
        (card("1002:687f", "bus", "pm"), "Vega 10"),
        (card("1002:731f", functions=2), "Navi 10"),
        (card("1002:731f", "device_specific", "bus", functions=2), ""),
        (card("1002:73bf", "bus"), ""),
        (card("10de:731f", "bus"), ""),
        (card("1002:74a5"), "no way to be reset"),
        (card("10de:2330"), "no way to be reset"),
        (card("10de:2805", functions=2), ""),
        (card("1002:67df", class_code="040300"), "no way to be reset"),
    ],
)
def test_what_a_reset_does_not_bring_back_is_said(on: PciHost, note: str) -> None:
    said = pcie.reset_note(on, "0000:01:00.0")
    assert bool(said) == bool(note)
    assert note in said
    found = verdict(on, "0000:01:00.0")
    if kinds.is_gpu(on.devices["0000:01:00.0"]):
        assert (said in found.notes) == bool(said)
        assert found.state is State.READY
        assert said in as_text(on, everything=False)
    (cluster,) = schema.parse(
        "clusters:\n  hpc:\n    name: a\n    network: {subnet: 192.168.150.0/24}\n    controller: {}\n"
        "    compute_nodes:\n    - pcie_passthrough:\n        enabled: true\n        devices:\n"
        + "\n".join(f"        - {{pci_address: '{a}', device_type: other}}" for a in on.devices),
        Path("a.yaml"),
    ).clusters
    warned = [problem for problem in pcie_request.findings([cluster], on) if problem.message == said]
    assert [problem.severity for problem in warned] == (["warning"] if said else [])


@pytest.mark.parametrize(
    ("on", "address", "reason", "step"),
    [
        (field.REV_FF, "0000:01:00.0", "does not answer on the bus (rev ff)", "power the host off"),
        (field.NO_BAR1, "0000:41:00.0", "no address for its memory (BAR1)", "Above 4G Decoding"),
        (field.UNASSIGNED, "0000:41:00.0", "a region of 32 GiB without an address", "Above 4G Decoding"),
        (field.VGPU_HOST, "0000:41:00.4", "vGPU software", "echo 0 >/sys/bus/pci/devices/0000:41:00.0/sriov"),
        (
            field.VGPU_HOST,
            "0000:41:00.0",
            "has virtual functions",
            "echo 0 >/sys/bus/pci/devices/0000:41:00.0",
        ),
    ],
)
def test_what_no_guest_could_start_stays(on: PciHost, address: str, reason: str, step: str) -> None:
    found = verdict(on, address)
    assert found.state is State.BLOCKED
    assert any(reason in said for said in found.reasons)
    assert [step in said for said in found.steps] == [True] * len(found.steps)
    assert given(written(on)) == []
    assert any(reason in message for message in asked_for(on, address, *found.companions))


def test_a_dead_card_is_no_bridge() -> None:
    """Its sound goes along with it as before: 0x7F is no header type of a bridge."""
    assert pcie.companions(field.REV_FF, "0000:01:00.0") == pcie.companions(field.USB_C, "0000:01:00.0")


@pytest.mark.parametrize(
    ("on", "address", "along"),
    [
        (field.USB_C, "0000:01:00.0", ("0000:01:00.1", "0000:01:00.2", "0000:01:00.3")),
        (field.A16, "0000:c3:00.0", ("0000:c4:00.0",)),
    ],
)
def test_cards_of_several_functions_and_gpus_go_whole(
    on: PciHost, address: str, along: tuple[str, ...]
) -> None:
    found = verdict(on, address)
    assert (found.state, found.companions) == (State.BIND, along)
    assert set(given(written(on))) == {address, *along}
