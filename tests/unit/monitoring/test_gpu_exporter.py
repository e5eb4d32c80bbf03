"""Metrics of GPUs: what real nvidia-smi and kernels said, and what a node tells of it.

recorded/smi_*.xml are shortened from telegraf's plugins/inputs/nvidia_smi/testdata (MIT licence):
tesla-t4.xml, a100-sxm4-v12.xml, pro-6000-maxq-blackwell-v13.xml.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from hpcstate.monitoring import gpu_exporter
from hpcstate.monitoring.exporter import Sample
from hpcstate.monitoring.gpu_exporter import Asked, bus_id, gpus, simulated
from hpcstate.paths import TEMPLATES

RECORDED = Path(__file__).parent / "recorded"
LOST = "Unable to determine the device handle for GPU 0000:0B:00.0: Unknown Error"
"""NVIDIA/open-gpu-kernel-modules issue 387; nvidia-smi(1) has the exit code."""

GPU = "00000000:41:00.0"
KERNEL = """NVRM: loading NVIDIA UNIX x86_64 Kernel Module  550.163.01
NVRM: Xid (PCI:0000:41:00): 31, pid=1883, name=python3, Ch 00000008, MMU Fault
NVRM: Xid (PCI:0000:41:00): 31, pid=1883, name=python3, Ch 00000008, MMU Fault
NVRM: Xid (PCI:0000:41:00 GPU-I:05): 43, pid=1900, name=python3, Ch 00000010
something else: Xid 79
-- cursor: s=6f;i=1
"""


def by_name(samples: list[Sample]) -> dict[str, float]:
    assert len({(each.name, each.labels) for each in samples}) == len(samples)
    return {each.name: each.value for each in samples}


def answers(samples: list[Sample]) -> dict[str, float]:
    return {dict(each.labels)["command"]: each.value for each in samples if "answers" in each.name}


def program(folder: Path, name: str, script: str) -> tuple[str, ...]:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return (str(path),)


def says(folder: Path, name: str, text: str, code: int = 0) -> tuple[str, ...]:
    (folder / f"{name}.said").write_text(text)
    return program(folder, name, f"cat {folder}/{name}.said; exit {code}")


def driver(folder: Path, *addresses: str) -> Path:
    for address in addresses:
        (folder / "gpus" / address).mkdir(parents=True)
    return folder / "gpus"


@pytest.mark.parametrize(
    ("file", "expected", "absent"),
    [
        (
            "smi_t4_515.xml",
            {
                "POWER_USAGE": 26.78,
                "ENFORCED_POWER_LIMIT": 70,
                "GPU_TEMP": 40,
                "FB_USED": 1032,
                "FB_FREE": 13939,
                "SM_CLOCK": 585,
                "GPU_UTIL": 0,
                "CLOCKS_EVENT_REASONS": 0,
                "ECC_DBE_VOL_TOTAL": 0,
                "RETIRED_PENDING": 0,
            },
            {"MEMORY_TEMP", "ROW_REMAP_FAILURE"},
        ),
        (
            # The whole GPU's memory, not that of its first instance; MIG has no utilization.
            "smi_a100_mig_535.xml",
            {"FB_USED": 50, "MEMORY_TEMP": 44, "POWER_USAGE": 67.03, "ENFORCED_POWER_LIMIT": 500},
            {"GPU_UTIL", "MEM_COPY_UTIL", "RETIRED_PENDING"},
        ),
        (
            "smi_blackwell_590.xml",
            {
                "POWER_USAGE": 3.97,
                "ENFORCED_POWER_LIMIT": 300,
                "ROW_REMAP_FAILURE": 0,
                "ROW_REMAP_PENDING": 0,
                "UNCORRECTABLE_REMAPPED_ROWS": 0,
            },
            {"ECC_DBE_VOL_TOTAL", "ECC_SBE_VOL_TOTAL", "MEMORY_TEMP"},
        ),
    ],
)
def test_what_drivers_of_ten_years_say_becomes_dcgms_names(
    file: str, expected: dict[str, float], absent: set[str]
) -> None:
    found = by_name(list(gpus((RECORDED / file).read_text())))
    assert {name: found[f"DCGM_FI_DEV_{name}"] for name in expected} == expected
    assert not {f"DCGM_FI_DEV_{name}" for name in absent} & found.keys()


def test_the_labels_are_those_of_dcgm_exporter() -> None:
    sample = next(
        each for each in gpus((RECORDED / "smi_a100_mig_535.xml").read_text()) if "SM_" in each.name
    )
    assert dict(sample.labels) == {
        "gpu": "0",
        "UUID": "GPU-513536b6-7d19-9063-b049-1e69664bb298",
        "pci_bus_id": "00000000:01:00.0",
        "device": "nvidia1",
        "modelName": "NVIDIA A100-SXM4-80GB",
    }


def test_each_reason_for_lower_clocks_is_its_bit_of_nvml() -> None:
    text = (RECORDED / "smi_a100_mig_535.xml").read_text()
    for reason, bit in gpu_exporter.REASONS.items():
        element = f"clocks_event_reason_{reason}>"
        if element in text:
            changed = text.replace(f"<{element}Not Active<", f"<{element}Active<")
            assert by_name(list(gpus(changed)))["DCGM_FI_DEV_CLOCKS_EVENT_REASONS"] == bit


def test_the_fields_that_dcgm_is_asked_for_are_those_that_we_tell_of() -> None:
    template = (TEMPLATES / "monitoring" / "dcgm.csv.j2").read_text()
    rows = [line.split(",") for line in template.splitlines() if not line.startswith("#")]
    assert all(len(row) >= 3 and row[1].strip() in ("gauge", "counter") for row in rows)
    dcgm = {row[0] for row in rows}
    told = set(gpu_exporter._NUMBERS) | set(gpu_exporter._FLAGS) | set(gpu_exporter._ERRORS)
    told |= {"DCGM_FI_DEV_CLOCKS_EVENT_REASONS", "DCGM_FI_DEV_XID_ERRORS"}
    assert told <= dcgm
    # nvidia-smi has no such counters.
    assert dcgm - told == {"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0000:41:00", GPU),
        ("0000:41:00.0", GPU),
        ("00000000:41:00.0", GPU),
        ("41:00.0", GPU),
        ("0:0a:00", "00000000:0A:00.0"),
    ],
)
def test_an_address_is_spelled_as_dcgm_does(text: str, expected: str) -> None:
    assert bus_id(text) == expected


def asked(
    tmp_path: Path, smi: tuple[str, ...], log: tuple[str, ...], *, whole: bool = True, limit: float = 20
) -> Asked:
    return Asked(
        whole=whole,
        command=smi,
        log=log,
        driver=driver(tmp_path, "0000:41:00.0", "0000:42:00.0"),
        limit=limit,
    )


def test_xids_are_counted_by_gpu_though_their_number_stays_the_same(tmp_path: Path) -> None:
    smi = (RECORDED / "smi_t4_515.xml").read_text().replace("00:1E.0", "41:00.0")
    ask = asked(tmp_path, says(tmp_path, "smi", smi), says(tmp_path, "log", KERNEL))
    xids = [each for each in ask() if each.name == "hpcstate_gpu_xids_total"]
    # One without any has a series too: its first one is a change.
    assert {dict(each.labels)["pci_bus_id"]: each.value for each in xids} == {GPU: 3, "00000000:42:00.0": 0}
    again = by_name([each for each in ask() if each.name == "DCGM_FI_DEV_XID_ERRORS"])
    assert again == {"DCGM_FI_DEV_XID_ERRORS": 43}


def test_the_log_is_read_on_from_where_it_was_read(tmp_path: Path) -> None:
    log = program(
        tmp_path,
        "log",
        f'echo "$*" >>{tmp_path}/calls\ncase $* in *after-cursor*) echo "NVRM: Xid (PCI:0000:41:00): 79";'
        f' echo "-- cursor: s=2" ;; *) cat {tmp_path}/kernel ;; esac',
    )
    (tmp_path / "kernel").write_text(KERNEL)
    ask = asked(tmp_path, ("false",), log, whole=False)
    counts = [
        by_name([each for each in ask() if dict(each.labels).get("pci_bus_id") == GPU]) for _ in range(3)
    ]
    assert [each["hpcstate_gpu_xids_total"] for each in counts] == [3, 4, 5]
    assert (tmp_path / "calls").read_text().split() == ["--after-cursor=s=6f;i=1", "--after-cursor=s=2"]


@pytest.mark.parametrize(
    ("text", "code"),
    [(LOST, 15), ("NVIDIA-SMI has failed because it couldn't communicate", 9), ("", 0), ("<a>", 0)],
)
def test_an_nvidia_smi_that_fails_is_told_and_nothing_old_with_it(
    tmp_path: Path, text: str, code: int
) -> None:
    ask = asked(tmp_path, says(tmp_path, "smi", text, code), says(tmp_path, "log", KERNEL))
    found = ask()
    assert answers(found) == {"nvidia-smi": 0, "journalctl": 1}
    assert not [each for each in found if each.name.startswith("DCGM")]


def test_an_nvidia_smi_that_hangs_is_given_up_and_no_second_one_is_started(tmp_path: Path) -> None:
    smi = program(tmp_path, "smi", f"echo x >>{tmp_path}/started\ntrap '' TERM\nexec sleep 30")
    ask = asked(tmp_path, smi, says(tmp_path, "log", KERNEL), limit=0.3)
    # As one that waits in the kernel: it does not end when it is killed.
    hung = subprocess.Popen(["sleep", "30"])
    try:
        began = time.monotonic()
        assert answers(ask()) == {"nvidia-smi": 0, "journalctl": 1}
        assert time.monotonic() - began < 10
        ask._hung = hung  # type: ignore[assignment]
        assert answers(ask()) == {"nvidia-smi": 0, "journalctl": 1}
        assert (tmp_path / "started").read_text() == "x\n"
    finally:
        hung.kill()
        hung.wait()


def test_a_log_that_is_not_to_be_read_is_told(tmp_path: Path) -> None:
    ask = asked(tmp_path, ("false",), ("true",), whole=False)
    assert by_name(ask()) == {"hpcstate_gpu_answers": 0}


def test_simulated_gpus_are_marked_and_have_no_temperature(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    found = simulated(tmp_path)
    assert {dict(each.labels)["gpu"] for each in found} == {"0", "1"}
    assert all(dict(each.labels)["simulated"] == "true" and each.value == 0 for each in found)
    assert "DCGM_FI_DEV_GPU_TEMP" not in {each.name for each in found}


@pytest.mark.skipif(shutil.which("journalctl") is None, reason="journalctl is not installed here")
def test_journalctl_knows_the_words() -> None:
    """The real one: a word that it does not know is an error of its own."""
    done = subprocess.run(
        [*gpu_exporter._LOG, "--after-cursor=s=1"], capture_output=True, text=True, check=False
    )
    assert "unrecognized option" not in done.stderr and "invalid option" not in done.stderr
