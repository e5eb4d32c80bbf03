"""Runs the commands of the NVIDIA facts for real, with stand-ins for NVIDIA's and systemd's programs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hpcstate.probe import nvidia_smi, nvidia_topology, xid
from tests.facts.machine import AWKWARD, programs, run, stand_in

TOOLS = ("awk", "cat", "readlink", "sh", "sleep", "timeout")
CASES = Path(__file__).parent


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder with the base system's programs, and neither nvidia-smi nor a journal."""
    return programs(tmp_path / "tools", TOOLS)


def smi(tools: Path, case: str, *, code: int = 0, listing: str = "") -> None:
    """An nvidia-smi that prints the XML of a recorded case, and notes how it is asked."""
    lines = (CASES / "gpu.NvidiaSmi" / f"{case}.txt").read_text().splitlines()
    start, end = lines.index("== query") + 1, lines.index(f"== end {code}")
    (tools / "log.xml").write_text("\n".join(lines[start:end]) + "\n")
    (tools / "list.txt").write_text(listing)
    stand_in(
        tools,
        "nvidia-smi",
        f'cd {tools}; echo "$*" >>asked; f=log.xml; [ "$1" != -L ] || f=list.txt; cat $f; exit {code}',
    )


def test_nothing_of_nvidia_is_no_error(tools: Path, tmp_path: Path) -> None:
    assert run(nvidia_smi.command(str(tmp_path)), tools, tmp_path) == ""
    assert run(nvidia_topology.command(), tools, tmp_path) == ""
    assert xid.parse(run(xid.command(), tools, tmp_path))["log"] == "unreadable"


def test_a_gpu_without_mig_is_asked_once(tools: Path, tmp_path: Path) -> None:
    smi(tools, "normal_turing_418")
    found = nvidia_smi.parse(run(nvidia_smi.command(str(tmp_path)), tools, tmp_path))
    assert (found["state"], [gpu["address"] for gpu in found["gpus"]]) == ("ok", ["0000:43:00.0"])
    assert (tools / "asked").read_text() == "-q -x\n"


def test_mig_devices_are_named_by_the_list(tools: Path, tmp_path: Path) -> None:
    uuid = "GPU-27b94a00-ed54-5c24-b1fd-1054085de32a"
    smi(
        tools,
        "normal_a100_mig_510",
        listing=f"GPU 0: A100 (UUID: {uuid})\n  MIG 3g.20gb     Device  1: (UUID: MIG-a)\n",
    )
    found = nvidia_smi.parse(run(nvidia_smi.command(str(tmp_path)), tools, tmp_path))
    assert [(device["profile"], device["uuid"]) for device in found["gpus"][0]["mig_devices"]] == [
        ("", ""),
        ("3g.20gb", "MIG-a"),
    ]
    assert (tools / "asked").read_text() == "-q -x\n-L\n"


def test_clocks_and_processes_do_not_leave_the_node(tools: Path, tmp_path: Path) -> None:
    smi(tools, "normal_turing_418")
    log = tools / "log.xml"
    added = (
        "<supported_clocks>\n<supported_mem_clock>\n5001 MHz</value>\n</supported_mem_clock>\n"
        "</supported_clocks>\n<processes>\n<process_info><process_name>sh & <secret>\n</process_info>\n"
        "</processes>\n<accounted_processes>\n</accounted_processes>\n<supported_clocks>N/A</supported_clocks>\n"
    )
    log.write_text(log.read_text().replace("\t</gpu>\n", f"{added}\t<serial>1</serial>\n\t</gpu>\n"))
    printed = run(nvidia_smi.command(str(tmp_path)), tools, tmp_path)
    assert "secret" not in printed
    assert "5001" not in printed
    assert "<serial>1</serial>" in printed
    assert nvidia_smi.parse(printed)["state"] == "ok"


def test_the_library_is_known_by_its_file(tools: Path, tmp_path: Path) -> None:
    root = tmp_path / AWKWARD
    folder = root / "usr/lib/x86_64-linux-gnu"
    (folder / "nvidia").mkdir(parents=True)
    (folder / "nvidia/libnvidia-ml.so.550.163.01").touch()
    (folder / "libnvidia-ml.so.1").symlink_to("nvidia/libnvidia-ml.so.550.163.01")
    found = nvidia_smi.parse(run(nvidia_smi.command(str(root)), tools, tmp_path))
    assert (found["state"], found["library_version"]) == ("absent", "550.163.01")


