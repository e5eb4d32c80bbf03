"""GPUs as people met them: what the kernel wrote and nvidia-smi said, as it stood in public reports."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from hpcstate.gpu.findings import GpuHost, findings, unusable
from hpcstate.gpu.xids import judged
from hpcstate.probe import xid
from hpcstate.probe.mig import mig_instances
from hpcstate.probe.nvidia_smi_xml import NvidiaGpu, gpu_of
from hpcstate.probe.nvidia_topology import GpuTopology, NvidiaTopology
from tests.unit.gpu_hosts import FIRST, SECOND, a_gpu, a_host, an_smi, some_gpus


def logged(*messages: str) -> xid.KernelLog:
    """The kernel log with ``messages``, a second apart."""
    return xid.parse(
        "\n".join(["== journal", *(f"{at}.0 n kernel: {line}" for at, line in enumerate(messages))])
    )


XIDS = {
    # leptonai/gpud#1160, #1174; NVIDIA/nccl#2241: number, severity, message
    "receiver": (
        145,
        "note",
        "RLW_RXPIPE Nonfatal XC0 i0 Link 13 (0x0409a0c2 0x00000008 0x00000001 0x00000000)",
    ),
    "receiver, promoted (before 575)": (
        145,
        "error",
        "RLW_RXPIPE Nonfatal XC0 i0 Link 13 (0x000004c2 0x00000001)",
    ),
    "receiver, promoted (575)": (145, "error", "RLW_RXPIPE Nonfatal XC0 i0 Link 13 (0x00000086 0x00000002)"),
    "receiver, not promoted (575)": (
        145,
        "note",
        "RLW_RXPIPE Nonfatal XC0 i0 Link 13 (0x00000006 0x00000002)",
    ),
    "promoted, another status": (145, "note", "RLW_RXPIPE Nonfatal XC0 i0 Link 13 (0x00000086 0x00000008)"),
    "buffer": (144, "note", "SAW_MVB Nonfatal XC0 i0 Link 0 (0x00000001 0x00000008 0x00000000 0x00000000)"),
    "buffer, fatal": (144, "error", "SAW_MVB Fatal XC0 i0 Link 0 (0x00000001 0x00000002 0x00000000)"),
    "network": (149, "error", "NETIR Fatal XC0 i0 Link -1 (0x000fe406 0x00000000 0x00000000 0x00000000)"),
    "link event": (149, "error", "NETIR_LINK_EVT Fatal XC0 i0 Link 00 (0x025001c6 0x00000000 0x00000000)"),
    "by software": (149, "warning", "NETIR_LINK_EVT Fatal XC0 i0 Link 00 (0x026001c6 0x00000000 0x00000000)"),
    "by the host": (149, "warning", "NETIR_LINK_DOWN Link-Fatal XC0 i0 Link 00 (0x02800011 0x00000000)"),
    "bit errors": (149, "warning", "NETIR_BER_EVENT Nonfatal XC0 i0 Link 3 (0x00000013 0x00000001)"),
    "firmware": (150, "error", "MSE_WATCHDOG Fatal XC0 i0 Link -1 (0x00000000 0x00000000)"),
    "a text of another kind": (146, "error", "something new"),
    # NVIDIA's catalog, WORKFLOW_NVLINK_ERR
    "link": (74, "error", "NVLink: fatal error detected on link 6(0x10000, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)"),
    "link, harmless": (
        74,
        "warning",
        "NVLink: fatal error detected on link 6(0x40800001, 0x0, 0x0, 0x0, 0x100000)",
    ),
    "link, no register": (74, "error", "NVLink: fatal error detected on link 6(0x0, 0x0, 0x0)"),
    "link, old": (74, "error", ""),
    "wish": (154, "error", "GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)"),
    # one of each kind that is an engine's, the driver's own, and a test
    "copy engine": (126, "warning", "CE10"),
    "video": (68, "warning", "NVDEC0"),
    "push buffer": (69, "note", "Class Error"),
    "test message": (106, "note", ""),
    "keys": (151, "error", ""),
    "no Xid of the catalog": (4711, "warning", ""),
}


@pytest.mark.parametrize("name", XIDS)
def test_severity_comes_from_number_and_text(name: str) -> None:
    number, severity, text = XIDS[name]
    known = judged(number, text)
    assert known.severity == severity
    assert known.meaning
    assert known.step
    (found,) = logged(
        f"NVRM: Xid (PCI:0018:01:00): {number}, {text}" if text else f"NVRM: Xid (PCI:0018:01:00): {number}"
    )["xids"]
    assert judged(found["number"], found["text"]) == known


def test_what_is_not_fatal_hides_nothing_that_is() -> None:
    log = logged(
        "NVRM: Xid (PCI:0000:41:00): 145, RLW_REMAP Fatal XC0 i0 Link 13 (0x00000004 0x00000040)",
        "NVRM: Xid (PCI:0000:41:00): 145, RLW_RSPCOL Nonfatal XC0 i0 Link 13 (0x00000005 0x00000001)",
    )
    found = findings("n1", a_host(log=log))
    assert [(finding.severity, finding.address) for finding in found] == [("error", FIRST), ("note", FIRST)]


@pytest.mark.parametrize(
    ("driver", "action", "number", "severity"),
    [
        ("580.95.05", "None", 48, "warning"),
        ("580.95.05", "Reset", 48, "error"),
        ("580.95.05", "None", 119, "error"),
        ("550.163.01", "None", 48, "error"),
    ],
)
def test_an_xid_is_over_when_the_driver_asks_for_nothing(
    driver: str, action: str, number: int, severity: str
) -> None:
    """The catalog's "Xid 154 linkage": what a reset has mended stays in the log until the next boot."""
    smi = an_smi(
        a_gpu(recovery_action=action), a_gpu(1, SECOND), driver_version=driver, library_version=driver
    )
    log = logged(f"NVRM: Xid (PCI:0000:41:00): {number}, words")
    found = findings("n1", a_host(some_gpus(driver=driver), smi, log))
    assert [finding.severity for finding in found if f"Xid {number}" in finding.what] == [severity]


