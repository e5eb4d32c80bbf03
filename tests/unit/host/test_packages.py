"""Which Debian packages this machine lacks, and the words that apt gets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate.errors import HpcstateError
from hpcstate.host import packages as host_packages
from hpcstate.host import tools
from hpcstate.host.packages import Apt, Host, decide

WANTED = tools.load()
QEMU = WANTED.backports[0]


def host(codename: str, *, kvm: bool = False, without: str = "", qemu: str = "1:10.0.2+ds-2") -> Host:
    """A host of ``codename`` that has every package but ``without``."""
    names = {package.name for package in WANTED.packages if codename in package.releases} - {without}
    versions = {name: qemu if name.startswith("qemu") else "1.0" for name in names}
    return Host("debian", codename, versions, kvm)


@pytest.fixture
def fetched(tmp_path: Path) -> Path:
    """A tools folder that has every package file."""
    for deb in WANTED.debs.values():
        program = deb.root(tmp_path) / deb.program
        program.parent.mkdir(parents=True)
        program.touch()
    return tmp_path


@pytest.mark.parametrize("codename", ["bookworm", "trixie"])
def test_nothing_is_missing_where_everything_is_there(codename: str, fetched: Path) -> None:
    assert decide(WANTED, host(codename), fetched).empty


def test_one_missing_package_is_named_with_its_reason(fetched: Path) -> None:
    plan = decide(WANTED, host("trixie", without="xorriso"), fetched)
    assert [(package.name, package.why) for package in plan.packages] == [
        ("xorriso", "writes the cloud-init seed of a node")
    ]
    assert not plan.empty


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (host("bookworm", qemu="1:7.2+dfsg-7+deb12u18"), (QEMU,)),
        (host("bookworm", without="qemu-utils"), (QEMU,)),
        (host("bookworm", qemu="1:10.0.2+ds-2+deb13u1~bpo12+1"), ()),
        (host("bookworm", qemu="1:7.2+dfsg-7+deb12u18", kvm=True), ()),
        (host("trixie", qemu="1:10.0.13+ds-0+deb13u1"), ()),
        (host("trixie", without="qemu-utils"), ()),
    ],
)
def test_a_newer_qemu_is_taken_only_on_debian_12_without_kvm(
    machine: Host, expected: tuple[tools.Backport, ...], fetched: Path
) -> None:
    assert decide(WANTED, machine, fetched).backports == expected


def test_packer_is_fetched_on_debian_13_only_and_apptainer_only_when_asked_for(tmp_path: Path) -> None:
    assert [deb.name for deb in decide(WANTED, host("trixie"), tmp_path).debs] == ["packer"]
    assert decide(WANTED, host("bookworm"), tmp_path).debs == ()


@pytest.mark.parametrize(
    ("distribution", "codename", "named"),
    [
        ("ubuntu", "noble", "ubuntu noble"),
        ("debian", "forky", "debian forky"),
        ("debian", "", "debian;"),
        ("", "", "an unknown system"),
    ],
)
def test_other_systems_are_refused_by_name(
    distribution: str, codename: str, named: str, tmp_path: Path
) -> None:
    machine = replace(host("trixie"), distribution=distribution, codename=codename)
    with pytest.raises(HpcstateError, match=named):
        decide(WANTED, machine, tmp_path)


@pytest.mark.parametrize(
    ("flags", "device", "expected"),
    [("fpu vmx sse", True, True), ("fpu svm", True, True), ("fpu sse", True, False),
     ("fpu vmx", False, False), ("fpu vmxfoo", True, False)],
)  # fmt: skip
def test_kvm_needs_the_processors_flag_and_the_device(
    tmp_path: Path, flags: str, device: bool, expected: bool
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\nvmx flags\t: ept\n", encoding="utf-8")
    kvm = tmp_path / "kvm"
    if device:
        kvm.touch()
    assert host_packages.kvm_works(cpuinfo, kvm) is expected


MADISON = """\
qemu-utils | 1:10.0.2+ds-2+deb13u1~bpo12+1 | http://a.example bookworm-backports/main amd64 Packages
qemu-utils | 1:7.2+dfsg-7+deb12u18+b3 | http://a.example bookworm/main amd64 Packages
"""


@pytest.mark.parametrize(
    ("suite", "expected"),
    [
        ("bookworm-backports", "1:10.0.2+ds-2+deb13u1~bpo12+1"),
        ("bookworm", "1:7.2+dfsg-7+deb12u18+b3"),
        ("trixie", None),
    ],
)
def test_the_version_of_a_suite(suite: str, expected: str | None) -> None:
    assert host_packages.candidate(MADISON, suite) == expected


def test_the_sources_entry_is_one_of_the_hosts_mirror() -> None:
    lines = host_packages.sources_entry("http://mirror.example/debian", QEMU).splitlines()
    assert lines[0].startswith("# Written by hpcstate: ")
    assert "URIs: http://mirror.example/debian" in lines
    assert "Suites: bookworm-backports" in lines
    assert f"Signed-By: {host_packages.KEYRING}" in lines


@pytest.mark.parametrize(
    ("version", "other", "expected"),
    [("1:7.2+dfsg-7", "1:10.0", True), ("1:10.0.2~bpo12+1", "1:10.0", False), ("1:10.0", "1:10.0", False)],
)
def test_versions_are_compared_as_dpkg_does(version: str, other: str, expected: bool) -> None:
    assert host_packages.older(version, other) is expected


def fake_root(tmp_path: Path, script: str) -> Apt:
    """apt-get in the hands of a program that stands for sudo: ``script`` sees the command as its words."""
    sudo = tmp_path / "sudo"
    sudo.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    sudo.chmod(0o755)
    return Apt((str(sudo),))


def test_apt_asks_nothing_and_takes_only_what_is_needed(tmp_path: Path) -> None:
    apt = fake_root(tmp_path, f'echo "$*" >>{tmp_path}/log')
    apt.update()
    apt.install(["qemu-utils"], "bookworm-backports")
    update, install = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    assert "DEBIAN_FRONTEND=noninteractive" in update
    assert update.endswith(" update")
    assert "--no-install-recommends" in install
    assert install.endswith(" install -t bookworm-backports qemu-utils")


def test_a_failure_shows_what_apt_said_now_and_at_the_update(tmp_path: Path) -> None:
    script = """
