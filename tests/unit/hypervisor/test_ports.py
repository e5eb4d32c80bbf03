"""Ports of the hypervisor that lead to nodes: what is meant against what is there, and the program itself."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from hpcstate.errors import HpcstateError
from hpcstate.hypervisor import ports
from hpcstate.hypervisor.ports import Listener, Seen, Unit
from hpcstate.model import Cluster, PortForward
from hpcstate.programs import command
from hpcstate.run import Result
from tests.unit.fake_live import TWO

OWNER = "6d5e7c1e-0000-4000-8000-000000000001"
SSH = PortForward(2222, "controller")
WEB = PortForward(8888, "compute-01", 80, address=IPv4Address("192.0.2.1"))
PROGRAM = Path(ports.__file__).with_name("ports.sh")


def with_ports(*wanted: PortForward) -> Cluster:
    return replace(TWO, network=replace(TWO.network, ports=wanted))


def made(port: PortForward, *, on: bool = True, owner: str = OWNER) -> Unit:
    """The units of ``port`` as a start makes them, through what `look` prints of them."""
    cluster = with_ports(port)
    written = ports.texts(cluster, port, owner)
    mark = written[0].splitlines()[0].removeprefix("# hpcstate port: ")
    state = "on" if on else "off"
    (unit,) = ports.parse(
        f"manager systemd\nport {state} {ports._digest(written)} {ports.unit_name(cluster, port)} {mark}\n"
    ).units
    return unit


def said(cluster: Cluster, *units: Unit) -> list[str]:
    return [f"{row.name}: {row.found or '-'} {row.wanted or '-'} {row.impact}" for row in
            ports.differences_of(cluster, Seen(units), OWNER)]  # fmt: skip


def test_a_port_that_is_not_there_is_made() -> None:
    assert said(with_ports(SSH, WEB)) == [
        "port 2222: - controller:22 live",
        "port 192.0.2.1:8888: - compute-01:80 live",
    ]


def test_what_is_as_the_file_says_differs_in_nothing() -> None:
    assert said(with_ports(SSH, WEB), made(SSH), made(WEB)) == []


def test_a_port_that_leads_elsewhere_is_off_or_is_no_longer_wanted() -> None:
    assert said(with_ports(replace(SSH, node="compute-01")), made(SSH)) == [
        "port 2222: controller:22 compute-01:22 live"
    ]
    assert said(with_ports(SSH), made(SSH, on=False)) == ["port 2222: off controller:22 live"]
    assert said(TWO, made(SSH)) == ["port 2222: controller:22 - live"]
    edited = replace(made(SSH), digest="0")
    assert said(with_ports(SSH), edited) == ["port 2222: other units for controller:22 controller:22 live"]


def test_a_node_with_another_address_gets_its_port_back() -> None:
    moved = replace(TWO.nodes[0], address=IPv4Address("192.168.150.99"))
    cluster = replace(with_ports(SSH), nodes=(moved, *TWO.nodes[1:]))
    assert len(ports.differences_of(cluster, Seen((made(SSH),)), OWNER)) == 1


def test_units_of_others_are_no_difference() -> None:
    assert said(TWO, made(SSH, owner="another")) == []
    assert ports.differences_of(TWO, Seen((made(SSH),)), "") == []


def in_the_way(cluster: Cluster, seen: Seen) -> list[tuple[str, str]]:
    return [(place, text) for place, text, _ in ports.conflicts(cluster, seen, OWNER)]


PLACE = ".clusters.hpc.network.ports[0].host"


def test_what_listens_there_is_named() -> None:
    sshd = Seen(listeners=(Listener(IPv4Address("0.0.0.0"), 2222, "sshd"),))
    assert in_the_way(with_ports(SSH), sshd) == [(PLACE, "sshd listens on port 2222 of the hypervisor")]
    other = Seen(listeners=(Listener(IPv4Address("192.0.2.9"), 8888),))
    assert in_the_way(with_ports(WEB), other) == []
    same = Seen(listeners=(Listener(IPv4Address("192.0.2.1"), 8888),))
    assert in_the_way(with_ports(WEB), same)[0][1].startswith("a program listens on port 192.0.2.1:8888")


def test_our_own_port_is_in_nobodys_way() -> None:
    seen = Seen((made(SSH),), (Listener(IPv4Address("0.0.0.0"), 2222, "systemd"),))
    assert in_the_way(with_ports(SSH), seen) == []
    assert in_the_way(with_ports(replace(SSH, address=IPv4Address("192.0.2.1"))), seen) == []


def test_the_port_of_another_cluster_is_named() -> None:
    theirs = replace(made(SSH, owner="another"), cluster="b", name="hpcstate-port-b-2222")
    assert in_the_way(with_ports(SSH), Seen((theirs,))) == [
        (PLACE, "the port 2222 of the hypervisor belongs to the cluster b")
    ]
    assert in_the_way(with_ports(SSH), Seen((replace(theirs, on=False),))) == []


def test_a_unit_of_our_name_that_is_not_ours_stays() -> None:
    lost = made(SSH, owner="another", on=False)
    ((_, text),) = in_the_way(with_ports(SSH), Seen((lost,)))
    assert "made with other keys" in text
    ((_, text),) = in_the_way(with_ports(SSH), Seen((replace(lost, owner="", cluster=""),)))
    assert "not made by hpcstate" in text


def test_the_output_of_ss_is_read() -> None:
    # iproute2 6.1.0 (Debian 12): ss -H -l -n -t -p, the fields that ports.sh passes on.
    text = """manager systemd
