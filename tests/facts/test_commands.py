"""Runs the facts' commands for real, with sh: on trees made here, and with stand-ins for Slurm's programs."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from hpcstate.errors import HpcstateError
from hpcstate.probe import boot_tools, cgroup, device_holders, gpu, iommu, munge, pci, pci_use, slurm, vfio
from hpcstate.run import local
from tests.facts.machine import AWKWARD, programs, run, stand_in

TREE = Path(__file__).parent / "q35.tree"
TOOLS = (
    *(
        "awk",
        "basename",
        "cat",
        "date",
        "find",
        "grep",
        "od",
        "readlink",
        "sed",
        "sha256sum",
        "sort",
        "stat",
        "timeout",
    ),
    *("tr", "sh"),
)


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder with the base system's programs that facts use, and no Slurm, dpkg or systemd."""
    return programs(tmp_path / "tools", TOOLS)


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """The tree of q35.tree, below a folder whose name needs quoting."""
    root = tmp_path / AWKWARD
    for line in TREE.read_text().splitlines():
        if line.startswith("#"):
            continue
        if " -> " in line:
            path, target = line.split(" -> ")
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).symlink_to(target)
        else:
            path, content = line.split(": ", 1)
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(content.replace("|", "\n") + "\n")
    return root


def test_pci_devices_of_a_q35_guest(sysfs: Path, tools: Path, tmp_path: Path) -> None:
    names = tmp_path / "pci.ids"
    names.write_text(
        '# List\n1234  Technical Corp.\n\t1111  Device \\a "b"\n\t\t1af4 1100  QEMU\n\tffff  Other\n'
        "C 00  Unclassified\n\t1111  no device\n"
    )
    devices = pci.parse(run(pci.command(str(sysfs), str(names)), tools, tmp_path))
    assert list(devices) == [
        "0000:00:00.0",
        "0000:00:02.0",
        "0000:00:1f.0",
        "0000:00:1f.2",
        "0000:01:00.0",
        "0000:02:00.0",
    ]
    assert devices["0000:01:00.0"] == {
        "address": "0000:01:00.0",
        "class_code": "030000",
        "vendor": "1234",
        "device": "1111",
        "subsystem_vendor": "1af4",
        "subsystem_device": "1100",
        "vendor_name": "Technical Corp.",
        "device_name": 'Device \\a "b"',
        "header_type": -1,
        "physfn": "",
        "driver": "vfio-pci",
        "numa_node": 0,
        "boot_vga": True,
        "reset_methods": ["flr", "bus"],
        "sriov_vfs": 0,
        "bars": [16 << 20, 4096],
        "unassigned": [],
    }
    assert devices["0000:02:00.0"]["driver"] == ""
    assert devices["0000:02:00.0"]["numa_node"] == -1


def test_iommu_groups_of_a_q35_guest(sysfs: Path, tools: Path, tmp_path: Path) -> None:
    command = iommu.command(str(sysfs), str(sysfs / "proc/cmdline"))
    assert iommu.parse(run(command, tools, tmp_path)) == {
        "groups": {
            0: ["0000:00:00.0"],
            1: ["0000:00:02.0"],
            2: ["0000:00:1f.0", "0000:00:1f.2"],
            10: ["0000:01:00.0"],
            11: ["0000:02:00.0"],
        },
        "kernel_arguments": {"intel_iommu": "on", "iommu": "pt"},
        "requested": True,
    }


