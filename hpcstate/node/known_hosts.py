"""known_hosts(5) of a cluster: which host key each address has to show, made of the keys below its secrets.

It is a derived file. `start` writes it as the cluster file has it, when nothing was in the way any more;
whoever opens a connection adds what is missing, `plan` and `status` too. So a command that was refused, with
a file of other addresses, shuts nobody out.
"""

from __future__ import annotations

from hpcstate.errors import from_os
from hpcstate.files import write_atomically
from hpcstate.model import Cluster
from hpcstate.node.secrets import close_key, host_key, known_hosts_line
from hpcstate.paths import ClusterPaths


def write_known_hosts(cluster: Cluster) -> None:
    """The file has the nodes of ``cluster`` and nobody else. Raises HpcstateError where a host key cannot be
    used, OSError where the file cannot be written."""
    at = ClusterPaths.of(cluster.name)
    known = "".join(
        known_hosts_line(f"{node.name},{node.address}", host_key(cluster, node.name).public)
        for node in cluster.nodes
    )
    if not at.known_hosts.is_file() or at.known_hosts.read_bytes() != known.encode():
        write_atomically(at.known_hosts, known, mode=0o600)
    close_key(at.known_hosts)


def complete_known_hosts(cluster: Cluster) -> None:
    """The file has each node of ``cluster`` that was given a host key; what else it knows stays. Nothing is
    written where nothing is missing. Raises HpcstateError where it cannot be."""
    at = ClusterPaths.of(cluster.name)
    lines = given(cluster)
    try:
        known = at.known_hosts.read_text(errors="replace") if at.known_hosts.is_file() else ""
        if (whole := completed(known, lines)) != known:
            write_atomically(at.known_hosts, whole, mode=0o600)
    except OSError as error:
        raise from_os(error) from error


def given(cluster: Cluster) -> list[str]:
    """A line for each node of ``cluster`` that was given a host key: what the nodes know of each other. Not
    what the file has, which may know more of another state of the cluster file. Raises HpcstateError where a
    key cannot be read."""
    at = ClusterPaths.of(cluster.name)
    lines = []
    try:
        for node in cluster.nodes:
            public = at.host_key(node.name).with_suffix(at.host_key(node.name).suffix + ".pub")
            words = public.read_text(encoding="utf-8", errors="replace").split() if public.is_file() else []
            if len(words) >= 2:
                lines.append(known_hosts_line(f"{node.name},{node.address}", f"{words[0]} {words[1]}"))
    except OSError as error:
        raise from_os(error) from error
    return lines


def completed(known: str, lines: list[str]) -> str:
    """The text ``known`` of a known_hosts with ``lines``, whose names and addresses then have no other key.
    Pure; ``known`` itself where it says so already."""
    wanted: dict[str, str] = {}
    for line in lines:
        hosts, _, key = line.strip().partition(" ")
        wanted.update(dict.fromkeys(hosts.split(","), key))
    has: dict[str, set[str]] = {}
    kept = []
    for line in known.splitlines():
        hosts, _, key = line.strip().partition(" ")
        for host in hosts.split(","):
            has.setdefault(host, set()).add(key)
        if others := [host for host in hosts.split(",") if host and host not in wanted]:
            kept.append(known_hosts_line(",".join(others), key))
    if all(has.get(host) == {key} for host, key in wanted.items()):
        return known
    return "".join([*lines, *kept])


def knows(known: str, host: str) -> bool:
    """Whether the text ``known`` of a known_hosts has a key for ``host``, a name or an address."""
    return any(host in line.split(" ")[0].split(",") for line in known.splitlines())