port off 00 hpcstate-port-x-1
listen 0.0.0.0:22 users:(("sshd",pid=812,fd=3))
listen 127.0.0.53%lo:53
listen *:9090 users:(("prometheus",pid=1,fd=7),("x",pid=2,fd=7))
listen [::]:22 users:(("sshd",pid=812,fd=4))
listen [::1]:631
listen
"""
    seen = ports.parse(text)
    assert [(str(each.address), each.port, each.program) for each in seen.listeners] == [
        ("0.0.0.0", 22, "sshd"),
        ("127.0.0.53", 53, ""),
        ("0.0.0.0", 9090, "prometheus"),
        ("0.0.0.0", 22, "sshd"),
    ]
    assert (seen.units[0].owner, seen.units[0].on) == ("", False)


def test_the_way_to_the_hypervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(words: list[str], **_: object) -> Result:
        asked.append(words)
        return Result(tuple(words), 0, "", "")

    monkeypatch.setattr(ports, "run", run)
    assert ports.shell_of("test:///default", root=True) is None
    assert ports.shell_of("qemu+tls://far/system", root=False) is None
    far = ports.shell_of("qemu+ssh://ann@far:2200/system?keyfile=/k", root=True)
    assert far is not None
    far("echo 'a'")
    begins = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-p", "2200", "-i", "/k", "ann@far"]
    assert asked[0][:-1] == begins
    # What the far shell makes of it, with this user's id.
    done = subprocess.run(["sh", "-c", asked[0][-1]], capture_output=True, text=True, check=False)
    assert done.stdout == "a\n" or os.geteuid() != 0


def test_ports_behind_tls_are_refused_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ports.look(replace(TWO, uri="qemu+tls://far/system")) == Seen()
    with pytest.raises(HpcstateError, match="not reached"):
        ports.look(replace(with_ports(SSH), uri="qemu+tls://far/system"))


def test_bring_does_what_differs_and_only_that(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, ...]] = []
    monkeypatch.setattr(ports, "owner_of", lambda _: OWNER)
    monkeypatch.setattr(ports, "_as_root", lambda _, *words: done.append(words[:2]))
    monkeypatch.setattr(ports, "look", lambda _: Seen((made(SSH), made(WEB))))
    assert ports.bring(with_ports(SSH, WEB)) == []
    new = PortForward(80, "compute-02", 80)
    assert len(ports.bring(with_ports(SSH, new))) == 2
    assert done == [("remove", "hpcstate-port-test-8888-192.0.2.1"), ("put", "hpcstate-port-test-80")]
    assert ports.going(TWO) == ("hpcstate-port-test-2222", "hpcstate-port-test-8888-192.0.2.1")


def test_nothing_is_done_where_a_port_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen(listeners=(Listener(IPv4Address("0.0.0.0"), 2222, "sshd"),))
    monkeypatch.setattr(ports, "owner_of", lambda _: OWNER)
    monkeypatch.setattr(ports, "look", lambda _: seen)
    monkeypatch.setattr(ports, "_as_root", lambda *_: pytest.fail("it was touched"))
    with pytest.raises(HpcstateError, match="sshd listens on port 2222"):
        ports.bring(with_ports(SSH))


def run_program(root: Path, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    text = command(PROGRAM, arguments=arguments, ROOT=str(root))
    env = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}"}
    return subprocess.run(
        ["sh", "-c", text], capture_output=True, text=True, check=False, env=env, timeout=60
    )


def test_the_program_with_systemd(tmp_path: Path) -> None:
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "systemctl").write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/asked\n')
    (bin_ / "systemctl").chmod(0o755)
    cluster = with_ports(SSH)
    name, written = ports.unit_name(cluster, SSH), ports.texts(cluster, SSH, OWNER)
    foreign = tmp_path / "etc/systemd/system/other.socket"
    foreign.touch()
    done = run_program(tmp_path, "put", name, *written, "0.0.0.0:2222", "192.168.150.10:22", path=str(bin_))
    assert done.returncode == 0, done.stderr
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[-2:] == ["daemon-reload", f"enable --quiet --now {name}.socket"]
    seen = ports.parse(run_program(tmp_path, "look", path=str(bin_)).stdout)
    assert seen.units == (made(SSH),)
    assert run_program(tmp_path, "remove", name, path=str(bin_)).returncode == 0
    assert f"disable --quiet --now {name}.socket" in (tmp_path / "asked").read_text()
    assert list((tmp_path / "etc/systemd/system").iterdir()) == [foreign]


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="Debian's package systemd")
def test_the_program_without_systemd_leads_a_connection_to_the_node(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as node, socket.create_server(("127.0.0.1", 0)) as free:
        target, port = f"127.0.0.1:{node.getsockname()[1]}", free.getsockname()[1]
        free.close()
        listen = f"127.0.0.1:{port}"
        done = run_program(tmp_path, "put", "hpcstate-port-a-1", "s\n", "t\n", listen, target)
        assert done.returncode == 0, done.stderr
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
                node.settimeout(30)
                accepted, _ = node.accept()
                accepted.sendall(b"node")
                client.settimeout(30)
                assert client.recv(4) == b"node"
                accepted.close()
            taken = run_program(tmp_path, "put", "hpcstate-port-a-2", "s\n", "t\n", listen, target)
            assert taken.returncode == 1 and "in use" in taken.stderr
            assert ports.parse(run_program(tmp_path, "look").stdout).units[0].on
        finally:
            run_program(tmp_path, "remove", "hpcstate-port-a-1")
            run_program(tmp_path, "remove", "hpcstate-port-a-2")
        assert ports.parse(run_program(tmp_path, "look").stdout).units == ()


DNS = PortForward(5353, "compute-02", 53, "udp")


def test_a_port_of_udp_is_no_port_of_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    dns = with_ports(DNS)
    assert said(dns, made(DNS)) == []
    assert said(dns) == ["port 5353/udp: - compute-02:53 live"]
    tcp = Seen(listeners=(Listener(IPv4Address("0.0.0.0"), 5353, "web"),))
    assert in_the_way(dns, tcp) == []
    udp = ports.parse('listen-udp 0.0.0.0:5353 users:(("avahi-daemon",pid=1,fd=3))\n')
    assert in_the_way(dns, udp) == [(PLACE, "avahi-daemon listens on port 5353/udp of the hypervisor")]
    assert in_the_way(with_ports(PortForward(5353, "compute-02", 53)), udp) == []
    same = PortForward(5353, "compute-02", 80)
    assert ports.unit_name(dns, same) != ports.unit_name(dns, DNS)


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="Debian's package systemd")
def test_datagrams_go_to_the_node_and_answers_back_to_who_asked(tmp_path: Path) -> None:
    relay = Path(ports.__file__).with_name("ports_udp.py").read_text()
    kind = (socket.AF_INET, socket.SOCK_DGRAM)
    with socket.socket(*kind) as node, socket.socket(*kind) as a, socket.socket(*kind) as b:
        for each in (node, a, b):
            each.bind(("127.0.0.1", 0))
            each.settimeout(30)
        with socket.socket(*kind) as free:
            free.bind(("0.0.0.0", 0))
            port = free.getsockname()[1]
        target = f"127.0.0.1:{node.getsockname()[1]}"
        done = run_program(
            tmp_path, "put", "hpcstate-port-a-1-udp", "s\n", "t\n", f"0.0.0.0:{port}", target, relay
        )
        assert done.returncode == 0, done.stderr
        try:
            # 127.0.0.2 is the host's too: the answer has to come from where the question went.
            a.connect(("127.0.0.2", port))
            b.connect(("127.0.0.1", port))
            for number in range(3):
                for client, name in ((a, b"a"), (b, b"b")):
                    client.send(name + bytes([number]))
                questions = dict(node.recvfrom(100) for _ in range(2))
                for question, address in questions.items():
                    node.sendto(b"re:" + question, address)
                assert a.recv(100) == b"re:a" + bytes([number])
                assert b.recv(100) == b"re:b" + bytes([number])
            assert ports.parse(run_program(tmp_path, "look").stdout).units[0].on
        finally:
            run_program(tmp_path, "remove", "hpcstate-port-a-1-udp")
        assert ports.parse(run_program(tmp_path, "look").stdout).units == ()
        assert list((tmp_path / "run/hpcstate/ports").iterdir()) == []
