"""What a host must allow before anything is built: said by validate, and by up, start and plan on the way."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from hpcstate import paths, schema
from hpcstate.cli import main
from hpcstate.cluster import lifecycle, plan, plan_look, plan_text
from hpcstate.errors import HpcstateError, Problem, ProblemsError
from hpcstate.host import packages as host_packages
from hpcstate.hypervisor import fit as validate
from hpcstate.hypervisor import fit_host as validate_host
from hpcstate.hypervisor.connection import NetworkOfBridge, connect
from hpcstate.hypervisor.fit import HostState
from hpcstate.hypervisor.fit_host import (
    Bridges,
    HostAccess,
    findings,
    readable,
    reserve_mb,
    unreadable_for_qemu,
)
from hpcstate.hypervisor.lookup import subnets_of
from hpcstate.hypervisor.mark import Stranger
from hpcstate.hypervisor.routes import Route
from hpcstate.hypervisor.xml import cluster_uuid
from hpcstate.model import Cluster
from hpcstate.passthrough.vfio import hugepages_needed
from hpcstate.probe.hugepages import Hugepages
from hpcstate.tasks import cluster as tasks
from tests.unit.hypervisor.test_fit import HOST
from tests.unit.pci_hosts import host

PASSTHROUGH = paths.ROOT / "inventories" / "passthrough.yaml"
GPU = paths.ROOT / "inventories" / "gpu.yaml"


def found(access: HostAccess, memory_mb: int = 1 << 20, file: Path = GPU) -> list[Problem]:
    return list(findings(schema.load(file).clusters, access, memory_mb))


def test_who_may_not_use_libvirt_or_kvm_is_told_how(monkeypatch: pytest.MonkeyPatch) -> None:
    libvirt, kvm = found(HostAccess(user="ann", libvirt="the socket is for group libvirt only", kvm="no"))
    assert "ann may not use libvirt here" in libvirt.message
    assert libvirt.hint == "sudo usermod -aG libvirt ann, then log in again"
    assert "usermod -aG kvm ann" in kvm.hint
    assert not libvirt.is_warning and not kvm.is_warning


def test_a_port_of_this_host_that_is_taken_is_named_before_anything_is_built() -> None:
    taken = (".clusters.hpc.network.ports[0].host", "sshd listens on port 22 of the hypervisor", "another")
    (problem,) = found(HostAccess(ports=lambda _: [taken]))
    assert (problem.place, problem.message, problem.hint) == taken
    assert not problem.is_warning


def test_who_may_connect_but_not_manage_is_refused_by_polkit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian 12: the socket is open to all (SocketMode=0666), and libvirtd asks polkit."""
    socket, conf, programs = tmp_path / "socket", tmp_path / "libvirtd.conf", tmp_path / "bin"
    programs.mkdir()
    socket.touch()
    conf.write_text('#auth_unix_rw = "none"\n')
    pkcheck = programs / "pkcheck"
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for code, refused in ((0, False), (126, False), (1, True), (2, True)):
        pkcheck.write_text(f'#!/bin/sh\n[ "$2" = org.libvirt.unix.manage ] || exit 0\nexit {code}\n')
        pkcheck.chmod(0o755)
        assert bool(validate_host.libvirt_refused(socket, conf)) is refused
    assert "org.libvirt.unix.manage" in validate_host.libvirt_refused(socket, conf)
    assert validate_host.libvirt_refused(tmp_path / "none", conf) == ""
    conf.write_text('auth_unix_rw = "none"\n')
    assert validate_host.libvirt_refused(socket, conf) == ""
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "is for group" in validate_host.libvirt_refused(socket, conf)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert validate_host.libvirt_refused(socket, conf) == ""


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
        ({"virbr150"}, {"virbr150": NetworkOfBridge("somebody", "1")}, True),
        (set(), {"virbr150": NetworkOfBridge("somebody", "1", False)}, True),
        ({"virbr150"}, {}, True),
        ({"virbr150"}, None, False),
        ({"virbr150", "no bridge"}, None, True),
        ({"virbr150"}, {"virbr150": NetworkOfBridge("gpu", "OURS")}, None),
        (set(), {"virbr150": NetworkOfBridge("gpu", "OURS", False)}, None),
        ({"virbr150"}, {"virbr150": NetworkOfBridge("gpu", "OURS", False)}, True),
    ],
    ids=[
        "free",
        "free, libvirt silent",
        "of a network",
        "of a network that is off",
        "of the host",
        "of the host, libvirt silent",
        "no bridge at all, libvirt silent",
        "ours",
        "ours, off",
        "of the host, ours is off",
    ],
)
def test_a_bridge_of_somebody_else(
    interfaces: set[str], networks: dict[str, NetworkOfBridge] | None, error: bool | None
) -> None:
    (cluster,) = schema.load(GPU).clusters
    named = replace(cluster, network=replace(cluster.network, bridge="virbr150"))
    if networks and networks["virbr150"].uuid == "OURS":
        networks = {"virbr150": networks["virbr150"]._replace(uuid=cluster_uuid(cluster, "network"))}
    bridges = frozenset() if "no bridge" in interfaces else frozenset(interfaces)
    access = HostAccess(bridges=Bridges(frozenset(interfaces), bridges, networks))
    said = list(findings([named], access, 1 << 20))
    if error is None:
        assert said == []
    else:
        (only,) = said
        assert only.place == ".clusters.hpc.network.bridge"
        assert only.is_warning is not error