@pytest.mark.parametrize("code", [1, 9, 18, 255])
def test_a_failure_is_told_and_ends_well(code: int, tools: Path, tmp_path: Path) -> None:
    stand_in(tools, "nvidia-smi", f"echo it failed >&2; exit {code}")
    found = nvidia_smi.parse(run(nvidia_smi.command(str(tmp_path)), tools, tmp_path))
    assert (found["state"], found["code"], found["message"]) == ("failed", code, "it failed")
    topology = nvidia_topology.parse(run(nvidia_topology.command(), tools, tmp_path))
    assert (topology["state"], topology["message"]) == ("failed", "it failed")


def test_one_that_hangs_is_ended(tools: Path, tmp_path: Path) -> None:
    stand_in(tools, "nvidia-smi", "echo half; exec sleep 30")
    began = time.monotonic()
    found = nvidia_smi.parse(run(nvidia_smi.command(str(tmp_path), limit=1), tools, tmp_path))
    assert (found["state"], found["code"]) == ("timeout", 124)
    assert time.monotonic() - began < 5


def test_one_that_cannot_be_killed_is_left(tools: Path, tmp_path: Path) -> None:
    real = tools / "timeout.real"
    (tools / "timeout").rename(real)
    stand_in(tools, "timeout", f'case "$*" in *nvidia-smi*) exec sleep 30 ;; esac; exec {real} "$@"')
    stand_in(tools, "nvidia-smi", "exit 0")
    began = time.monotonic()
    found = nvidia_smi.parse(run(nvidia_smi.command(str(tmp_path), limit=1), tools, tmp_path))
    assert (found["state"], found["code"]) == ("timeout", -1)
    assert time.monotonic() - began < 10


def test_the_topology_comes_with_its_tabs_and_escapes(tools: Path, tmp_path: Path) -> None:
    recorded = (CASES / "gpu.NvidiaTopology/quoting_escapes.txt").read_text()
    (tools / "matrix").write_text(recorded.removeprefix("== topo\n").partition("== end")[0])
    stand_in(tools, "nvidia-smi", f'[ "$*" = "topo -m" ] && cat {tools}/matrix')
    printed = run(nvidia_topology.command(), tools, tmp_path)
    assert nvidia_topology.parse(printed) == nvidia_topology.parse(recorded)


JOURNAL = (
    "1.0 n kernel: NVRM: loading NVIDIA UNIX x86_64 Kernel Module  550.163.01",
    "2.0 n kernel: NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus.",
    "3.0 n kernel: NVRM: The NVIDIA GPU 0000:b3:00.0",
    "              NVRM: (PCI ID: 10de:26b5) installed in this system has",
    "              NVRM: fallen off the bus and is not responding to commands.",
    "4.0 n kernel: usb 1-1: new device, NVRM:",
)


def journal(tools: Path, lines: tuple[str, ...]) -> None:
    (tools / "kernel.log").write_text("\n".join(lines) + "\n")
    stand_in(tools, "journalctl", f'echo "$*" >>{tools}/asked; cat {tools}/kernel.log')


def test_the_journal_of_this_boot_is_read(tools: Path, tmp_path: Path) -> None:
    journal(tools, JOURNAL)
    log = xid.parse(run(xid.command(), tools, tmp_path))
    assert log["log"] == "journal"
    assert [(entry["time"], entry["number"]) for entry in log["xids"]] == [(2.0, 79)]
    assert [(failure["kind"], failure["address"]) for failure in log["failures"]] == [
        ("off_the_bus", "0000:b3:00.0")
    ]
    asked = (tools / "asked").read_text().splitlines()
    assert all(line.startswith("-k -b -q --no-pager") for line in asked)


def test_dmesg_is_read_where_there_is_no_journal(tools: Path, tmp_path: Path) -> None:
    stand_in(tools, "journalctl", "echo 'No journal files were found.' >&2; exit 1")
    stand_in(
        tools,
        "dmesg",
        '[ "$*" = "--time-format iso" ] || exit 1\n'
        "echo '2026-08-17T00:30:43,308145+00:00 NVRM: Xid (PCI:0000:01:00): 31, pid=7, name=a b, Ch 8'",
    )
    log = xid.parse(run(xid.command(), tools, tmp_path))
    assert (log["log"], log["xids"][0]["process"], log["xids"][0]["text"]) == ("dmesg", "a b", "Ch 8")
    assert log["xids"][0]["time"] == 1786926643.308145


def test_a_flood_of_messages_hides_no_xid(tools: Path, tmp_path: Path) -> None:
    mismatch = (
        "NVRM: API mismatch: the client has the version 1.1, but\n"
        "          NVRM: this kernel module has the version 1.2."
    )
    flood = tuple(f"{number}.0 n kernel: {mismatch}" for number in range(10, 10 + xid.KEPT))
    journal(tools, (JOURNAL[1], *flood))
    log = xid.parse(run(xid.command(), tools, tmp_path))
    assert [entry["number"] for entry in log["xids"]] == [79]
    assert log["mismatch"] == {"time": 9.0 + xid.KEPT, "client": "1.1", "module": "1.2"}