def test_nvswitches() -> None:
    """leptonai/gpud#338; MENTHOS (the lines that follow have no severity)."""
    log = logged(
        "nvidia-nvswitch3: SXid (PCI:0000:c5:00.0): 20034, Fatal, Link 30 LTSSM Fault Up",
        "nvidia-nvswitch3: SXid (PCI:0000:c5:00.0): 20034, Severity 1 Engine instance 30",
        "nvidia-nvswitch3: SXid (PCI:0000:c5:00.0): 20034, Data {0x50610002, 0x10100030, 0x00000000}",
        "nvidia-nvswitch4: SXid (PCI:0000:c6:00.0): 19084, Non-fatal, Link 29 AN1 Heartbeat Timeout",
    )
    found = findings("n1", a_host(log=log))
    assert [(finding.severity, finding.address) for finding in found] == [("error", ""), ("warning", "")]
    assert "SXid 20034, fatal" in found[0].what
    assert "Link 30 LTSSM Fault Up" in found[0].what
    assert set(unusable("n1", a_host(log=log))) == {FIRST, SECOND}


def test_a_memory_region_without_an_address() -> None:
    """NVIDIA/gpu-operator#492: no GPU could be started, so that the module was not loaded at all."""
    log = xid.parse(
        "== dmesg\n"
        "2026-08-17T00:30:43,308145+00:00 NVRM: This PCI I/O region assigned to your device is invalid:\n"
        "                                  NVRM: BAR1 is 0M @ 0x0 (PCI:0000:41:00.0)\n"
    )
    (found,) = findings("n1", a_host(some_gpus(driver="", devices=[], bus=[FIRST]), log=log))
    assert (found.severity, found.address) == ("error", FIRST)
    assert "firmware gave its memory no address" in found.what
    assert "cpu_model: host-passthrough" in found.step


@pytest.mark.parametrize(
    ("message", "what"),
    [
        ("GPU 0000:41:00.0: GPU does not have the necessary power cables connected.", "power cables"),
        (
            "knvlinkUpdatePostRxDetectLinkMask_IMPL: Failed to update Rx Detect Link mask!",
            "NVLink did not find",
        ),
        (
            "knvlinkDiscoverPostRxDetLinks_GH100: Getting peer0's postRxDetLinkMask failed!",
            "NVLink did not find",
        ),
    ],
)
def test_other_failures_of_the_kernel_module(message: str, what: str) -> None:
    (found,) = findings("n1", a_host(log=logged(f"NVRM: {message}")))
    assert found.severity == "error"
    assert what in found.what


