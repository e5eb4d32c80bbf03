"""What a host must allow before anything is built: said by validate, and by up, start and plan on the way."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate import host_packages, lifecycle, paths, plan, schema, validate, validate_host
from hpcstate.cli import main
from hpcstate.errors import ProblemsError
from hpcstate.libvirt_objects import cluster_uuid
from hpcstate.pcie_request import Finding
from hpcstate.tasks import cluster as tasks
from hpcstate.validate_host import Bridges, HostAccess, findings, reserve_mb, unreadable_for_qemu
from tests.unit.test_validate import HOST

PASSTHROUGH = paths.ROOT / "inventories" / "passthrough.yaml"
GPU = paths.ROOT / "inventories" / "gpu.yaml"


def found(access: HostAccess, memory_mb: int = 1 << 20, file: Path = GPU) -> list[Finding]:
    return list(findings(schema.load(file).clusters, access, memory_mb))


def test_who_may_not_use_libvirt_or_kvm_is_told_how(monkeypatch: pytest.MonkeyPatch) -> None:
    libvirt, kvm = found(HostAccess(user="ann", libvirt="the socket is for group libvirt only", kvm="no"))
    assert "ann may not use libvirt here" in libvirt.message
    assert libvirt.hint == "sudo usermod -aG libvirt ann, then log in again"
    assert "usermod -aG kvm ann" in kvm.hint
    assert not libvirt.is_warning and not kvm.is_warning


def test_a_kvm_that_cannot_be_opened_does_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpuinfo, device = tmp_path / "cpuinfo", tmp_path / "kvm"
    cpuinfo.write_text("flags : fpu vmx\n")
    device.touch()
    assert host_packages.kvm_works(cpuinfo, device)
    assert host_packages.kvm_refused(cpuinfo, device) == ""
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert not host_packages.kvm_works(cpuinfo, device)
    assert host_packages.kvm_refused(cpuinfo, device) == f"{device} cannot be opened"
    cpuinfo.write_text("flags : fpu\n")
    assert host_packages.kvm_refused(cpuinfo, device) == ""


@pytest.mark.parametrize(
    ("interfaces", "networks", "error"),
    [
        (set(), {}, None),
        (set(), None, None),
        ({"virbr150"}, {"virbr150": ("somebody", "1")}, True),
        ({"virbr150"}, {}, True),
        ({"virbr150"}, None, False),
        ({"virbr150"}, {"virbr150": ("gpu", "OURS")}, None),
    ],
    ids=[
        "free",
        "free, libvirt silent",
        "of a network",
        "of the host",
        "of the host, libvirt silent",
        "ours",
    ],
)
def test_a_bridge_of_somebody_else(
    interfaces: set[str], networks: dict[str, tuple[str, str]] | None, error: bool | None
) -> None:
    (cluster,) = schema.load(GPU).clusters
    named = replace(cluster, network=replace(cluster.network, bridge="virbr150"))
    if networks and networks.get("virbr150", ("", ""))[1] == "OURS":
        networks = {"virbr150": ("gpu", cluster_uuid(cluster, "network"))}
    said = list(findings([named], HostAccess(bridges=Bridges(frozenset(interfaces), networks)), 1 << 20))
    if error is None:
        assert said == []
    else:
        (only,) = said
        assert only.place == ".clusters.hpc.network.bridge"
        assert only.is_warning is not error


def test_vfio_pins_memory_that_the_host_needs() -> None:
    (cluster,) = schema.load(PASSTHROUGH).clusters
    pinned = sum(node.memory_mb for node in cluster.nodes if node.passthrough)
    assert reserve_mb(64 * 1024) == 6553
    assert reserve_mb(8 * 1024) == 2048
    (error,) = found(HostAccess(), pinned + 1024, PASSTHROUGH)
    assert not error.is_warning
    assert "it needs" in error.message
    assert found(HostAccess(), pinned + 16 * 1024, PASSTHROUGH) == []


def test_a_rom_file_is_judged_as_the_user_that_qemu_runs_as(tmp_path: Path) -> None:
    conf, off, on = tmp_path / "qemu.conf", tmp_path / "off", tmp_path / "on"
    conf.write_text('#user = "root"\nuser = "nobody"\n')
    off.write_text("N\n")
    on.write_text("Y\n")
    tmp_path.chmod(0o755)
    folder = Path("/var/tmp") / f"hpcstate-test-{os.getpid()}"
    folder.mkdir(mode=0o755)
    try:
        rom = folder / "gpu.rom"
        rom.write_bytes(b"\x55\xaa")
        rom.chmod(0o644)
        assert unreadable_for_qemu(rom, conf, off) == ""
        assert "AppArmor" in unreadable_for_qemu(rom, conf, on)
        rom.chmod(0o600)
        assert unreadable_for_qemu(rom, conf, off) == "nobody may not read it (mode 0600)"
        rom.chmod(0o644)
        folder.chmod(0o700)
        assert unreadable_for_qemu(rom, conf, off) == f"nobody may not enter {folder}"
        conf.write_text('user = "root"\n')
        assert unreadable_for_qemu(rom, conf, off) == ""
        assert unreadable_for_qemu(folder / "none", conf, on) == ""
    finally:
        folder.chmod(0o755)
        rom.unlink()
        folder.rmdir()


REFUSING = replace(HOST, access=HostAccess(user="ann", libvirt="the socket is for group libvirt only"))


def test_the_checks_are_on_the_way_to_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    """`start`, `up` and `plan` ask what `validate` asks, before anything is looked for or built."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("something was started")

    monkeypatch.setattr(validate, "host_state", lambda **_: REFUSING)
    monkeypatch.setattr(lifecycle, "start", never)
    monkeypatch.setattr(tasks, "cluster_file", lambda: GPU)
    with pytest.raises(ProblemsError, match="may not use libvirt"):
        validate.demand(schema.load(GPU), print)
    assert main(["start", str(GPU)]) == 1
    task = tasks.task_start()
    assert task["task_dep"][0] == "host"
    assert "may not use libvirt" in str(tasks._host(GPU))
    assert "may not use libvirt" in plan._obstacles(schema.load(GPU))[0]


def test_warnings_do_not_stop_a_start_and_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    validate.demand(schema.load(GPU), said.append, replace(HOST, memory_mb=100))
    assert any("GiB of memory together" in line for line in said)


def test_this_host_is_looked_at_without_starting_anything() -> None:
    access = validate_host.look()
    assert access.user
    assert "lo" in access.bridges.interfaces