case "$*" in
*update) echo 'W: Failed to fetch the index' >&2 ;;
*) echo 'xorriso : Depends: libburn4'; echo 'E: held broken packages' >&2; exit 100 ;;
esac"""
    apt = fake_root(tmp_path, script)
    apt.update()
    with pytest.raises(HpcstateError) as caught:
        apt.install(["xorriso"])
    for part in ("exited with 100", "Depends: libburn4", "held broken", "Failed to fetch the index"):
        assert part in caught.value.message
    assert "`apt-get install xorriso`" in caught.value.hint


def test_a_file_below_etc_is_written_with_the_same_rights(tmp_path: Path) -> None:
    apt = fake_root(tmp_path, 'exec "$@"')
    path = tmp_path / "sources"
    apt.write(path, "Types: deb\n")
    assert path.read_text(encoding="utf-8") == "Types: deb\n"


@pytest.mark.parametrize(
    ("machine", "command"),
    [
        (host("trixie", without="zstd"), "apt-get install --no-install-recommends zstd"),
        (
            host("bookworm", without="qemu-utils"),
            "apt-get install --no-install-recommends -t bookworm-backports qemu-system-x86 qemu-utils",
        ),
    ],
)
def test_without_rights_the_command_for_root_is_named(
    monkeypatch: pytest.MonkeyPatch, fetched: Path, machine: Host, command: str
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(HpcstateError) as caught:
        Apt.with_rights(decide(WANTED, machine, fetched, lambda version, other: False))
    assert caught.value.hint == f"run as root: apt-get update && {command}"


def test_without_package_lists_the_updates_complaint_is_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tools, "debian_indexes", lambda: "")
    apt = fake_root(tmp_path, "echo 'W: Could not connect to the mirror' >&2")
    apt.update()
    with pytest.raises(HpcstateError, match="Could not connect to the mirror"):
        host_packages.add_suite(apt, QEMU, lambda text: None)


def test_a_suite_that_apt_knows_is_not_added(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = "Debian Backports|bookworm-backports|main|http://mirror.example/debian/\n"
    monkeypatch.setattr(tools, "debian_indexes", lambda: known)
    said: list[str] = []
    host_packages.add_suite(fake_root(tmp_path, "exit 1"), QEMU, said.append)
    assert said == []


def test_a_missing_suite_is_added_after_saying_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = "Debian|bookworm|main|http://mirror.example/debian/\n"
    monkeypatch.setattr(tools, "debian_indexes", lambda: known)
    monkeypatch.setattr(host_packages, "SOURCES_FILE", tmp_path / "suite.sources")
    said: list[str] = []
    apt = fake_root(tmp_path, 'case "$*" in *update) exit 0 ;; *) exec "$@" ;; esac')
    host_packages.add_suite(apt, QEMU, said.append)
    assert "URIs: http://mirror.example/debian\n" in (tmp_path / "suite.sources").read_text(encoding="utf-8")
    assert [str(tmp_path / "suite.sources") in text for text in said] == [True]