def test_strangers_and_a_damaged_owner_are_findings() -> None:
    (cluster,) = schema.load(GPU).clusters
    strangers = HostAccess(strangers=lambda _: [Stranger("domain", "gpu-controller", None)])
    (finding,) = findings([cluster], strangers, 1 << 20)
    assert (finding.place, finding.is_warning) == (".clusters.hpc.name", False)
    assert "domain gpu-controller: not made by hpcstate" in finding.message

    def damaged(_: Cluster) -> list[Stranger]:
        raise HpcstateError("this is no owner: a UUID is expected", where="secrets/owner", hint="put it back")

    (finding,) = findings([cluster], HostAccess(strangers=damaged), 1 << 20)
    assert (finding.message, finding.hint) == (
        "secrets/owner: this is no owner: a UUID is expected",
        "put it back",
    )


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
    conf, off, on, local = (tmp_path / name for name in ("qemu.conf", "off", "on", "local"))
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
        local.write_text(f"  # mine\n  {folder}/*.rom r,\n")
        assert unreadable_for_qemu(rom, conf, on, [tmp_path / "none", local]) == ""
        conf.write_text('user = "nobody"\nsecurity_driver = "none"\n')
        assert unreadable_for_qemu(rom, conf, on) == ""
        conf.write_text('#user = "root"\nuser = "nobody"\n')
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


def test_what_apparmor_lets_every_machine_read() -> None:
    """Lines of Debian 12's abstractions/libvirt-qemu."""
    patterns = list(
        readable(
            [
                "  @{PROC}/*/status r,\n  owner @{PROC}/*/auxv r,\n  /usr/share/vgabios/** r,\n",
                "  /usr/share/OVMF/** rk,\n  /etc/pki/libvirt{,-spice,-vnc}/* r,\n  /srv/a?.rom w,\n",
                '  deny /srv/** r,\n  # /srv/*.rom r,\n  "/opt/roms/*.rom" r,\n',
            ]
        )
    )
    may = {path for path in WHERE if any(pattern.fullmatch(path) for pattern in patterns)}
    assert may == {path for path, allowed in WHERE.items() if allowed}


WHERE = {
    "/usr/share/vgabios/a/b.rom": True,
    "/usr/share/OVMF/x": True,
    "/etc/pki/libvirt-vnc/x": True,
    "/etc/pki/libvirt-other/x": False,
    "/opt/roms/a.rom": True,
    "/opt/roms/b/a.rom": False,
    "/srv/a1.rom": False,
}

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
    assert "may not use libvirt" in plan_look._obstacles(schema.load(GPU), print)[0]


