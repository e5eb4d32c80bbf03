"""The solver, row by row: what goes along, what is in the way, what to do; and what the table says of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hpcstate.passthrough import kinds
from hpcstate.passthrough import report as pcie_report
from hpcstate.passthrough import verdict as pcie
from hpcstate.passthrough.verdict import PciHost, State, Verdict
from tests.unit.pci_hosts import AUDIO, BRIDGE, DEVICES, GPU, GROUPS, SECOND, WORKSTATION, device, host

NVME = device("0000:02:00.0", "144d:a80a", "010802", "nvme")
CARD = device("0000:03:00.0", "8086:1533", "020000", "igb")
IDLE_GPU = {**GPU, "driver": ""}
IDLE_AUDIO = {**AUDIO, "driver": "vfio-pci"}


def of_gpu(on: PciHost) -> Verdict:
    return pcie.verdict(on, GPU["address"])


def crowded(*others: object, **more: object) -> PciHost:
    """A host where ``others`` share the GPU's IOMMU group."""
    group = [*GROUPS[12], *(other["address"] for other in others)]  # type: ignore[index]
    return host((*DEVICES, *others), {**GROUPS, 12: group}, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("on", "state", "reason", "step"),
    [
        pytest.param(host((BRIDGE, IDLE_GPU, IDLE_AUDIO), GROUPS), State.READY, "", "", id="no driver"),  # type: ignore[arg-type]
        pytest.param(WORKSTATION, State.BIND, "0000:01:00.0 has the driver nvidia", "libvirt", id="drivers"),
        pytest.param(
            host(DEVICES, {}, arguments={}), State.BLOCKED, "the IOMMU is off", "enable VT-d", id="IOMMU off"
        ),
        pytest.param(
            host(DEVICES, {}, arguments={"amd_iommu": "off"}),
            State.BLOCKED,
            "amd_iommu=off on the kernel command line",
            "remove amd_iommu=off",
            id="IOMMU turned off",
        ),
        pytest.param(
            host(DEVICES, {}), State.BLOCKED, "asked for the IOMMU but found none", "firmware", id="no VT-d"
        ),
        pytest.param(
            host(DEVICES, {14: GROUPS[14]}), State.BLOCKED, "in no IOMMU group, though", "", id="not covered"
        ),
        pytest.param(
            host((BRIDGE, {**GPU, "boot_vga": True}, AUDIO), GROUPS),
            State.BLOCKED,
            "0000:01:00.0 is the host's own: the display it boots with",
            "",
            id="display",
        ),
        pytest.param(
            crowded(NVME, uses={NVME["address"]: ["mounted at /"]}),
            State.BLOCKED,
            "0000:02:00.0 is the host's own: mounted at /",
            "no ACS",
            id="root disk in the group",
        ),
        pytest.param(
            crowded(NVME, uses={NVME["address"]: ["a disk below dm-3"]}),
            State.BLOCKED,
            "0000:02:00.0 is the host's own: a disk below dm-3",
            "vgchange -an",
            id="disk below LVM in the group",
        ),
        pytest.param(
            crowded(CARD, uses={CARD["address"]: ["default route by eno1"]}),
            State.BLOCKED,
            "default route by eno1",
            "another slot",
            id="network card in the group",
        ),
        pytest.param(
            host(DEVICES, GROUPS, held={AUDIO["address"]: "cloud-worker-01"}),
            State.BLOCKED,
            "0000:01:00.1 is held by cloud-worker-01, which runs",
            "stop cloud-worker-01",
            id="held by a guest",
        ),
    ],
)
def test_verdicts(on: PciHost, state: State, reason: str, step: str) -> None:
    verdict = of_gpu(on)
    assert verdict.state is state
    assert reason in "; ".join(verdict.reasons)
    assert step in "; ".join(verdict.steps)


def test_the_group_goes_along_but_for_bridges() -> None:
    assert of_gpu(WORKSTATION).companions == ("0000:01:00.1",)
    assert of_gpu(crowded(CARD)).companions == ("0000:01:00.1", "0000:03:00.0")


def test_all_functions_of_a_slot_go_along_even_from_other_groups() -> None:
    split = host(DEVICES, {12: ["0000:01:00.0"], 13: ["0000:01:00.1"]})
    assert of_gpu(split).companions == ("0000:01:00.1",)


def test_only_gpus_are_judged_unless_everything_is_asked_for() -> None:
    assert [v.address for v in pcie.verdicts(WORKSTATION)] == ["0000:01:00.0", "0000:07:00.0"]
    everything = [v.address for v in pcie.verdicts(WORKSTATION, everything=True)]
    assert everything == ["0000:01:00.0", "0000:01:00.1", "0000:07:00.0", "0000:07:00.1"]


@pytest.mark.parametrize(
    ("class_code", "kind"),
    [
        ("030200", "gpu"),
        ("040300", "audio"),
        ("0c0330", "other"),
        ("020000", "network"),
        ("010802", "storage"),
    ],
)
def test_kinds(class_code: str, kind: str) -> None:
    assert kinds.kind_of(device("0000:00:00.0", "0000:0000", class_code)) == kind


def test_names_with_quotes_are_quoted_in_yaml() -> None:
    strange = {**SECOND, "device_name": 'a "b" \\c'}
    yaml = pcie.yaml_of(host((strange,), {}), SECOND["address"])  # type: ignore[arg-type]
    assert r'description: "a \"b\" \\c"' in yaml


def test_the_table_says_why_and_what_to_do() -> None:
    blocked = replace(WORKSTATION, held={GPU["address"]: "lab-compute-01"})
    text = pcie_report.as_text(blocked, everything=False)
    first, *_ = (line for line in text.splitlines() if line.startswith("0000:01:00.0"))
    assert "GeForce RTX 4060 Ti" in first
    assert first.split()[-1] == "blocked"
    assert "  0000:01:00.0 is held by lab-compute-01, which runs\n  -> stop lab-compute-01 first" in text
    assert text.count("0000:07:00.0") == 1


def test_what_all_devices_lack_is_said_once() -> None:
    text = pcie_report.as_text(host(DEVICES, {}, arguments={}), everything=True)
    assert text.count("the IOMMU is off") == 1


def test_a_host_without_gpus_is_told_what_it_can_do() -> None:
    assert "inventories/gpu.yaml simulates" in pcie_report.as_text(host((BRIDGE,), {}), everything=False)


def test_data_has_the_verdict_and_the_facts() -> None:
    first, second = pcie_report.as_data(WORKSTATION, everything=False)
    assert (first["verdict"], first["iommu_group"], first["device_type"]) == ("needs binding", 12, "gpu")
    assert (second["verdict"], second["companions"], second["reasons"]) == ("ready", ["0000:07:00.1"], [])