OF_SEVERAL_LINES = {
    # The texts of nvidia.ko (open-gpu-kernel-modules, kernel-open/nvidia/nv-pci.c; drivers 470 to 550)
    "open modules needed": (
        "The NVIDIA GPU 0000:41:00.0 (PCI ID: 10de:2bb1)",
        "installed in this system requires use of the NVIDIA open kernel modules.",
        "needs NVIDIA's open kernel modules",
    ),
    "too old for the open modules": (
        "The NVIDIA GPU 0000:41:00.0 (PCI ID: 10de:1b80)",
        "installed in this system is not supported by open",
        "open kernel modules do not know a GPU as old",
    ),
    "another release": (
        "The NVIDIA GPU 0000:41:00.0 (PCI ID: 10de:2bb1)",
        "installed in this system is not supported by the",
        "this release of the driver does not know it",
    ),
}


@pytest.mark.parametrize("name", OF_SEVERAL_LINES)
def test_a_module_that_refuses_a_gpu_says_why(name: str) -> None:
    """The module is not loaded then: to deploy the driver again would change nothing."""
    first, second, what = OF_SEVERAL_LINES[name]
    third = {
        "too old for the open modules": "nvidia.ko because it does not include the required GPU",
        "another release": "NVIDIA 550.163.01 driver release.",
    }.get(name, "")
    log = xid.parse(f"== journal\n1.0 n kernel: NVRM: {first}\n    NVRM: {second}\n    NVRM: {third}\n")
    (found,) = findings("n1", a_host(some_gpus(driver="", devices=[], bus=[FIRST]), log=log))
    assert (found.severity, found.address) == ("error", FIRST)
    assert what in found.what


def test_power_explains_why_it_does_not_start() -> None:
    log = logged(
        "NVRM: GPU 0000:41:00.0: GPU does not have the necessary power cables connected.",
        "NVRM: GPU 0000:41:00.0: RmInitAdapter failed! (0x24:0x1c:1447)",
    )
    (found,) = findings("n1", a_host(log=log))
    assert "power cables" in found.what


@pytest.mark.parametrize(
    ("health", "severities"),
    [
        ({"summary": "Healthy", "bandwidth": "Full", "incorrect_configuration": "None"}, []),
        ({"summary": "Unhealthy", "route_unhealthy": "True", "access_timeout_recovery": "True"}, ["error"]),
        ({"summary": "Limited Capacity", "route_unhealthy": "True"}, ["error", "warning"]),
        ({"summary": "Unhealthy", "bandwidth": "Degraded"}, ["error", "warning"]),
        ({"incorrect_configuration": "Insufficient NVLinks"}, ["error"]),
        ({"route_recovery_in_progress": "True"}, ["error"]),
        ({"bandwidth": "something new"}, []),
    ],
)
def test_health_of_the_fabric_is_told_once(health: dict[str, str], severities: list[str]) -> None:
    """The words of nvidia-smi -q of a GB200 (Summary, Bandwidth, …), as public tools read them."""
    gpu = a_gpu(fabric={"state": "Completed", "status": "Success", "health": health})
    found = findings("n1", a_host(smi=an_smi(gpu, a_gpu(1, SECOND))))
    assert [finding.severity for finding in found] == severities


def fabric(links: dict[int, dict[int, str]], names: dict[int, str] | None = None, **changes: str) -> GpuHost:
    """A node whose GPUs are linked as ``links`` says; ``names`` are models, ``changes`` go for each GPU."""
    gpus: list[NvidiaGpu] = [
        a_gpu(index, f"0000:{16 + index:02x}:00.0", name=(names or {}).get(index, "NVIDIA B200"), **changes)
        for index in links
    ]
    rows = [
        GpuTopology(index=index, links=row, nics={}, cpu_affinity="", numa_affinity="")
        for index, row in links.items()
    ]
    whole = a_host(some_gpus(devices=[], bus=[]), an_smi(*gpus))
    return GpuHost(whole.gpus, whole.smi, NvidiaTopology(state="ok", message="", gpus=rows), whole.log)


def matrix(count: int, link: str = "NV18", *, off: dict[int, str] | None = None) -> dict[int, dict[int, str]]:
    """All GPUs by ``link``; those of ``off`` are reached by what it says."""
    off = off or {}
    return {
        one: {other: off.get(one) or off.get(other) or link for other in range(count) if other != one}
        for one in range(count)
    }