def test_what_the_host_lives_on(sysfs: Path, tools: Path, tmp_path: Path) -> None:
    for link, target in (
        ("dev/block/254:0", "../../devices/virtual/block/dm-0"),
        ("class/block/sdb", "../../devices/pci0000:00/0000:00:1f.2/ata2/block/sdb"),
        ("class/net/eth0/device", "../../../devices/pci0000:00/0000:00:02.0/0000:02:00.0"),
        ("class/net/br0/lower_eth0", "../eth0"),
        ("devices/virtual/block/dm-0/slaves/sda2", "../../../../pci0000:00/0000:00:1f.2/ata1/block/sda/sda2"),
    ):
        (sysfs / link).parent.mkdir(parents=True, exist_ok=True)
        (sysfs / link).symlink_to(target)
    for folder in ("ata1/block/sda/sda2", "ata2/block/sdb"):
        (sysfs / "devices/pci0000:00/0000:00:1f.2" / folder).mkdir(parents=True)
    (sysfs / "devices/pci0000:00/0000:00:02.0/0000:02:00.0").mkdir(parents=True)
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "net").mkdir()
    (proc / "self/mountinfo").write_text(
        "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/mapper/vg-root rw\n"
        "23 22 0:5 / /dev rw - devtmpfs udev rw\n"
        "24 22 0:41 /@home /home rw shared:9 - btrfs /dev/sdb rw\n"
    )
    (proc / "net/route").write_text("Iface\tDestination\nbr0\t00000000\teth9\neth1\t0000A8C0\n")
    command = pci_use.command(str(sysfs), str(proc), sbin="")
    assert pci_use.parse(run(command, tools, tmp_path)) == {
        "devices": {
            "0000:00:1f.2": ["mounted at /", "mounted at /home"],
            "0000:02:00.0": ["default route by br0"],
        },
        "untraced": {},
    }


