"""vfio_guest.sh against a made-up sysfs and proc: a device that a guest has is not taken from it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from operations import vfio

ADDRESS = "0000:07:00.0"


class Host:
    """A device in IOMMU group 14 that is /dev/vfio/devices/vfio3, too, and process 4711 with some files."""

    def __init__(self, root: Path, *links: str, group: bool = True) -> None:
        self.sysfs, self.proc = root / "sys", root / "proc"
        device = self.sysfs / "bus" / "pci" / "devices" / ADDRESS
        (device / "vfio-dev" / "vfio3").mkdir(parents=True)
        if group:
            (device / "iommu_group").symlink_to("../../../../kernel/iommu_groups/14")
        files = self.proc / "4711" / "fd"
        files.mkdir(parents=True)
        (self.proc / "4711" / "comm").write_text("qemu-system-x86\n")
        for number, link in enumerate(("/dev/null", "/dev/vfio/vfio", *links)):
            (files / str(number)).symlink_to(link)

    def ask(self, path: str | None = None) -> subprocess.CompletedProcess[str]:
        where = {"sysfs": str(self.sysfs), "proc": str(self.proc), "PATH": path or os.environ["PATH"]}
        return subprocess.run(
            ["/bin/sh", "-s", "--", ADDRESS],
            input=vfio.GUEST_PROGRAM,
            env=where,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.mark.parametrize("node", ["/dev/vfio/14", "/dev/vfio/noiommu-14", "/dev/vfio/devices/vfio3"])
def test_a_guest_that_has_the_device_is_named(node: str, tmp_path: Path) -> None:
    done = Host(tmp_path, node, node).ask()
    assert done.returncode == 1
    assert done.stderr == (
        f"a guest has {ADDRESS}: qemu-system-x86 (process 4711) has {node} open: stop it first\n"
    )


def test_without_an_iommu_group_the_device_itself_is_looked_for(tmp_path: Path) -> None:
    assert Host(tmp_path, "/dev/vfio/devices/vfio3", group=False).ask().returncode == 1


@pytest.mark.parametrize("node", ["/dev/vfio/1", "/dev/vfio/140", "/dev/vfio/devices/vfio31"])
def test_other_devices_of_guests_do_not_count(node: str, tmp_path: Path) -> None:
    done = Host(tmp_path, node).ask()
    assert (done.returncode, done.stderr) == (0, "")


def test_a_guest_is_seen_among_more_open_files_than_one_command_takes(tmp_path: Path) -> None:
    """Their names as the arguments of one program are too long for the kernel (E2BIG): nothing was seen."""
    host = Host(tmp_path / ("long" * 40) / ("long" * 40), "/dev/vfio/14")
    files = host.proc / "4711" / "fd"
    for number in range(100, 100 + os.sysconf("SC_ARG_MAX") // len(str(files)) + 100):
        (files / str(number)).symlink_to("/dev/null")
    done = host.ask()
    assert done.returncode == 1
    assert "qemu-system-x86 (process 4711)" in done.stderr


def test_where_nobody_can_look_nothing_is_taken(tmp_path: Path) -> None:
    done = Host(tmp_path).ask(path=str(tmp_path))
    assert done.returncode == 1
    assert "nobody can tell whether a guest has it" in done.stderr
