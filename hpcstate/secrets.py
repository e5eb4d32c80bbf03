"""A cluster's secrets: generated once below build/<cluster>/secrets/, folder 0700, files 0600."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from hpcstate.model import Cluster
from hpcstate.paths import ClusterPaths
from hpcstate.ssh_keys import KeyPair, known_hosts_line, new_key
from hpcstate.store import write_atomically

MUNGE_KEY_BYTES = 1024
"""mungekey(8) takes 32 to 1024 bytes."""


def ensure_secrets(cluster: Cluster) -> None:
    """Make what is missing: the SSH user key, a host key for each node, known_hosts, the munge key."""
    at = ClusterPaths.of(cluster.name)
    at.secrets.mkdir(parents=True, exist_ok=True, mode=0o700)
    at.secrets.chmod(0o700)
    new_key(at.ssh_key)
    lines = [
        known_hosts_line(f"{node.name},{node.address}", host_key(cluster, node.name))
        for node in cluster.nodes
    ]
    known = "".join(lines)
    if not at.known_hosts.is_file() or at.known_hosts.read_text() != known:
        write_atomically(at.known_hosts, known, mode=0o600)
    if cluster.kind == "hpc":
        _ensure_random(at.munge_key, MUNGE_KEY_BYTES)


def host_key(cluster: Cluster, node_name: str) -> KeyPair:
    """The SSH host key of a node, generated at the first asking."""
    return new_key(ClusterPaths.of(cluster.name).host_key(node_name))


def _ensure_random(path: Path, size: int) -> None:
    if path.is_file() and path.stat().st_size == size:
        return
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(secrets.token_bytes(size))
