"""Nodes are tried against each other and the outside; the program that tries runs here for real."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcstate.cluster import reach
from hpcstate.errors import HpcstateError
from hpcstate.hypervisor.firewall import Firewall
from tests.unit.fake_live import a_cluster, a_node

NODES = [a_node("head", 10), a_node("compute-01", 11), a_node("compute-02", 12)]
CLUSTER = a_cluster(*NODES)
RULES = ("-P FORWARD DROP", f'libvirt_network guest: iif "{CLUSTER.network.bridge}" accept')
DOCKER = Firewall(rules=RULES, bridged=True, docker=True)


@pytest.fixture
def open_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def run(command: str, shell: str = "sh") -> str:
    return subprocess.run([shell, "-c", command], capture_output=True, text=True, check=True).stdout


def test_the_program_says_what_it_does_not_reach(open_port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closing:
        closed = closing.getsockname()[1]
    command = reach.command([("head", "127.0.0.1", open_port), ("compute-02", "127.0.0.1", closed)])
    assert reach.parse(run(command)) == ("compute-02",)
    assert reach.parse(run(command, "dash")) == ("compute-02",)


def test_what_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A DROP answers nothing: here a bash that waits stands for it."""
    monkeypatch.setattr(reach, "SECONDS", 1)
    (tmp_path / "bash").write_text("#!/bin/sh\nexec sleep 30\n")
    (tmp_path / "bash").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    begun = time.monotonic()
    assert reach.parse(run(reach.command([("head", "192.0.2.1", 22)]))) == ("head",)
    assert time.monotonic() - begun < 20


def test_a_node_without_bash_is_not_accused() -> None:
    command = reach.command([("head", "127.0.0.1", 1)]).replace("command -v bash", "command -v no-bash")
    assert run(command) == ""


def test_each_node_is_tried_by_few() -> None:
    tried = {name: [node.name for node in nodes] for name, nodes in reach.targets(NODES).items()}
    assert tried == {
        "head": ["compute-01"],
        "compute-01": ["head", "compute-02"],
        "compute-02": ["head"],
    }
    assert reach.targets(NODES[:1]) == {"head": ()}


def answering(*failing: tuple[str, str]) -> reach.Ask:
    """Nodes of which each pair of ``failing`` (from, to) does not get through."""

    def ask(name: str, command: str) -> str:
        asked = re.findall(r"; r (\S+) ", command.replace("}; r ", "}; ; r "))
        return "".join(f"failed {target}\n" for target in asked if (name, target) in failing)

    return ask


def demanded(ask: reach.Ask, seen: Firewall = DOCKER, outside: bool = False, **more: bool) -> list[str]:
    said: list[str] = []
    reach.demand(CLUSTER, NODES, ask, said.append, seen=lambda: seen, connect=lambda *_: outside, **more)
    return said


def test_nodes_that_reach_each_other_are_not_spoken_of() -> None:
    assert demanded(answering()) == []


def test_nodes_that_do_not_reach_each_other_stop_the_start() -> None:
    """moby#52612: before the deploy, which would end with "did not register"."""
    with pytest.raises(HpcstateError, match="bridge-nf-call-iptables is 1") as refused:
        demanded(answering(("compute-01", "head"), ("head", "compute-01")))
    assert "compute-01 to head" in str(refused.value.message) or "head to compute-01" in str(
        refused.value.message
    )
    assert refused.value.where == ".clusters.hpc.network"
    with pytest.raises(HpcstateError, match="do not reach each other"):
        demanded(answering(("compute-01", "compute-02")), local=False)


def test_the_outside_is_said_where_this_host_reaches_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Conf:
        @staticmethod
        def read_text() -> str:
            return "nameserver 127.0.0.53\nnameserver fe80::1\nnameserver 192.0.2.53\n"

    monkeypatch.setattr(reach, "RESOLV_CONF", Conf)
    blocked = answering(("compute-02", "192.0.2.53"))
    (said,) = demanded(blocked, outside=True)
    assert "do not reach the outside (compute-02 to 192.0.2.53)" in said
    assert "DOCKER-USER" in said
    assert demanded(blocked, outside=False) == []


def test_a_node_that_does_not_answer_is_no_matter_of_the_network() -> None:
    def ask(name: str, command: str) -> str:
        raise HpcstateError("it is slow", where=name)

    assert demanded(ask) == []


@pytest.mark.parametrize(
    ("conf", "address"),
    [
        ("nameserver 192.0.2.53\n", "192.0.2.53"),
        ("nameserver 127.0.0.53\nnameserver 198.51.100.7\n", "198.51.100.7"),
        (f"nameserver {CLUSTER.network.gateway}\n", None),
        ("# none\nnameserver strange\n", None),
        ("", None),
    ],
)
def test_what_counts_as_outside(conf: str, address: str | None) -> None:
    found = reach.outside(conf, lambda *_: True, CLUSTER)
    assert found == ((address, 53) if address else None)
    assert reach.outside(conf, lambda *_: False, CLUSTER) is None


def test_an_address_of_this_host_is_not_outside(open_port: int) -> None:
    assert reach.reaches("127.0.0.1", open_port) is False
