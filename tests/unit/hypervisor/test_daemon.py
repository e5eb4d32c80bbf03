"""What stands in the place of a /dev/kvm that runs no guest."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate.hypervisor import daemon
from hpcstate.paths import ClusterPaths
from tests.unit.fake_live import TWO


@pytest.fixture
def kvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /dev/kvm that is there and does not work."""
    there = tmp_path / "kvm"
    there.touch()
    monkeypatch.setattr(daemon, "KVM", there)
    monkeypatch.setattr(daemon, "SOCKET", tmp_path / "libvirt-sock")
    monkeypatch.setattr(daemon, "RECORD", tmp_path / "record.json")
    monkeypatch.setattr(daemon, "kvm_works", lambda: False)
    return there


def test_a_broken_kvm_is_hidden_by_what_only_root_may_open(kvm: Path) -> None:
    words = daemon._without_broken_kvm()
    assert words[-1] == str(kvm)
    hiding = Path(words[-2])
    if hiding != Path(os.devnull):  # without the right to make a device
        assert stat.S_ISCHR(hiding.stat().st_mode)
        assert stat.S_IMODE(hiding.stat().st_mode) == 0o600
    daemon.end_daemon(print)
    assert hiding.exists(), "a daemon that somebody else started may have it"
    daemon.RECORD.write_text('{"virtlogd": 999999999}')
    daemon.end_daemon(print)
    assert hiding == Path(os.devnull) or not hiding.exists()


def test_one_that_works_or_is_not_there_is_left_alone(kvm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kvm.unlink()
    assert daemon._without_broken_kvm() == []
    kvm.touch()
    monkeypatch.setattr(daemon, "kvm_works", lambda: True)
    assert daemon._without_broken_kvm() == []


def test_what_a_libvirtd_that_is_off_left_behind(
    kvm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "DEFINED", tmp_path / "defined")
    (tmp_path / "defined").mkdir()
    (tmp_path / "qemu").mkdir()
    assert daemon.has_nothing_of(TWO)
    assert not daemon.has_nothing_of(replace(TWO, uri="qemu+ssh://other/system"))
    (tmp_path / "qemu/test-compute-03.pid").touch()  # another cluster's
    assert daemon.has_nothing_of(TWO)
    runs = tmp_path / "qemu/test-compute-01.pid"
    runs.touch()
    assert not daemon.has_nothing_of(TWO)
    runs.unlink()
    (tmp_path / "defined/test-controller.xml").touch()
    assert not daemon.has_nothing_of(TWO)


def test_where_nobody_may_look_a_started_cluster_may_be_there(
    kvm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: Path) -> bool:
        raise PermissionError

    monkeypatch.setattr(daemon, "_is_there", refused)
    monkeypatch.setattr("hpcstate.paths.BUILD", tmp_path)
    assert daemon.has_nothing_of(TWO)
    key = ClusterPaths.of(TWO.name).ssh_key
    key.parent.mkdir(parents=True)
    key.touch()
    assert not daemon.has_nothing_of(TWO)