def test_a_flood_of_one_xid_is_counted_and_hides_no_other(tools: Path, tmp_path: Path) -> None:
    nonfatal = "145, RLW_RSPCOL Nonfatal XC0 i0 Link 3 (0x00000005 0x00000001 0x0 0x"
    once = (
        "1.0 n kernel: NVRM: Xid (PCI:0000:02:00): 48, pid=7, name=a, b, An uncorrectable error",
        "2.0 n kernel: NVRM: Xid (PCI:0000:01:00): 145, RLW_REMAP Fatal XC0 i0 Link 3 (0x04 0x40 0x0)",
        "3.0 n kernel: nvidia-nvswitch3: SXid (PCI:0000:c5:00.0): 20034, Fatal, Link 30 LTSSM Fault Up",
    )
    flood = [
        f"{10 + at}.0 n kernel: NVRM: Xid (PCI:0000:01:00): "
        + (f"31, pid={at}, name=p{at}, Ch {at:08x}" if at % 2 else f"{nonfatal}{at:x})")
        for at in range(6000)
    ]
    journal(tools, (*once, *flood))
    log = xid.parse(run(xid.command(), tools, tmp_path))
    assert [(entry["address"], entry["number"], entry["times"]) for entry in log["xids"]] == [
        ("0000:02:00.0", 48, 1),
        ("0000:01:00.0", 145, 1),
        ("0000:01:00.0", 145, 3000),
        ("0000:01:00.0", 31, 3000),
    ]
    assert [entry["time"] for entry in log["xids"]] == [1.0, 2.0, 6008.0, 6009.0]
    assert [entry["number"] for entry in log["switches"]] == [20034]


def test_messages_of_several_lines_stay_whole(tools: Path, tmp_path: Path) -> None:
    lines = [
        f"{at}.0 n kernel: NVRM: This PCI I/O region assigned to your NVIDIA device is invalid:\n"
        f"             NVRM: BAR1 is 0M @ 0x0 (PCI:0000:0{1 + at % 2}:00.0)"
        for at in range(6)
    ]
    journal(tools, tuple(lines))
    log = xid.parse(run(xid.command(), tools, tmp_path))
    assert [(failure["kind"], failure["address"]) for failure in log["failures"]] == [
        ("bar", "0000:01:00.0"),
        ("bar", "0000:02:00.0"),
    ]


FAILURES = (
    # kernel-open/nvidia/nv-pci.c of 595, and the kernel's own line of a device that does not wake up
    ("NVRM: This PCI I/O region assigned to your NVIDIA device is invalid:", ""),
    ("NVRM: BAR1 is 131072M @ 0x0 (PCI:0000:01:00.0)", "bar"),
    ("NVRM: FATAL: Failed to re-allocate BAR1.", "bar"),
    ("NVRM: pci_enable_device failed, aborting", "init"),
    ("NVRM: Can't find an IRQ for your NVIDIA card!", "init"),
    ("NVRM: request_mem_region failed for 16M @ 0xfb000000. This can", "init"),
    (
        "nvidia 0000:01:00.0: Unable to change power state from D3cold to D0, device inaccessible",
        "off_the_bus",
    ),
    ("nvme 0000:02:00.0: Unable to change power state from D3cold to D0, device inaccessible", ""),
    ("nvidia 0000:01:00.0: enabling device (0000 -> 0003)", ""),
)


def test_each_failure_reaches_the_facts(tools: Path, tmp_path: Path) -> None:
    lines = [f"{at}.0 n kernel: {line}" for at, (line, _) in enumerate((*FAILURES, *FAILURES))]
    journal(tools, tuple(lines))
    log = xid.parse(run(xid.command(), tools, tmp_path))
    assert [failure["kind"] for failure in log["failures"]] == [kind for _, kind in FAILURES if kind]


def test_kinds_are_bounded(tools: Path, tmp_path: Path) -> None:
    lines = [
        f"{at}.0 n kernel: NVRM: Xid (PCI:0000:01:00): 31, {'abcdefghij'[at % 10]} {'klmnopqrst'[at // 10]}"
        for at in range(100)
    ]
    journal(tools, tuple(lines))
    command = xid.command().replace(str(xid.KEPT), "10")
    log = xid.parse(run(command, tools, tmp_path))
    assert [entry["times"] for entry in log["xids"]] == [1] * 10 + [90]
