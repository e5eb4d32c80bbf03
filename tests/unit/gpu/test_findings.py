"""Each rule about a node's GPUs, by facts in which one thing is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hpcstate.gpu.findings import GpuHost, findings, read_host, worst
from hpcstate.gpu.xids import known_xids
from hpcstate.paths import ROOT
from hpcstate.probe import gpu, nvidia_smi, nvidia_topology, xid
from hpcstate.probe.nvidia_smi_xml import MigDevice
from tests.unit.gpu_hosts import (
    DRIVER,
    FIRST,
    SECOND,
    a_gpu,
    a_host,
    a_log,
    a_simulated_host,
    an_smi,
    some_gpus,
)

MIG = MigDevice(index=0, gpu_instance=1, compute_instance=0, profile="1g.10gb", uuid="MIG-a", memory_mib=9856)


def said(host: GpuHost) -> list[tuple[str, str, str]]:
    """Severity, address and what, of each finding."""
    return [(finding.severity, finding.address, finding.what) for finding in findings("n1", host)]


def failed(code: int, message: str = "words", **changes: Any) -> GpuHost:
    return a_host(smi=an_smi(state="failed", code=code, message=message, gpus=[], **changes))


def first_gpu(**changes: Any) -> GpuHost:
    return a_host(smi=an_smi(a_gpu(**changes), a_gpu(1, SECOND)))


HEALTHY = {
    "healthy": a_host(),
    "simulated": a_simulated_host(),
    "no GPU, and nvidia-smi in the image": GpuHost(
        gpu.parse(""), an_smi(state="failed", code=9, gpus=[]), nvidia_topology.parse(""), a_log()
    ),
    "a whole fabric": first_gpu(
        fabric={
            "state": "Completed",
            "status": "Success",
            "health": {"summary": "Healthy", "bandwidth": "Full", "route_unhealthy": "False"},
        }
    ),
    "MIG with an instance": first_gpu(mig_mode="Enabled", mig_mode_pending="Enabled", mig_devices=[MIG]),
    "errors of an earlier life": first_gpu(ecc_uncorrected_aggregate=8),
    "a GPU that tells nothing": first_gpu(
        persistence_mode="",
        ecc_mode="",
        ecc_mode_pending="",
        mig_mode="",
        compute_mode="",
        recovery_action="",
    ),
    "the library's version without its last part": a_host(smi=an_smi(library_version="550.163")),
    "the library's version is not known": a_host(smi=an_smi(library_version="")),
    "the driver took its wish back": a_host(
        log=a_log((154, "GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)"))
    ),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_said_without_reason(name: str) -> None:
    assert said(HEALTHY[name]) == []


WRONG: dict[str, tuple[GpuHost, str, str, str, str]] = {
    # name: host, severity, address, part of what, part of the step
    "no module": (
        a_host(some_gpus(driver="", devices=[])),
        "error",
        "",
        "2 NVIDIA GPUs on the bus",
        "modprobe",
    ),
    "versions differ": (
        a_host(smi=an_smi(library_version="550.144.03")),
        "error",
        "",
        f"kernel module is {DRIVER}, the driver's libraries are 550.144.03",
        "drain the node, wait for its jobs and reboot it",
    ),
    "nvidia-smi says that versions differ": (failed(18, library_version=""), "error", "", DRIVER, "reboot"),
    "no nvidia-smi": (a_host(smi=nvidia_smi.parse("")), "warning", "", "not installed", "install"),
    "a channel waits": (
        first_gpu(repair_pending=["channel"]),
        "error",
        FIRST,
        "a channel of its memory waits",
        "-r -i 0",
    ),
    "a processing cluster waits": (first_gpu(repair_pending=["tpc"]), "error", FIRST, "TPC", "-r -i 0"),
    "memory cannot be repaired": (
        first_gpu(unrepairable_memory=True),
        "error",
        FIRST,
        "cannot be repaired",
        "replace",
    ),
    "the fabric is not ready": (
        first_gpu(fabric={"state": "In Progress", "status": "", "health": {}}),
        "error",
        FIRST,
        "fabric is in progress: CUDA programs fail with error 802",
        "nvidia-fabricmanager",
    ),
    "the fabric refused it": (
        first_gpu(fabric={"state": "Completed", "status": "Insufficient Resources", "health": {}}),
        "error",
        FIRST,
        "refused by the NVLink fabric (Insufficient Resources)",
        "nvidia-fabricmanager",
    ),
    "the fabric is unhealthy": (
        first_gpu(
            fabric={
                "state": "Completed",
                "status": "Success",
                "health": {"summary": "Unhealthy", "bandwidth": "Full", "route_unhealthy": "True"},
            }
        ),
        "error",
        FIRST,
        "the NVLink fabric is unhealthy",
        "-r -i 0",
    ),
    "less bandwidth": (
        first_gpu(fabric={"state": "Completed", "status": "Success", "health": {"bandwidth": "Degraded"}}),
        "warning",
        FIRST,
        "degraded",
        "-r -i 0",
    ),
    "it hangs": (
        a_host(smi=an_smi(state="timeout", code=124, gpus=[])),
        "error",
        "",
        "does not end",
        "reboot",
    ),
    "no permission": (failed(4), "warning", "", "ended with 4", "root"),
    "no devices": (failed(6, "No devices were found"), "error", "", "said: No devices were found", "dmesg"),
    "power": (failed(8), "error", "", "power cables", "power off"),
    "no answer": (failed(9), "error", "", "the driver does not answer it", "modprobe"),
    "interrupts": (failed(10), "error", "", "interrupts", "reboot"),
    "no library": (failed(12), "error", "", "library is missing", "install"),
    "infoROM": (
        a_host(smi=an_smi(state="failed", code=14, message="WARNING: infoROM is corrupted")),
        "warning",
        "",
        "infoROM is corrupted",
        "vendor",
    ),
    "fell off": (failed(15), "error", "", "fallen off the bus", "power-cycle"),
    "an unknown code": (
        failed(255, ""),
        "error",
        "",
        "ended with 255: it failed (it said: nothing)",
        "by hand",
    ),
    "a GPU is lost": (
        failed(15, lost=[{"address": SECOND, "reason": "GPU is lost."}]),
        "error",
        SECOND,
        "cannot open it: GPU is lost.",
        "reboot",
    ),
    "no device file": (
        a_host(
            some_gpus(
                devices=some_gpus()["devices"][:1], nodeless=[{"address": SECOND, "file": "/dev/nvidia1"}]
            )
        ),
        "error",
        SECOND,
        "/dev/nvidia1 is missing",
        "nvidia-modprobe -c 1",
    ),
    "not started": (
        a_host(some_gpus(devices=some_gpus()["devices"][:1])),
        "error",
        SECOND,
        "has not started it",
        "lspci -k",
    ),
    "not listed": (a_host(smi=an_smi(a_gpu())), "error", SECOND, "nvidia-smi does not list it", "reboot"),
    "lost values": (
        first_gpu(unreadable={"total": "GPU is lost"}),
        "error",
        FIRST,
        "GPU is lost (in total)",
        "power",
    ),
    "reset wanted": (
        first_gpu(unreadable={"uuid": "GPU requires reset"}),
        "error",
        FIRST,
        "requires reset",
        "-r -i 0",
    ),
    "an unknown value": (
        first_gpu(unreadable={"fan": "Unknown Error"}),
        "warning",
        FIRST,
        "(in fan)",
        "reset",
    ),
    "Reset": (first_gpu(recovery_action="Reset"), "error", FIRST, "asks for: Reset", "nvidia-smi -r -i 0"),
    "Reboot": (first_gpu(recovery_action="Reboot"), "error", FIRST, "asks for: Reboot", "reboot it"),
    "Drain P2P": (first_gpu(recovery_action="Drain P2P"), "error", FIRST, "Drain P2P", "several GPUs"),
    "Drain and Reset": (
        first_gpu(recovery_action="Drain and Reset"),
        "error",
        FIRST,
        "Drain and",
        "running ones may",
    ),
    "remapping failed": (
        first_gpu(remapped_rows_failed=True),
        "error",
        FIRST,
        "could not be remapped",
        "replace",
    ),
    "remapping waits": (
        first_gpu(remapped_rows_pending=True),
        "warning",
        FIRST,
        "wait to be remapped",
        "reset",
    ),
    "pages wait": (first_gpu(retired_pages_pending=True), "error", FIRST, "still in use", "reset"),
    "SRAM": (first_gpu(sram_threshold_exceeded=True), "error", FIRST, "SRAM", "replace"),
    "ECC errors": (first_gpu(ecc_uncorrected_volatile=7), "warning", FIRST, "7 uncorrectable", "Xids"),
    "ECC pending": (
        first_gpu(ecc_mode_pending="Disabled"),
        "warning",
        FIRST,
        "ECC mode is Enabled, and Dis",
        "reset",
    ),
    "MIG pending": (first_gpu(mig_mode_pending="Enabled"), "warning", FIRST, "MIG mode is Disabled", "reset"),
    "MIG without instances": (
        first_gpu(mig_mode="Enabled", mig_mode_pending="Enabled"),
        "error",
        FIRST,
        "without a MIG device",
        "-i 0 -mig 0",
    ),
    "compute mode": (first_gpu(compute_mode="Prohibited"), "error", FIRST, "Prohibited", "-c DEFAULT"),
    "persistence": (
        first_gpu(persistence_mode="Disabled"),
        "warning",
        FIRST,
        "persistence",
        "nvidia-persistenced",
    ),
    "no kernel log": (a_host(log=a_log(log="unreadable")), "warning", "", "cannot be read", "root"),
    "an application's Xid": (
        a_host(log=a_log((31, "MMU Fault"), (31, "MMU Fault: ENGINE GRAPHICS"))),
        "note",
        FIRST,
        "Xid 31 (2 times, last 2026-08-17T00:43Z): memory page fault",
        "compute-sanitizer",
    ),
    "a row waits": (a_host(log=a_log((63, "Row Remapper"))), "warning", FIRST, "Xid 63", "when no job runs"),
    "off the bus": (
        a_host(log=a_log((79, "GPU has fallen off the bus."))),
        "error",
        FIRST,
        "Xid 79",
        "power-cycle",
    ),
    "an Xid of no table": (a_host(log=a_log((999, ""))), "warning", FIRST, "Xid 999", "xid-errors"),
    "the driver's wish": (
        a_host(log=a_log((154, "GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)"))),
        "error",
        FIRST,
        "Node Reboot Required",
        "reboot it",
    ),
    "a container's libraries": (
        a_host(log=a_log(mismatch={"time": 1.0, "client": "535.1", "module": DRIVER})),
        "note",
        "",
        "libraries of 535.1",
        "container",
    ),
    "open modules": (
        a_host(
            log=a_log(
                failures=[
                    {"time": 1.0, "kind": "open_module", "address": FIRST, "text": "requires …"},
                    {"time": 2.0, "kind": "init", "address": FIRST, "text": "RmInitAdapter failed!"},
                ]
            )
        ),
        "error",
        FIRST,
        "needs NVIDIA's open kernel modules",
        "nvidia-open-kernel-dkms",
    ),
    "not initialised": (
        a_host(
            smi=an_smi(a_gpu(1, SECOND)),
            log=a_log(failures=[{"time": 1.0, "kind": "init", "address": FIRST, "text": "(0x62:0x65:2522)"}]),
        ),
        "error",
        FIRST,
        "could not start it (1970-01-01T00:00Z): (0x62:0x65:2522)",
        "reboot",
    ),
    "off the bus before the driver": (
        a_host(log=a_log(failures=[{"time": 1.0, "kind": "off_the_bus", "address": FIRST, "text": "…"}])),
        "error",
        FIRST,
        "it has fallen off the bus",
        "power-cycle",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_one_thing_wrong_is_one_finding(name: str) -> None:
    host, severity, address, what, step = WRONG[name]
    found = findings("n1", host)
    assert [(finding.severity, finding.address) for finding in found] == [(severity, address)]
    assert what in found[0].what
    assert step in found[0].step
    assert found[0].where.startswith("n1")
    assert "{" not in found[0].step


def test_a_gpu_is_named_by_index_and_address() -> None:
    found = findings("n1", first_gpu(persistence_mode="Disabled"))
    assert found[0].where == f"n1, GPU 0 ({FIRST})"
    assert findings("n1", a_host(smi=an_smi(a_gpu())))[0].where == f"n1, GPU {SECOND}"


def test_errors_come_first_and_decide() -> None:
    host = a_host(
        smi=an_smi(a_gpu(persistence_mode="Disabled", recovery_action="Reset"), a_gpu(1, SECOND)),
        log=a_log((13, ""), (63, "")),
    )
    found = findings("n1", host)
    assert [finding.severity for finding in found] == ["error", "warning", "warning", "note"]
    assert worst(found, FIRST) == "error"
    assert worst(found, SECOND) is None


def test_what_concerns_the_node_concerns_each_gpu() -> None:
    found = findings("n1", a_host(smi=an_smi(library_version="1.2")))
    assert worst(found, FIRST) == worst(found, SECOND) == "error"


def test_one_cause_is_not_told_twice() -> None:
    failure = {"time": 9.0, "kind": "off_the_bus", "address": FIRST, "text": "GPU has fallen off the bus."}
    host = a_host(log=a_log((79, "GPU has fallen off the bus."), failures=[failure, failure]))
    assert len(said(host)) == 1


@pytest.mark.parametrize("fact", ["NvidiaSmi", "NvidiaTopology", "XidMessages"])
def test_every_recorded_case_can_be_judged(fact: str) -> None:
    """No state that a fact can have stops the rules, whatever the other facts say."""
    part = {"NvidiaSmi": nvidia_smi, "NvidiaTopology": nvidia_topology, "XidMessages": xid}[fact]
    cases = sorted((ROOT / "tests/facts" / f"gpu.{fact}").glob("*.json"))
    assert cases
    for path in cases:
        case = json.loads(path.read_text())
        if "error" in case:
            continue
        text = (
            (path.parent / case["output_file"]).read_text()
            if "output_file" in case
            else "\n".join(case["output"])
        )
        parsed = part.parse(text)
        whole = a_host()
        host = GpuHost(
            whole.gpus,
            parsed if fact == "NvidiaSmi" else whole.smi,
            parsed if fact == "NvidiaTopology" else whole.topology,
            parsed if fact == "XidMessages" else whole.log,
        )
        for finding in findings("n1", host):
            assert finding.what
            assert finding.step


def test_the_table_of_xids_is_whole() -> None:
    known = known_xids()
    assert {13, 31, 43, 45, 48, 63, 64, 74, 79, 94, 95, 119, 120} <= set(known)
    # What NVIDIA's catalog resolves with a reset, a restart of the node, or power.
    assert {number for number in known if known[number].severity == "error"} == {
        46, 48, 54, 62, 64, 74, 79, 95, 109, 110, 119, 120, 136, 140, 143, *range(144, 152), 154, 155, 156,
        158, 159, 167, 169, 173, 175,
    }  # fmt: skip
    assert all(row.severity in ("error", "warning", "note") for row in known.values())
    assert all(row.meaning and row.step for row in known.values())
    listed = [
        line
        for line in (ROOT / "hpcstate/gpu/xids.toml").read_text().splitlines()
        if line.startswith("numbers")
    ]
    assert sum(len(line.split(",")) for line in listed) == len(known)  # no number twice


def test_a_host_is_read_by_the_commands_of_the_facts() -> None:
    asked: list[str] = []

    def ask(command: str) -> str:
        asked.append(command)
        return ""

    assert findings("n1", read_host(ask)) == ()
    assert asked == [gpu.command(), nvidia_smi.command(), nvidia_topology.command(), xid.command()]