def test_nothing_is_built_while_the_host_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where doit goes on after an error, or builds several things at once: the tasks say so."""
    monkeypatch.setattr(tasks, "cluster_file", lambda: GPU)
    for task in (tasks.task_images_of_cluster(), tasks.task_containers_of_cluster()):
        assert task["task_dep"] == ["host"]


def running(*nodes: str) -> HostAccess:
    (cluster,) = schema.load(PASSTHROUGH).clusters
    return HostAccess(running=frozenset(cluster_uuid(cluster, name) for name in nodes))


def demanded(host: HostState, file: Path = PASSTHROUGH, only: Sequence[str] = ()) -> list[str]:
    """The errors, then the warnings."""
    said: list[str] = []
    try:
        validate.demand(schema.load(file), said.append, host, only=only)
    except ProblemsError as error:
        return [problem.message for problem in error.problems]
    return said


def test_what_runs_has_what_it_needs() -> None:
    """Its devices are held, its memory is pinned: the next `up` has nothing to say of that."""
    (cluster,) = schema.load(PASSTHROUGH).clusters
    names = [node.name for node in cluster.nodes]
    pinned = sum(node.memory_mb for node in cluster.nodes if node.passthrough)
    small = replace(HOST, memory_mb=pinned, pci=host((), {}))
    assert any("pin" in message for message in demanded(small))
    assert any("no PCI device" in message for message in demanded(small))
    assert demanded(replace(small, access=running(*names))) == []
    # One that is about to start counts together with those that have their memory already.
    rest = demanded(replace(small, access=running(*names[:-1])))
    assert any("pin" in message for message in rest)


def test_a_cluster_that_runs_is_stopped_by_nothing_but_libvirt() -> None:
    """A VPN came later, this user lost /dev/kvm: the nodes run all the same."""
    (cluster,) = schema.load(PASSTHROUGH).clusters
    on = running(*(node.name for node in cluster.nodes))
    vpn = (Route(cluster.network.subnet, "tun0"),)
    stranger = Bridges(frozenset(), frozenset(), {cluster.network.bridge: NetworkOfBridge("somebody", "1")})
    worse = replace(HOST, routes=vpn, access=replace(on, kvm="no", bridges=stranger))
    assert demanded(worse) == []
    assert len(demanded(replace(worse, access=replace(worse.access, running=frozenset())))) == 3
    (message,) = demanded(replace(worse, access=replace(worse.access, libvirt="no")))
    assert "may not use libvirt" in message


@pytest.mark.parametrize(
    ("subnet", "is_active", "warned"),
    [
        ("192.168.152.0/24", False, True),
        ("192.168.152.128/25", False, True),
        ("192.168.122.0/24", False, False),
        ("192.168.152.0/24", True, False),  # its route tells
    ],
)
def test_a_network_that_is_off_may_have_the_subnet(subnet: str, is_active: bool, warned: bool) -> None:
    (cluster,) = schema.load(GPU).clusters
    named = replace(cluster, network=replace(cluster.network, subnet=IPv4Network("192.168.152.0/24")))
    other = NetworkOfBridge("default", "1", is_active, (IPv4Network(subnet),))
    access = HostAccess(bridges=Bridges(frozenset(), frozenset(), {"virbr7": other}))
    problems = [p for p in validate_host.findings([named], access, 65536) if "default" in p.message]
    assert [problem.severity for problem in problems] == (["warning"] if warned else [])
    ours = other._replace(uuid=cluster_uuid(named, "network"))
    access = HostAccess(bridges=Bridges(frozenset(), frozenset(), {"virbr7": ours}))
    assert [p for p in validate_host.findings([named], access, 65536) if "default" in p.message] == []


@pytest.mark.parametrize(
    ("xml", "subnets"),
    [
        ("<network><name>a</name></network>", []),
        ("<network><ip address='10.1.2.1' netmask='255.255.254.0'/></network>", ["10.1.2.0/23"]),
        ("<network><ip address='10.1.2.1' prefix='24'/><ip family='ipv6' address='fd00::1' prefix='64'/>"
         "<ip family='ipv4' address='10.9.0.1'/></network>", ["10.1.2.0/24", "10.0.0.0/8"]),
    ],
)  # fmt: skip
def test_subnets_of_a_network(xml: str, subnets: list[str]) -> None:
    assert [str(subnet) for subnet in subnets_of(xml)] == subnets


def test_what_libvirt_says_runs() -> None:
    """libvirt's own test driver: one machine, which runs, and one network; asked read-only."""
    with connect("test:///default", read_only=True) as libvirt:
        (uuid,) = libvirt.running_uuids()
        assert libvirt.bridges()["virbr0"][::2] == ("default", True)
        assert libvirt.bridges()["virbr0"].subnets == (IPv4Network("192.168.122.0/24"),)
        assert libvirt.connection.lookupByUUIDString(uuid).name() == "test"


def test_only_the_nodes_that_are_started_are_looked_at() -> None:
    (cluster,) = schema.load(PASSTHROUGH).clusters
    bare = replace(HOST, pci=host((), {}))
    assert demanded(bare, only=[cluster.controller.name]) == []
    assert demanded(bare, only=[cluster.workers[0].name])