def test_who_has_a_gpu_open(sysfs: Path, tools: Path, tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    for pid, name, nodes in (
        (812, "Xorg", ("/dev/dri/card0", "/dev/null")),
        (900, "nvidia-persiste", ("/dev/nvidiactl", "/dev/nvidia1")),
        (1000, "a b", ("/dev/kfd",)),
    ):
        (proc / str(pid) / "fd").mkdir(parents=True)
        (proc / str(pid) / "comm").write_text(f"{name}\n")
        for number, node in enumerate(nodes):
            (proc / str(pid) / "fd" / str(number)).symlink_to(node)
    information = proc / "driver/nvidia/gpus/0000:07:00.0"
    information.mkdir(parents=True)
    (information / "information").write_text("Model: \t\t RTX\nDevice Minor: \t 1\n")
    # A second GPU of NVIDIA's is a guest's: the control device of the first one's driver says nothing of it.
    for driver, address in (
        ("nvidia", "0000:07:00.0"),
        ("amdgpu", "0000:0a:00.0"),
        ("vfio-pci", "0000:09:00.0"),
    ):
        (sysfs / "bus/pci/drivers" / driver / address).mkdir(parents=True)
    (sysfs / "class/drm/card0").mkdir(parents=True)
    target = sysfs / "devices/pci0000:00/0000:00:01.0/0000:01:00.0"
    target.mkdir(parents=True, exist_ok=True)
    (sysfs / "class/drm/card0/device").symlink_to(target)
    found = device_holders.parse(run(device_holders.command(str(sysfs), str(proc)), tools, tmp_path))
    assert {(holder["pid"], holder["command"], holder["node"], holder["address"]) for holder in found} == {
        (812, "Xorg", "/dev/dri/card0", "0000:01:00.0"),
        (900, "nvidia-persiste", "/dev/nvidiactl", "0000:07:00.0"),
        (900, "nvidia-persiste", "/dev/nvidia1", "0000:07:00.0"),
        (1000, "a_b", "/dev/kfd", "0000:0a:00.0"),
    }


def test_how_this_host_boots(tools: Path, tmp_path: Path) -> None:
    entries = tmp_path / "entries"
    entries.mkdir()
    assert "systemd-boot" not in run(boot_tools.command(str(entries)), tools, tmp_path)
    (entries / "debian.conf").write_text("title Debian\n")
    assert "systemd-boot" in boot_tools.parse(run(boot_tools.command(str(entries)), tools, tmp_path))


def test_vfio_of_a_q35_guest(sysfs: Path, tools: Path, tmp_path: Path) -> None:
    for module in ("vfio", "vfio_pci", "virtio"):
        (sysfs / "module" / module).mkdir(parents=True)
    configuration = tmp_path / "hpcstate-vfio.conf"
    configuration.write_text("# devices: 0000:01:00.0 0000:01:00.1\noptions vfio-pci ids=1234:1111\n")
    command = vfio.command(str(sysfs), "/nonexistent", str(configuration))
    assert vfio.parse(run(command, tools, tmp_path)) == {
        "modules": ["vfio", "vfio_pci"],
        "available": True,
        "groups": [],
        "configured": ["0000:01:00.0", "0000:01:00.1"],
    }


def test_the_local_host_is_read_by_the_same_code() -> None:
    devices = pci.parse(local(pci.command()))
    assert sorted(devices) == sorted(path.name for path in Path("/sys/bus/pci/devices").glob("*"))
    groups = iommu.parse(local(iommu.command()))["groups"]
    assert len(groups) == len(list(Path("/sys/kernel/iommu_groups").glob("*")))
    assert cgroup.parse(local(cgroup.command()))["version"] in (0, 1, 2)


def test_absent_things_are_no_errors(tools: Path, tmp_path: Path) -> None:
    nothing = str(tmp_path / "nothing")
    assert pci.parse(run(pci.command(nothing), tools, tmp_path)) == {}
    assert iommu.parse(run(iommu.command(nothing, nothing), tools, tmp_path))["groups"] == {}
    uses = pci_use.parse(run(pci_use.command(nothing, nothing), tools, tmp_path))
    assert uses == {"devices": {}, "untraced": {}}
    assert vfio.parse(run(vfio.command(nothing, nothing, nothing), tools, tmp_path))["available"] is False
    assert cgroup.parse(run(cgroup.command(nothing, nothing), tools, tmp_path))["version"] == 0
    assert munge.parse(run(munge.command(f"{nothing}/munge.key"), tools, tmp_path)) == {}
    assert gpu.parse(run(gpu.command(nothing), tools, tmp_path)) == gpu.parse("")
    assert slurm.parse_files(run(slurm.files_command(nothing), tools, tmp_path)) == {}
    assert slurm.parse_nodes(run(slurm.nodes_command(), tools, tmp_path)) == {}
    assert slurm.parse_running_config(run(slurm.running_config_command(), tools, tmp_path)) == {}
    assert slurm.parse_jobs(run(slurm.jobs_command("compute-01"), tools, tmp_path)) == []
    daemons = slurm.parse_daemons(run(slurm.daemons_command(), tools, tmp_path))
    assert not any(daemon["installed"] for daemon in daemons.values())


CONTENTS = (
    "ClusterName=a\n",
    "no newline at the end",
    "",
    "\n\n\n",
    "==> a <==\r\n\t$(id) `x` Ä 風\n\n",
    "12 ./b.conf\n\nx",
)


@pytest.mark.parametrize("content", CONTENTS)
def test_files_come_back_as_they_are(content: str, tools: Path, tmp_path: Path) -> None:
    directory = tmp_path / AWKWARD
    directory.mkdir()
    files = {"a.conf": content, f"{AWKWARD}.conf": content, "-n.conf": "x\n", "z.conf": content}
    for name, text in files.items():
        (directory / name).write_text(text, newline="")
    (directory / "slurmdbd.conf").write_text("StoragePass=hunter2\n")
    (directory / "key.txt").write_text("not a configuration file\n")
    (directory / "folder.conf").mkdir()
    printed = run(slurm.files_command(str(directory)), tools, tmp_path)
    assert "hunter2" not in printed
    assert slurm.parse_files(printed) == files
    assert slurm.parse_files(printed.removesuffix("\n")) == files  # as from pyinfra, its last line end gone
    assert not list(tmp_path.rglob("pwned"))


def test_a_directory_without_files_has_none(tools: Path, tmp_path: Path) -> None:
    assert slurm.parse_files(run(slurm.files_command(str(tmp_path)), tools, tmp_path)) == {}


def test_a_file_that_is_not_utf8_is_an_error(tools: Path, tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_bytes(b"\xff\xfe\n")
    text = local(slurm.files_command(str(tmp_path)))
    with pytest.raises(HpcstateError, match="bytes were read"):
        slurm.parse_files(text)


@pytest.mark.parametrize("node", ["compute-01", AWKWARD])
def test_jobs_are_asked_of_slurmctld(node: str, tools: Path, tmp_path: Path) -> None:
    stand_in(tools, "scontrol", 'echo "Slurmctld(primary) at controller is UP"')
    stand_in(tools, "squeue", f"printf '%s\\n' \"$@\" >{tmp_path}/asked; echo 12; echo 7")
    assert slurm.parse_jobs(run(slurm.jobs_command(node), tools, tmp_path)) == [7, 12]
    assert f"--nodelist={node}" in (tmp_path / "asked").read_text().splitlines()
    assert not list(tmp_path.rglob("pwned"))


def test_a_failing_squeue_is_not_an_idle_node(tools: Path, tmp_path: Path) -> None:
    stand_in(tools, "scontrol", 'echo "Slurmctld(primary) at controller is UP"')
    stand_in(tools, "squeue", "echo 'slurm_load_jobs error: Protocol authentication error' >&2; exit 1")
    with pytest.raises(HpcstateError, match="Protocol authentication error"):
        slurm.parse_jobs(run(slurm.jobs_command("compute-01"), tools, tmp_path))


def test_with_slurmctld_down_only_the_node_itself_knows_its_jobs(tools: Path, tmp_path: Path) -> None:
    stand_in(tools, "scontrol", 'echo "Slurmctld(primary) at controller is DOWN"; exit 1')
    stand_in(tools, "squeue", f"touch {tmp_path}/asked")
    printed = run(slurm.jobs_command(socket.gethostname().partition(".")[0]), tools, tmp_path)
    assert printed.startswith("slurmstepd ")
    with pytest.raises(HpcstateError, match="slurmctld does not answer"):
        slurm.parse_jobs(run(slurm.jobs_command("compute-99"), tools, tmp_path))
    assert not (tmp_path / "asked").exists()


def test_steps_of_this_host_are_found_by_their_process_title(tools: Path, tmp_path: Path) -> None:
    stand_in(tools, "scontrol", "exit 1")
    step = subprocess.Popen(["slurmstepd: [424242.batch]", "60"], executable=shutil.which("sleep"))
    try:
        node = socket.gethostname().partition(".")[0]
        assert 424242 in slurm.parse_jobs(run(slurm.jobs_command(node), tools, tmp_path))
    finally:
        step.kill()
        step.wait()


def test_a_silent_slurmctld_is_asked_no_more_than_a_ping(tools: Path, tmp_path: Path) -> None:
    stand_in(
        tools, "scontrol", f'echo "$*" >>{tmp_path}/asked; echo "Slurmctld(primary) at c is DOWN"; exit 1'
    )
    assert run(slurm.nodes_command(), tools, tmp_path) == ""
    assert run(slurm.running_config_command(), tools, tmp_path) == ""
    assert (tmp_path / "asked").read_text() == "ping\nping\n"


@pytest.mark.parametrize(("age_s", "read"), [(0, ["slurm.conf"]), (3600, [])])
def test_what_a_daemon_may_have_read(tools: Path, tmp_path: Path, age_s: int, read: list[str]) -> None:
    """A file that was changed now is read by a process that starts now, and by none of an hour ago."""
    stand_in(tools, "systemctl", 'case "$*" in *slurmctld*) echo 42 ;; *) echo 0 ;; esac')
    stand_in(tools, "ps", f'[ "$*" = "-o etimes= -p 42" ] && echo "  {age_s}"')
    folder = tmp_path / AWKWARD
    folder.mkdir(exist_ok=True)
    (folder / "slurm.conf").write_text("ClusterName=a\n")
    (folder / "notes.txt").write_text("x")
    found = slurm.parse_read(run(slurm.read_command(str(folder)), tools, tmp_path))
    assert found == {"slurmctld": read, "slurmd": []}


def test_daemons_are_asked_of_dpkg_and_systemd(tools: Path, tmp_path: Path) -> None:
    stand_in(tools, "dpkg-query", "echo slurmd installed 24.11.5-4; echo 'no packages found' >&2; exit 1")
    stand_in(tools, "systemctl", "printf 'Id=slurmd.service\\nActiveState=active\\nUnitFileState=enabled\\n'")
    daemons = slurm.parse_daemons(run(slurm.daemons_command(), tools, tmp_path))
    assert daemons["slurmd"] == {"installed": True, "version": "24.11.5", "active": True, "enabled": True}
    assert daemons["slurmctld"]["installed"] is False


@pytest.mark.parametrize(
    "command",
    [
        slurm.nodes_command(),
        slurm.jobs_command("a"),
        slurm.running_config_command(),
        slurm.daemons_command(),
        slurm.read_command("a"),
    ],
)
def test_whatever_can_hang_has_a_time_limit(command: str) -> None:
    calls = re.findall(r"(timeout \d+ )?(?:scontrol|squeue|systemctl) (?:ping|show|-)", command)
    assert calls
    assert all(calls)


def test_munge_key(tools: Path, tmp_path: Path) -> None:
    key = tmp_path / AWKWARD / "munge.key"
    key.parent.mkdir()
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    found = munge.parse(run(munge.command(str(key)), tools, tmp_path))
    assert found["sha256"] == hashlib.sha256(key.read_bytes()).hexdigest()
    assert found["mode"] == "400"
    assert found["user"] == key.owner()
    assert not list(tmp_path.rglob("pwned"))


def test_a_hidden_munge_key_is_an_error() -> None:
    nobody = 65534 if os.geteuid() == 0 else None  # root may look into every directory
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        key = Path(root) / "munge" / "munge.key"
        key.parent.mkdir(mode=0o600)
        done = subprocess.run(
            ["/bin/sh", "-c", munge.command(str(key))], user=nobody, capture_output=True, check=True
        )
    with pytest.raises(HpcstateError, match="unreadable"):
        munge.parse(done.stdout.decode())


def test_cgroup_version_2(tools: Path, tmp_path: Path) -> None:
    root = tmp_path / AWKWARD
    root.mkdir()
    (root / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (root / "cgroup.subtree_control").write_text("memory pids\n")
    assert cgroup.parse(run(cgroup.command(str(root)), tools, tmp_path)) == {
        "version": 2,
        "controllers": ["cpuset", "cpu", "io", "memory", "pids"],
        "subtree_control": ["memory", "pids"],
    }


def test_cgroup_version_1(tools: Path, tmp_path: Path) -> None:
    table = tmp_path / "cgroups"
    table.write_text(
        "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t3\t1\nmemory\t0\t1\t1\ndevices\t5\t3\t1\n"
    )
    assert cgroup.parse(run(cgroup.command(str(tmp_path), str(table)), tools, tmp_path)) == {
        "version": 1,
        "controllers": ["cpu", "devices"],
        "subtree_control": [],
    }


def gpu_root(tmp_path: Path, *numbers: int) -> Path:
    """A root with device nodes, for which /dev/null stands in: character device 1:3."""
    root = tmp_path / AWKWARD
    (root / "dev").mkdir(parents=True)
    for number in numbers:
        (root / f"dev/nvidia{number}").symlink_to("/dev/null")
    (root / "dev/nvidiactl").symlink_to("/dev/null")
    return root


def test_simulated_gpus(tools: Path, tmp_path: Path) -> None:
    root = gpu_root(tmp_path, 0, 1, 10)
    (root / "etc/hpcstate").mkdir(parents=True)
    (root / "etc/hpcstate/simulated-gpus.json").write_text('{"gres_type": "simulated",\n "count": 2}')
    assert gpu.parse(run(gpu.command(str(root)), tools, tmp_path))["devices"] == [
        gpu.device_of(f"{root}/dev/nvidia{number}", 1, 3, "simulated", simulated=True) for number in (0, 1)
    ]


def test_gpus_of_the_driver(tools: Path, tmp_path: Path) -> None:
    root = gpu_root(tmp_path, 0, 1)
    driver = root / "proc/driver/nvidia"
    for minor, address in enumerate(("0000:41:00.0", "0000:01:00.0")):
        tree = {
            driver / "gpus" / address / "information": f"Model: \t\t NVIDIA A100-SXM4-40GB\nIRQ:   \t\t 16\n"
            f"Bus Location: \t {address}\nDevice Minor: \t {minor}\nGPU Excluded:\t No\n",
            root / "sys/bus/pci/devices" / address / "vendor": "0x10de\n",
            root / "sys/bus/pci/devices" / address / "device": f"0x280{minor}\n",
            root / "sys/bus/pci/devices" / address / "class": "0x030200\n",
            root / "sys/bus/pci/devices" / address / "local_cpulist": f"{minor}\n",
            root / f"sys/devices/system/cpu/cpu{minor}/topology/core_id": f"{minor}\n",
            root / f"sys/devices/system/cpu/cpu{minor}/topology/physical_package_id": "0\n",
        }
        write_tree(tree)
    caps = driver / "capabilities/gpu0/mig/gi1"
    write_tree(
        {
            driver
            / "version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.163.01  Tue Apr  8 2025\n",
            caps / "access": "DeviceFileMinor: 21\nDeviceFileMode: 292\nDeviceFileModify: 1\n",
            caps / "ci0/access": "DeviceFileMinor: 22\nDeviceFileMode: 292\nDeviceFileModify: 1\n",
            root / "sys/bus/pci/devices/0000:41:00.1/vendor": "0x10de\n",
            root / "sys/bus/pci/devices/0000:41:00.1/class": "0x040300\n",
            root / "usr/lib/x86_64-linux-gnu/slurm-wlm/gpu_nvidia.so": "",
            root / "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1": "",
        }
    )
    stand_in(
        tools,
        "nvidia-smi",
        'case "$*" in *query-gpu*) echo "0, 00000000:41:00.0" ;; "mig -lgi") '
        'echo "|   0  MIG 3g.20gb          9        1          4:4     |" ;; *) exit 2 ;; esac',
    )
    asked = run(gpu.command(str(root)), tools, tmp_path)
    left_out = gpu.parse(asked.replace("\t No\n", "\t Yes\n", 1))
    assert (left_out["excluded"], len(left_out["devices"])) == (["0000:01:00.0"], 1)
    found = gpu.parse(asked)
    assert (found["driver"], found["nodeless"], found["nvml_library"]) == ("550.163.01", [], True)
    assert (found["autodetect"], found["bus"]) == (["nvidia"], ["0000:01:00.0", "0000:41:00.0"])
    assert [(d["file"][-7:], d["gres_type"], d["cores"], d["model"]) for d in found["devices"]] == [
        ("nvidia0", "2800", [0], "NVIDIA A100-SXM4-40GB"),
        ("nvidia1", "2801", [1], "NVIDIA A100-SXM4-40GB"),
    ]
    caps_files = ["/dev/nvidia-caps/nvidia-cap21", "/dev/nvidia-caps/nvidia-cap22"]
    assert found["devices"][0]["mig"] == [
        {"profile": "3g.20gb", "gpu_instance": 1, "compute_instance": 0, "files": caps_files}
    ]
    # An nvidia-smi that waits in the kernel cannot be killed, and timeout(1) waits for its child.
    real = tools / "timeout.real"
    (tools / "timeout").rename(real)
    waits = 'case "$*" in *nvidia-smi*) exec /bin/sleep 15 ;; esac'
    stand_in(tools, "timeout", f'{waits}; shift; exec {real} 0.5 "$@"')
    began = time.monotonic()
    found = gpu.parse(run(gpu.command(str(root)), tools, tmp_path))
    assert time.monotonic() - began < 10
    assert [instance["profile"] for instance in found["devices"][0]["mig"]] == [""]


def write_tree(files: dict[Path, str]) -> None:
    """Write ``files``, with the folders that they are in."""
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
