"""What drivers up to 595 say of GPUs, by the texts of nvidia-smi and of the kernel, and what is right to do.

Judged by NVIDIA's kernel modules 595.45.04 (the names of actions and Xids), its catalog of Xids, its Fabric
Manager and vGPU guides. The values are made up.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from hpcstate.gpu.findings import Finding, findings, unusable
from hpcstate.probe import nvidia_smi, nvidia_topology, xid
from hpcstate.probe.gpu import device_of
from tests.unit.gpu_hosts import FIRST, SECOND, a_gpu, a_host, an_smi, some_gpus

DRIVER = "595.45.04"


def smi(of_first: str, *, after: str = "", code: int = 0) -> nvidia_smi.NvidiaSmi:
    """What ``nvidia-smi -q -x`` says of a healthy GPU, and of one of which it says ``of_first`` first."""
    gpus = "".join(
        f'<gpu id="0000{address.upper()}">{more}<product_name>NVIDIA H200 NVL</product_name>'
        f"<uuid>GPU-{minor}</uuid><minor_number>{minor}</minor_number>"
        "<persistence_mode>Enabled</persistence_mode><compute_mode>Default</compute_mode>"
        "<mig_mode><current_mig>Disabled</current_mig><pending_mig>Disabled</pending_mig></mig_mode>"
        "<mig_devices>None</mig_devices><gpu_recovery_action>None</gpu_recovery_action>"
        "<gpu_reset_status><reset_required>Requested functionality has been deprecated</reset_required>"
        "</gpu_reset_status></gpu>"
        for minor, (address, more) in enumerate(((FIRST, of_first), (SECOND, "")))
    )
    return nvidia_smi.parse(
        f"== library libnvidia-ml.so.{DRIVER}\n== query\n<?xml version='1.0' ?>\n<nvidia_smi_log>"
        f"<driver_version>{DRIVER}</driver_version>{gpus}</nvidia_smi_log>\n{after}\n== end {code}\n"
    )


def said(of_smi: nvidia_smi.NvidiaSmi, *kernel: str) -> tuple[Finding, ...]:
    """The findings of a node of two GPUs, whose kernel logged ``kernel``."""
    log = xid.parse(
        "\n".join(["== journal", *(f"{at}.0 n kernel: {line}" for at, line in enumerate(kernel))])
    )
    return findings("n1", a_host(some_gpus(driver=DRIVER), of_smi, log))


def short(found: tuple[Finding, ...]) -> list[str]:
    return [finding.severity for finding in found]


def action(word: str) -> str:
    return f"<gpu_recovery_action>{word}</gpu_recovery_action>"


def clocks(**active: str) -> str:
    reasons = "".join(
        f"<clocks_event_reason_{name}>{word}</clocks_event_reason_{name}>" for name, word in active.items()
    )
    return f"<clocks_event_reasons>{reasons}</clocks_event_reasons>"


def virtual(status: str, mode: str = "VGPU") -> str:
    return (
        f"<gpu_virtualization_mode><virtualization_mode>{mode}</virtualization_mode></gpu_virtualization_mode>"
        "<vgpu_software_licensed_product><licensed_product_name>NVIDIA AI Enterprise</licensed_product_name>"
        f"<license_status>{status}</license_status></vgpu_software_licensed_product>"
    )


HEALTH = {
    "summary": "Healthy",
    "bandwidth": "Full",
    "route_recovery_in_progress": "False",
    "route_unhealthy": "False",
    "access_timeout_recovery": "False",
    "incorrect_configuration": "None",
}


def fabric(state: str = "Completed", status: str = "Success", **health: str) -> str:
    fields = "".join(f"<{name}>{word}</{name}>" for name, word in {**HEALTH, **health}.items())
    return (
        f"<fabric><state>{state}</state><status>{status}</status><cliqueId>32766</cliqueId>"
        f"<clusterUuid>0</clusterUuid><health>{fields}</health></fabric>"
    )


SAID_BY_SMI: Mapping[str, tuple[str, list[str], str, str]] = {
    # name: elements, severities, part of what is said, part of the step
    "GB200 in a whole rack": (f"<c2c_mode>Enabled</c2c_mode>{fabric()}", [], "", ""),
    "H200 NVL with no fabric": (
        fabric("N/A", "N/A", **dict.fromkeys(HEALTH, "N/A")),
        [],
        "",
        "",
    ),
    "GB10: memory of the system": (
        "<fb_memory_usage><total>Not Supported</total><used>Not Supported</used></fb_memory_usage>"
        "<ecc_mode><current_ecc>N/A</current_ecc><pending_ecc>N/A</pending_ecc></ecc_mode>",
        [],
        "",
        "",
    ),
    "a rack without its partition": (
        fabric(incorrect_configuration="No Partition"),
        ["error"],
        "configured wrongly: No Partition",
        "",
    ),
    "another firmware than the rack's": (
        fabric(summary="Unhealthy", incorrect_configuration="Incompatible GPU Firmware"),
        ["error", "error"],
        "Incompatible GPU Firmware",
        "",
    ),
    "a reset of the bus": (action("Bus Reset"), ["error"], "Bus Reset", "nvidia-smi -r -i 0"),
    "a reset, in NVML's words": (action("GPU_RESET"), ["error"], "GPU_RESET", "nvidia-smi -r -i 0"),
    "a reboot, in NVML's words": (action("System Reboot"), ["error"], "System Reboot", "reboot it"),
    "memory of other nodes": (action("Recover IMEX Domain"), ["error"], "IMEX Domain", "nvidia-imex"),
    "an action of a driver to come": (action("Exorcise"), ["error"], "Exorcise", "Xid 154"),
    "a vGPU tells no action": (action("N/A"), [], "", ""),
    "vGPU with its licence": (virtual("Licensed (Expiry: 2027-1-7 16:1:44 GMT)"), [], "", ""),
    "vGPU without, in its first minutes": (
        virtual("Unlicensed (Unrestricted)"),
        ["warning"],
        "no licence yet",
        "gridd",
    ),
    "vGPU without, slowed to idle": (virtual("Unlicensed (Restricted)"), ["error"], "no licence", "gridd"),
    "passed through, as every GPU": (virtual("Unlicensed (Restricted)", "Pass-Through"), [], "", ""),
    "bare metal": (virtual("N/A", "None"), [], "", ""),
    "held by its own power limit": (clocks(sw_power_cap="Active", hw_slowdown="Not Active"), [], "", ""),
    "held by the power brake": (
        clocks(hw_slowdown="Active", hw_thermal_slowdown="Not Active", hw_power_brake_slowdown="Active"),
        ["warning"],
        "power brake",
        "power supply",
    ),
    "too hot": (
        clocks(hw_slowdown="Active", hw_thermal_slowdown="Active", hw_power_brake_slowdown="Not Active"),
        ["warning"],
        "heat",
        "cooling",
    ),
    "slowed, older driver": (
        "<clocks_throttle_reasons><clocks_throttle_reason_hw_slowdown>Active"
        "</clocks_throttle_reason_hw_slowdown></clocks_throttle_reasons>",
        ["warning"],
        "slows it down",
        "power",
    ),
    "what a user may not see": (
        "<persistence_mode>Insufficient Permissions</persistence_mode>",
        [],
        "",
        "",
    ),
}


@pytest.mark.parametrize("name", SAID_BY_SMI)
def test_what_nvidia_smi_says(name: str) -> None:
    elements, severities, what, step = SAID_BY_SMI[name]
    found = said(smi(elements))
    assert short(found) == severities
    if severities:
        assert any(what in finding.what for finding in found)
        assert any(step in finding.step for finding in found)
        assert {finding.address for finding in found} == {FIRST}
        assert all("{" not in finding.step for finding in found)


PADDED = "NETIR_LINK_EVT  Fatal   XC0 i0 Link 09 (0x026525c6 0x00000000 0x00000000 0x00000000)"
LOGGED: Mapping[str, tuple[list[str], list[str], str, str]] = {
    # name: what was logged behind the first GPU's address, severities, part of what is said, part of the step
    "a wish that grew": (
        ["154, GPU recovery action changed from 0x1 (GPU Reset Required) to 0x2 (Node Reboot "
         "Required)"],
        ["error"], "154", "reboot it",
    ),
    "a wish that grew from P2P": (
        ["154, GPU recovery action changed from 0x3 (Drain P2P) to 0x1 (GPU Reset Required)"],
        ["error"], "154", "reset it",
    ),
    "a reset of the function": (
        ["154, GPU recovery action changed from 0x0 (None) to 0x1 (PF FLR)"],
        ["error"], "PF FLR", "reset it",
    ),
    "a reboot by another name": (
        ["154, GPU recovery action changed from 0x0 (None) to 0x2 (OS Reboot)"],
        ["error"], "OS Reboot", "reboot it",
    ),
    "the other nodes' memory": (
        ["154, GPU recovery action changed from 0x0 (None) to 0x5 (Recover IMEX Domain)"],
        ["error"], "IMEX", "nvidia-imex",
    ),
    "a link down by software, padded": (
        [f"149, {PADDED}"], ["warning"], "by software or the host", "watch",
    ),
    "a harmless one, padded": (
        ["144, SAW_MVB         Nonfatal XC0 i0 Link 00 (0x00000001 0x00000004 0x00000000)"],
        ["note"], "not fatal", "nothing",
    ),
    "charged to a process": (
        ["145, pid=4242, name=python3, RLW_REMAP Nonfatal XC0 i0 Link 00 (0x00000004 "
         "0x00000001 0x00000000 0x00000000)"],
        ["note"], "not fatal", "",
    ),
    "one word of registers": (
        ["149, NETIR_LINK_DOWN Nonfatal XC1 i2 Link 17 (0xdeadbeef)"], ["note"], "", "",
    ),
    "the interface itself": (["149, NETIR_INT  Fatal   XC0 i0 Link -1"], ["error"], "", ""),
    "the link to Grace": (["173, C2C fatal link failure"], ["error"], "Grace", "reset"),
    "a process was ended": (["174, Ch 00000010"], ["note"], "", "nothing"),
    "memory that the GSP waits for": (
        ["175, pid=1, name=a, Timeout after 6s of waiting"], ["error"], "memory", "reset",
    ),
    "corrected on PCIe": (["176, words"], ["warning"], "PCIe", ""),
    "DRAM": (["171, Uncorrectable DRAM error"], ["warning"], "DRAM", "48"),
    "Ampere's instance": (
        ["GPU-I:05 GPU-CI:00): 94, pid=7194, name=a, Contained: CE User Channel (0x9). RST: No"],
        ["warning"], "contained", "",
    ),
    "a number that no table has": (
        ["51, BAD_TSG encountered on runlist: 0 with error code: 4"], ["warning"], "51", "",
    ),
}  # fmt: skip


def _after(line: str) -> str:
    return f"): {line}" if line[0].isdigit() else f" {line}"


@pytest.mark.parametrize("name", LOGGED)
def test_what_the_kernel_logged(name: str) -> None:
    lines, severities, what, step = LOGGED[name]
    # A driver that does not tell what it asks for now: the log alone counts.
    here = an_smi(a_gpu(recovery_action=""), a_gpu(1, SECOND), library_version=DRIVER)
    found = said(here, *(f"NVRM: Xid (PCI:0000:41:00{_after(line)}" for line in lines))
    assert short(found) == severities
    assert all(what in finding.what and step in finding.step for finding in found)
    assert {finding.address for finding in found} == {FIRST}


def test_a_wish_that_a_reset_fulfilled_is_over() -> None:
    """The driver starts a GPU anew without a wish, and logs nothing of it (gpu.c: the old one is unknown)."""
    wish = (
        "NVRM: Xid (PCI:0000:41:00): 154, "
        "GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)"
    )
    assert short(said(smi(""), wish)) == ["warning"]
    assert short(said(smi(action("Reset")), wish)) == ["error", "error"]


NOT_STARTED = {
    # kernel-open/nvidia/nv-pci.c: a region without an address is invalid whatever its size.
    "a region with a size and no address": (
        "NVRM: This PCI I/O region assigned to your NVIDIA device is invalid:\n"
        "    NVRM: BAR1 is 131072M @ 0x0 (PCI:0000:41:00.0)",
        FIRST, "gave its memory no address",
    ),
    "a region that was made larger": (
        "NVRM: FATAL: Failed to re-allocate BAR1.", "", "gave a GPU's memory no address",
    ),
    "not to be enabled": ("NVRM: pci_enable_device failed, aborting", "", "could not start a GPU"),
    "no interrupt": ("NVRM: Can't find an IRQ for your NVIDIA card!", "", "could not start a GPU"),
    "registers that another driver holds": (
        "NVRM: request_mem_region failed for 16M @ 0xfb000000. This can\n"
        "    NVRM: occur when a driver such as rivatv is loaded and claims\n"
        "    NVRM: ownership of the device's registers.",
        "", "could not start a GPU",
    ),
    "asleep for ever": (
        "nvidia 0000:41:00.0: Unable to change power state from D3cold to D0, device inaccessible",
        FIRST, "fallen off the bus",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_STARTED)
def test_why_the_module_has_no_gpu(name: str) -> None:
    """The module is not loaded then: to deploy the driver again would change nothing."""
    message, address, what = NOT_STARTED[name]
    log = xid.parse(f"== journal\n1.0 n kernel: {message}\n")
    (found,) = findings("n1", a_host(some_gpus(driver="", devices=[], bus=[FIRST]), log=log))
    assert (found.severity, found.address) == ("error", address)
    assert what in found.what


def test_a_gpu_that_nvidia_smi_cannot_open_is_named() -> None:
    message = "Unable to determine the device handle for GPU1: 0000:81:00.0: Unknown Error"
    here = nvidia_smi.parse(f"== query\n{message}\n== end 255\n")
    lost = unusable("n1", a_host(smi=here))
    assert set(lost) == {SECOND}


def test_one_that_hides_from_jobs_is_not_offered() -> None:
    """NVreg_ExcludedGpus: it is in /proc with a number, and the module refuses to open it."""
    from hpcstate.probe.gpu import parse

    found = parse(
        "bus 0000:41:00.0\nbus 0000:81:00.0\n"
        "driver NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  595.45.04  Release Build\n"
        "gpu 0000:41:00.0|0x2330|0|0-7|NVIDIA H100 80GB HBM3|No\n"
        "gpu 0000:81:00.0|0x2330|1|0-7|NVIDIA H100 80GB HBM3|Yes\n"
        "node c3 0 /dev/nvidia0\nnode c3 1 /dev/nvidia1\n"
    )
    assert found["devices"] == [
        device_of("/dev/nvidia0", 195, 0, "2330", address=FIRST, model="NVIDIA H100 80GB HBM3")
    ]
    (said_of_it,) = findings(
        "n1", a_host(found, an_smi(a_gpu(), driver_version=DRIVER, library_version=DRIVER))
    )
    assert (said_of_it.severity, said_of_it.address) == ("warning", SECOND)
    assert "NVreg_ExcludedGpus" in said_of_it.step


@pytest.mark.parametrize(
    "message", ["pci_enable_device failed, aborting", "FATAL: Failed to re-allocate BAR1."]
)
def test_a_failure_without_a_name_is_of_the_gpu_that_is_not_started(message: str) -> None:
    """The other one works, and gets jobs."""
    log = xid.parse(f"== journal\n1.0 n kernel: NVRM: {message}\n")
    one = some_gpus(devices=some_gpus()["devices"][:1])
    host = a_host(one, an_smi(a_gpu()), log)
    (found,) = findings("n1", host)
    assert (found.severity, found.address) == ("error", SECOND)
    assert message in found.what
    assert unusable("n1", host) == {}
    assert findings("n1", a_host(log=log)) == ()  # both work: it was before


def test_a_gpu_that_could_not_be_started_once_works() -> None:
    """The log keeps the failure until the next boot; nvidia-smi would not read the GPU if it lasted."""
    line = "== journal\n1.0 n kernel: NVRM: GPU 0000:41:00.0: RmInitAdapter failed! (0x62:0x40:1860)\n"
    assert unusable("n1", a_host(log=xid.parse(line))) == {}
    for smi_now in (an_smi(a_gpu(1, SECOND)), an_smi(state="failed", code=6, gpus=[])):
        assert FIRST in unusable("n1", a_host(smi=smi_now, log=xid.parse(line)))


GB200 = """== topo
\t\x1b[4mGPU0\tGPU1\tGPU2\tGPU3\tNIC0\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\x1b[0m
GPU0\t X \tNV18\tNV18\tNV18\tNODE\t0-71\t0\t\t2
GPU1\tNV18\t X \tNV18\tNV18\tNODE\t0-71\t0\t\t10
GPU2\tNV18\tNV18\t X \tNV18\tSYS\t\t1\t\t18
GPU3\tNV18\tNV18\tNV18\t X \tSYS\t\t1\t\t26
NIC0\tNODE\tNODE\tSYS\tSYS\t X \t\t\t\t
== end 0
"""


def test_the_matrix_of_a_gb200_has_a_column_more() -> None:
    found = nvidia_topology.parse(GB200)
    assert [(row["cpu_affinity"], row["numa_affinity"]) for row in found["gpus"]] == [
        ("0-71", "0"),
        ("0-71", "0"),
        ("", "1"),
        ("", "1"),
    ]
    assert found["gpus"][3]["links"] == {0: "NV18", 1: "NV18", 2: "NV18"}