def with_pages(tmp_path: Path, total: int, free: int, **more: object) -> tuple[Path, HostState]:
    file = tmp_path / "my pages.yaml"
    file.write_text(
        PASSTHROUGH.read_text().replace(
            "enable_kvm: true\n", "enable_kvm: true\n        performance: {enable_hugepages: true}\n", 1
        )
    )
    hardware = replace(HOST.hardware, hugepages={"2M": Hugepages(total=total, free=free)}, **more)  # type: ignore[arg-type]
    return file, replace(HOST, hardware=hardware)


def test_huge_pages_that_others_have_stop_a_start_with_the_command(tmp_path: Path) -> None:
    file, on = with_pages(tmp_path, total=30000, free=10)
    (problem,) = validate.host_findings(schema.load(file), on)
    assert problem.severity == "warning"  # validate does not know whether the cluster itself has them
    with pytest.raises(ProblemsError) as caught:
        validate.demand(schema.load(file), print, on)
    (problem,) = caught.value.problems
    needed = hugepages_needed(schema.load(file).clusters)["2M"]
    path = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
    assert f"echo {30000 - 10 + needed} | sudo tee {path}" in problem.hint
    assert f"HPCSTATE_CLUSTER_FILE='{file}' pyinfra" in problem.hint
    names = [node.name for node in schema.load(file).clusters[0].nodes]
    assert demanded(replace(on, access=running(*names)), file) == []


def test_huge_pages_without_a_file_system_are_told_how_to_mount_it(tmp_path: Path) -> None:
    file, on = with_pages(tmp_path, total=30000, free=30000, mounted=frozenset({"1G"}))
    (message,) = demanded(on, file)
    assert "no hugetlbfs of 2M pages is mounted" in message
    file, on = with_pages(tmp_path, total=30000, free=30000, mounted=frozenset({"2M"}))
    assert demanded(on, file) == []


def test_a_device_that_another_took_the_place_of_stops_before_anything_is_built(tmp_path: Path) -> None:
    """The file says the address alone: what the first start found there counts."""
    file = tmp_path / "bare.yaml"
    text = PASSTHROUGH.read_text()
    file.write_text(re.sub(r"\n *(vendor_id|device_id):.*", "", text))
    assert demanded(HOST, file) == []
    moved = replace(HOST, claims=lambda _: {"0000:01:00.0": "10de:1111"})
    (message,) = demanded(moved, file)
    assert "0000:01:00.0 is 10de:2805 now, and not 10de:1111" in message
    assert demanded(moved, PASSTHROUGH) == []  # there the file says it, which counts for more


def test_plan_says_what_stands_in_the_way_also_where_libvirt_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: object) -> plan.Machines:
        raise HpcstateError("libvirt does not answer", where="qemu:///system")

    monkeypatch.setattr(validate, "host_state", lambda **_: REFUSING)
    monkeypatch.setattr(plan_look, "machines", refused)
    monkeypatch.setattr(plan_look, "_artifacts", lambda *_: [])
    description = schema.load(GPU)
    made = plan.plan_of(description, plan_look.look(description, print))
    assert "may not use libvirt" in made.obstacles[0]
    assert "libvirt does not answer" in made.unknown[0]
    assert plan_text.as_text(made).startswith("stands in the way:\n")


def test_warnings_do_not_stop_a_start_and_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    validate.demand(schema.load(GPU), said.append, replace(HOST, memory_mb=100))
    assert any("GiB of memory together" in line for line in said)


def test_this_host_is_looked_at_without_starting_anything() -> None:
    access = validate_host.look()
    assert access.user
    assert "lo" in access.bridges.interfaces


def test_what_validate_warns_of_is_said_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also `start`, `up` and `plan` tell of a key that does nothing: who never validates learns of it too."""
    file = tmp_path / "cluster.yaml"
    text = GPU.read_text().replace("    network:\n", "    network:\n      dhcp_range: 192.168.100.10-20\n", 1)
    file.write_text(text)
    description = schema.load(file)
    assert description.warnings
    said: list[str] = []
    monkeypatch.setattr(validate, "host_findings", lambda *_, **__: ())
    validate.demand(description, said.append, host=validate.host_state())
    assert any("network.dhcp_range" in line for line in said), said