PAIRS = {
    one: {other: "NV4" if one // 2 == other // 2 else "SYS" for other in range(4) if other != one}
    for one in range(4)
}
CUBE = {
    one: {
        other: ("NV1" if one // 4 == other // 4 or one % 4 == other % 4 else "SYS")
        for other in range(8)
        if other != one
    }
    for one in range(8)
}
TOPOLOGIES = {
    # vllm#16336, and what is no fault of the kind
    "one is off": (fabric(matrix(8, off={6: "NODE"})), [("error", 6)]),
    "two are off": (fabric(matrix(8, off={6: "NODE", 7: "SYS"})), [("error", 6), ("error", 7)]),
    "one of four": (fabric(matrix(4, off={1: "SYS"})), [("error", 1)]),
    "fewer links": (fabric(matrix(8, off={3: "NV16"})), [("warning", 3)]),
    "fewer links of four": (fabric(matrix(4, "NV4", off={3: "NV2"})), [("warning", 3)]),
    "whole": (fabric(matrix(8)), []),
    "no NVLink at all": (fabric(matrix(8, "SYS")), []),
    "bridges between two": (fabric(PAIRS), []),
    "a bridge, and a third": (fabric(matrix(3, "NV4", off={2: "SYS"})), []),
    "DGX-1's cube": (fabric(CUBE), []),
    "another model beside": (fabric(matrix(5, off={4: "SYS"}), {4: "NVIDIA T4"}), []),
    "in MIG mode": (fabric(matrix(8, off={6: "SYS"}), mig_mode="Disabled"), [("error", 6)]),
    "one GPU": (fabric({0: {}}), []),
}


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_gpu_off_nvlink(name: str) -> None:
    host, expected = TOPOLOGIES[name]
    found = [finding for finding in findings("n1", host) if "NVLink" in finding.what]
    assert [(finding.severity, int(finding.address[5:7], 16) - 16) for finding in found] == expected
    assert all("nvidia-smi nvlink -s -i" in finding.step and "{" not in finding.step for finding in found)


def test_gpus_in_mig_mode_have_no_nvlink() -> None:
    host = fabric(matrix(8, off={6: "SYS"}))
    host.smi["gpus"][6]["mig_mode"] = host.smi["gpus"][6]["mig_mode_pending"] = "Enabled"
    assert not [finding for finding in findings("n1", host) if "NVLink" in finding.what]


def test_one_that_fell_off_the_bus_is_not_for_jobs_and_its_neighbour_is() -> None:
    """shine-cluster#171: still in /proc, no handle in nvidia-smi."""
    log = logged("NVRM: Xid (PCI:0000:81:00): 79, GPU has fallen off the bus.")
    smi = an_smi(state="failed", code=15, gpus=[], lost=[{"address": SECOND, "reason": "GPU is lost."}])
    lost = unusable("n1", a_host(smi=smi, log=log))
    assert set(lost) == {SECOND}
    assert "power-cycle its host" in lost[SECOND]
    assert unusable("n1", a_host()) == {}


def test_instances_are_those_of_their_gpu_in_wide_domains_too() -> None:
    """nvidia-smi writes domains with eight digits; VMD has five."""
    caps = ["gpu0/mig/gi1/access 12", "gpu0/mig/gi1/ci0/access 13", "gpu1/mig/gi1/access 147"]
    caps.append("gpu1/mig/gi1/ci0/access 148")
    table = [
        "|   0  MIG 1g.18gb+me       20        1          6:1     |",
        "|   1  MIG 1g.24gb-me       67        1          0:1     |",
    ]
    found = mig_instances(
        caps,
        ["0, 00010000:01:00.0", "1, 00000000:01:00.0", "no index"],
        table,
        {"10000:01:00.0": 1, "0000:01:00.0": 0},
    )
    assert {minor: instances[0]["profile"] for minor, instances in found.items()} == {
        1: "1g.18gb+me",
        0: "1g.24gb-me",
    }


FIELD_LINES = {
    # leptonai/gpud#46, #604, #1174, NVIDIA/open-gpu-kernel-modules#1150 and #1151: what asks for a node to be
    # drained, by NVIDIA's catalog of Xids, and what does not.
    "a job's own fault": (
        "Xid (PCI:0000:41:00): 13, Graphics SM Warp Exception on (GPC 7, TPC 7, SM 0)",
        "note",
    ),
    "after another": (
        "Xid (PCI:0000:41:00): 45, pid=1, name=python3, Ch 00000001 caused by previous Xid 149",
        "note",
    ),
    "contained": ("Xid (PCI:0000:41:00): 94, pid=1234, name=python3, Contained ECC error", "warning"),
    "not contained": (
        "Xid (PCI:0000:41:00): 95, pid=1, name=a, Uncontained: FBHUB (0x3,0x0). RST: Yes",
        "error",
    ),
    "switching": (
        "Xid (PCI:0000:41:00): 109, pid=1, name=a, errorString CTX SWITCH TIMEOUT, Info 0x58005",
        "error",
    ),
    "system processor": (
        "Xid (PCI:0000:41:00): 119, pid=1, name=nvidia-smi, Timeout after 6s of waiting",
        "error",
    ),
    "gone": ("GPU 0000:41:00.0: GPU has fallen off the bus.", "error"),
    "not started at first": ("GPU 0000:41:00.0: RmInitAdapter failed! (0x22:0x56:894)", "warning"),
    "a wish that is over": (
        "Xid (PCI:0000:41:00): 154, GPU recovery action changed from 0x2 (Reboot) to 0x0 (None)",
        "",
    ),
    "an assertion of the module": (
        "GPU0 nvAssertFailedNoLog: Assertion failed: 0 @ g_kern_bus_nvoc.h:2801",
        "",
    ),
    "an introduction": ("GPU at PCI:0000:41:00: GPU-c4c6a1a9-b1a7-c9b9-3d4b-6a6f60f01c0e", ""),
}


@pytest.mark.parametrize("name", FIELD_LINES)
def test_what_the_module_said_in_public_reports(name: str) -> None:
    message, severity = FIELD_LINES[name]
    found = findings("n1", a_host(log=logged(f"NVRM: {message}")))
    assert [each.severity for each in found] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("widths", "named", "narrow"),
    [
        # NVIDIA/NVSentinel#890: a card that came back with half of its lanes
        ({0: 16, 1: 8, 2: 16}, {}, [1]),
        # x8 for all is how the board is made; a card at rest tells nothing
        ({0: 8, 1: 8}, {}, []),
        ({0: 16, 1: None}, {}, []),
        ({0: 16, 1: 8}, {1: "NVIDIA T4"}, []),
    ],
)
def test_a_pcie_link_narrower_than_others_of_its_model(
    widths: dict[int, int | None], named: dict[int, str], narrow: list[int]
) -> None:
    gpus = [
        a_gpu(index, f"0000:{16 + index:02x}:00.0", link_width=width, name=named.get(index, "NVIDIA H100"))
        for index, width in widths.items()
    ]
    found = findings("n1", a_host(some_gpus(devices=[], bus=[]), an_smi(*gpus)))
    assert [finding.address for finding in found] == [f"0000:{16 + index:02x}:00.0" for index in narrow]
    assert all(finding.severity == "warning" and "lanes" in finding.what for finding in found)
    assert not unusable("n1", a_host(some_gpus(devices=[], bus=[]), an_smi(*gpus)))


def test_the_lanes_of_a_gpu_at_rest_are_not_told() -> None:
    """nvidia-smi(1): generation and width "may be reduced when the GPU is not in use"."""
    gpu = (
        "<gpu id='00000000:01:00.0'><performance_state>{}</performance_state><pci><pci_gpu_link_info>"
        "<link_widths><max_link_width>16x</max_link_width><current_link_width>8x</current_link_width>"
        "</link_widths></pci_gpu_link_info></pci></gpu>"
    )
    told = {state: gpu_of(0, ElementTree.fromstring(gpu.format(state)), {})["link_width"] for state in STATES}
    assert told == {"P0": 8, "P2": 8, "P8": None, "N/A": None}


STATES = ("P0", "P2", "P8", "N/A")


def test_a_jetson_has_a_gpu_that_nobody_can_look_into() -> None:
    """JetPack 6: `nvidia-smi -q` calls it Orin (nvgpu) at 00000000:00:00.0, and there is none on a bus."""
    blank = dict.fromkeys(("persistence_mode", "compute_mode", "ecc_mode", "ecc_mode_pending"), "")
    gpu = a_gpu(0, "0000:00:00.0", name="Orin (nvgpu)", memory_mib=None, link_width=None, **blank)
    smi = an_smi(gpu, driver_version="540.4.0", library_version="540.4.0")
    (found,) = findings("n1", a_host(some_gpus(driver="540.4.0", devices=[], bus=[]), smi))
    assert (found.severity, "a part of a Jetson's processor" in found.what) == ("note", True)
