"""What a disk of somebody stands on: read from its header, whatever that says."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import libvirt
import pytest

from hpcstate.errors import HpcstateError
from hpcstate.hypervisor import removal
from hpcstate.hypervisor.connection import LibvirtHost
from hpcstate.hypervisor.removal import Removal, backing_file
from hpcstate.hypervisor.volumes import LibvirtVolumes
from tests.unit.fake_live import TWO


def qemu_img(*words: str | Path) -> None:
    assert shutil.which("qemu-img")
    subprocess.run(["qemu-img", *words], check=True, capture_output=True)


@pytest.mark.parametrize("named", ["{base}", "base.qcow2", "file:{base}", "json:{{\"driver\":\"qcow2\","
                                   "\"file\":{{\"driver\":\"file\",\"filename\":\"{base}\"}}}}"])  # fmt: skip
def test_what_qemu_wrote_is_read(tmp_path: Path, named: str) -> None:
    base, overlay = tmp_path / "base.qcow2", tmp_path / "overlay.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", base, "1M")
    qemu_img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", named.format(base=base), overlay)
    assert backing_file(overlay) == str(base)
    assert backing_file(base) == ""


@pytest.mark.parametrize(
    "content",
    [b"", b"QFI", b"raw disk, longer than a header", b"QFI\xfb" + struct.pack(">IQI", 3, 1 << 62, 1 << 31)],
)
def test_what_is_no_qcow2_or_damaged_stands_on_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "disk").write_bytes(content)
    assert backing_file(tmp_path / "disk") == ""
    assert backing_file(tmp_path / "none") == ""


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "disk")
    assert backing_file(tmp_path / "disk") == ""


def test_a_disk_that_this_user_may_not_read_may_stand_on_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    disk = tmp_path / "disk"
    disk.touch()
    connection = libvirt.open("test:///default")
    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(HpcstateError, match="cannot be read") as caught:
        removal._with_backing(LibvirtHost(connection, "qemu:///system"), [str(disk)])
    assert caught.value.where == str(disk)
    assert "root" in caught.value.hint
    connection.close()


def test_ports_of_the_hypervisor_go_and_are_named() -> None:
    going = Removal(ports=("hpcstate-port-test-2222",))
    assert going
    assert list(going.lines()) == ["removes ports of the hypervisor: hpcstate-port-test-2222"]


def test_what_stays_keeps_the_keys() -> None:
    assert not Removal(pool="p", network="n").left
    assert Removal(pool="p", staying={"a": "b"}).left
    assert Removal(network="n", guests=("g",)).left


class _Volume:
    def __init__(self, name: str) -> None:
        self.of_name = name

    def name(self) -> str:
        return self.of_name

    def path(self) -> str:
        return f"/pool/{self.of_name}"

    def info(self) -> list[int]:
        return [0, 20 << 30, 3 << 29]

    def XMLDesc(self) -> str:  # libvirt's name
        return "<volume/>"


@pytest.mark.parametrize("data", [False, True])
def test_the_data_volume_stays_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch, data: bool) -> None:
    volumes = [_Volume("controller.qcow2"), _Volume("controller_data.qcow2")]
    connection = libvirt.open("test:///default")
    host = LibvirtHost(connection, "qemu:///system")
    monkeypatch.setattr(LibvirtHost, "domains", lambda *_: {})
    monkeypatch.setattr(LibvirtHost, "network", lambda *_: None)
    monkeypatch.setattr(LibvirtHost, "strangers", lambda *_: [])
    monkeypatch.setattr(LibvirtVolumes, "pool", lambda *_: "pool")
    monkeypatch.setattr(LibvirtVolumes, "made", lambda *_: (volumes, []))
    going = removal.survey(host, TWO, data=data)
    connection.close()
    assert going.volumes == (("controller.qcow2", "controller_data.qcow2") if data else ("controller.qcow2",))
    assert going.spared == (() if data else ("/pool/controller_data.qcow2",))
    assert going.left is not data
    if not data:
        (line,) = going.staying_lines()
        assert "controller_data.qcow2 (Slurm's state" in line and "20 GiB of which 1.5 are used" in line
        assert "`destroy --data` removes it" in line
