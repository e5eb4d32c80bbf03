"""known_hosts follows the cluster file, and a file of other addresses shuts nobody out."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster
from hpcstate.node.known_hosts import complete_known_hosts, completed, given, knows, write_known_hosts
from hpcstate.node.secrets import ensure_secrets, new_key
from hpcstate.node.ssh import Live, NotLetInError, OtherHostKeyError, UnreachableError
from hpcstate.paths import ClusterPaths
from tests.unit.fake_live import TWO

A = "a,192.0.2.1 ssh-ed25519 AAAA\n"
B = "b,192.0.2.2 ssh-ed25519 BBBB\n"


@pytest.mark.parametrize(
    ("known", "lines", "expected"),
    [
        ("", [A, B], A + B),
        (A + B, [A], A + B),
        (A, [A, B], A + B),
        ("a,192.0.2.9 ssh-ed25519 AAAA\n", [A], A + "192.0.2.9 ssh-ed25519 AAAA\n"),
        ("a,192.0.2.1 ssh-ed25519 XXXX\n", [A], A),
        ("c,192.0.2.1 ssh-ed25519 AAAA\n", [A], A + "c ssh-ed25519 AAAA\n"),
        ("b,192.0.2.1 ssh-ed25519 BBBB\n", [A, B], A + B),
        (A + "x,192.0.2.1 ssh-ed25519 XXXX\n", [A], A + "x ssh-ed25519 XXXX\n"),
        ("\n\ufffd\n", [A], A + "\ufffd \n"),
        (B, [], B),
    ],
    ids=[
        *("none", "all there", "a new node", "an address of before", "another key", "another name"),
        *("the address of another", "two keys of one address", "no lines of ssh", "nothing wanted"),
    ],
)
def test_what_is_missing_is_added_and_an_address_has_one_key(
    known: str, lines: list[str], expected: str
) -> None:
    assert completed(known, lines) == expected
    assert completed(expected, lines) == expected


def moved(cluster: Cluster) -> Cluster:
    """The same cluster in another subnet."""
    nodes = (replace(node, address=IPv4Address(int(node.address) + 256)) for node in cluster.nodes)
    return replace(cluster, nodes=tuple(nodes))


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterPaths:
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    ensure_secrets(TWO)
    return ClusterPaths.of(TWO.name)


def test_both_files_of_one_cluster_know_their_nodes(at: ClusterPaths) -> None:
    write_known_hosts(TWO)
    first = at.known_hosts.read_text()
    complete_known_hosts(TWO)
    assert at.known_hosts.read_text() == first
    other = moved(TWO)
    complete_known_hosts(other)
    text = at.known_hosts.read_text()
    assert all(knows(text, str(node.address)) for node in (*TWO.nodes, *other.nodes))
    write_known_hosts(TWO)
    assert at.known_hosts.read_text() == first
    assert at.known_hosts.stat().st_mode & 0o777 == 0o600


def test_a_node_without_a_host_key_is_left_out_and_gets_none(at: ClusterPaths) -> None:
    for file in at.secrets.glob("host_key.compute-02*"):
        file.unlink()
    complete_known_hosts(TWO)
    assert at.known_hosts.read_text().count("ssh-ed25519") == 2
    assert not list(at.secrets.glob("host_key.compute-02*"))


def test_a_file_that_cannot_be_written_is_a_message(
    at: ClusterPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("hpcstate.node.known_hosts.write_atomically", full)
    with pytest.raises(HpcstateError, match="No space left"):
        complete_known_hosts(TWO)


def test_ssh_takes_what_is_written(at: ClusterPaths) -> None:
    write_known_hosts(TWO)
    node = TWO.workers[0]
    found = subprocess.run(
        ["ssh-keygen", "-F", str(node.address), "-f", at.known_hosts],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert new_key(at.host_key(node.name)).public in found


STRANGE = "Host key verification failed."


@pytest.mark.parametrize(
    ("stderr", "has_key", "error", "said"),
    [
        (STRANGE, True, OtherHostKeyError, "answers with another host key than compute-01 was given"),
        (STRANGE, False, UnreachableError, "there is no host key of compute-01"),
        (
            "admin@192.168.150.11: Permission denied (publickey).",
            True,
            NotLetInError,
            "does not let the project's key in",
        ),
    ],
)
def test_what_ssh_says_is_told_apart(
    stderr: str,
    has_key: bool,
    error: type[UnreachableError],
    said: str,
    at: ClusterPaths,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(f"#!/bin/sh\necho '{stderr}' >&2\nexit 255\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:/usr/bin:/bin")
    if not has_key:
        for file in at.secrets.glob("host_key.compute-01*"):
            file.unlink()
    with Live(TWO) as live, pytest.raises(UnreachableError, match=said) as caught:
        live.run("compute-01", "true")
    assert type(caught.value) is error
    assert "hpcstate start FILE" in caught.value.hint


def test_nodes_know_those_of_the_file_only(at: ClusterPaths) -> None:
    """A plan with other addresses, or a refused start, adds to the file here; no node hears of that."""
    write_known_hosts(TWO)
    here = at.known_hosts.read_text()
    other = replace(TWO, nodes=tuple(replace(node, address=node.address + 256) for node in TWO.nodes))
    complete_known_hosts(other)
    assert at.known_hosts.read_text() != here
    assert "".join(given(TWO)) == here
